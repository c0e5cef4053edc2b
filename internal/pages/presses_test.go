package pages

import (
	"fmt"
	"testing"
	"time"
)

// Above the bound every press is a try of its own, and room comes back with time.
func TestPressesAreBounded(t *testing.T) {
	var s presses
	now := start
	for i := range maxPresses + 10 {
		key := keyOfPress("r1", fmt.Sprint(i))
		one, first := s.enter(key, now)
		if !first {
			t.Fatalf("press %d isn't the first of its kind", i)
		}
		s.answer(key, one, verdict{known: true, why: slipRefused}, now)
	}
	if len(s.byKey) != maxPresses || len(s.order) != maxPresses {
		t.Errorf("%d and %d are kept, want %d", len(s.byKey), len(s.order), maxPresses)
	}
	if _, first := s.enter(keyOfPress("r1", "0"), now.Add(pressLife-time.Millisecond)); first {
		t.Error("forgotten before its time")
	}
	if _, first := s.enter(keyOfPress("r1", "0"), now.Add(pressLife)); !first || len(s.byKey) != 1 || len(s.order) != 0 {
		t.Errorf("%v later: %d and %d are kept", pressLife, len(s.byKey), len(s.order))
	}
}

// Two requests of one customer, or two customers, share nothing.
func TestPressesAreOfOneRequest(t *testing.T) {
	if keyOfPress("r1", code) == keyOfPress("r2", code) || keyOfPress("r1", code) == keyOfPress("r1", "287083") {
		t.Error("two kinds of press have one key")
	}
}
