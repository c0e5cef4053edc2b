package verifier

import (
	"context"
	"errors"
	"runtime"
	"testing"
	"testing/synctest"
	"time"
)

// However many PINs come at once, no more are hashed at once than there are cores; who waits, waits
// no longer than the door does.
func TestHashesAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var slots hashSlots
		var give []func()
		for range min(maxHashes, runtime.GOMAXPROCS(0)) {
			release, err := slots.take(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			give = append(give, release)
		}
		begun := time.Now()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
		defer cancel()
		if _, err := slots.take(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(begun) != 3*time.Second {
			t.Errorf("one too many: %v after %v", err, time.Since(begun))
		}
		time.AfterFunc(time.Second, give[0])
		if _, err := slots.take(t.Context()); err != nil || time.Since(begun) != 4*time.Second {
			t.Errorf("a slot that is given back: %v after %v", err, time.Since(begun))
		}
	})
}
