package verifier_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"otpgate/internal/store"
	"otpgate/verifier"
)

// The longest reason that is allowed is allowed with every step, and stands in the
// audit log whole.
func TestLongestReason(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	longest := strings.Repeat("x", verifier.MaxReason)
	for _, step := range []func(by verifier.By) error{
		func(by verifier.By) error { _, _, err := g.Suspend(t.Context(), by, "T1"); return err },
		func(by verifier.By) error { _, _, err := g.Resume(t.Context(), by, "T1"); return err },
		func(by verifier.By) error {
			_, _, err := g.MarkUnusable(t.Context(), by, "T1", verifier.CauseBatteryFlat)
			return err
		},
	} {
		g.turnedDown(step(because(longest+"x")), "901 bytes; 900 are allowed")
		g.must(step(because(longest)))
		if e := g.log.last(); !strings.HasSuffix(e.Detail, longest) || len(e.Detail) > 1024 {
			t.Errorf("%s: the detail is %q", e.Event, e.Detail)
		}
	}
	if info, err := g.Token(t.Context(), "T1"); err != nil || info.Reason != "battery flat; "+longest {
		t.Errorf("%+v, %v", info.Token, err)
	}
}

// Whether there was a lock is said by the step that opens it.
func TestUnlockSaysWhetherThereWasALock(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	for _, locked := range []bool{false, true, false} {
		for range 10 {
			if locked {
				_, err := g.try("hanako", g.wrong("T1"))
				g.must(err)
			}
		}
		was, _, err := g.UnlockUser(t.Context(), because(""), "retail", "hanako")
		if err != nil || was != locked {
			t.Errorf("locked %v: %v, %v", locked, was, err)
		}
	}
}

// A list reads each record once.
func TestListsReadEachRecordOnce(t *testing.T) {
	g := newGate(t)
	for n := range 3 {
		g.newToken(fmt.Sprintf("user%d", n), fileSerial(n))
	}
	gets := &gettingStore{Records: g.Records, prefixes: []string{store.Prefix("user"), store.Prefix("token")}}
	g.Records = gets
	seen := 0
	g.must(g.Users(t.Context(), "retail", func(u verifier.User) error {
		if u.Name != "" {
			seen++
		}
		return nil
	}))
	g.must(g.Tokens(t.Context(), verifier.TokenFilter{}, func(i verifier.TokenInfo) error {
		if i.Serial != "" {
			seen++
		}
		return nil
	}))
	if seen != 6 || gets.n != 0 {
		t.Errorf("%d records are listed, and %d got beside", seen, gets.n)
	}
}

// gettingStore counts the records with some prefixes that views get by their key.
type gettingStore struct {
	store.Records
	prefixes []string
	n        int
}

func (s *gettingStore) View(ctx context.Context, fn func(store.Reader) error) error {
	return s.Records.View(ctx, func(r store.Reader) error { return fn(gettingReader{r, s}) })
}

type gettingReader struct {
	store.Reader
	store *gettingStore
}

func (r gettingReader) Get(key string) ([]byte, error) {
	for _, p := range r.store.prefixes {
		if strings.HasPrefix(key, p) {
			r.store.n++
		}
	}
	return r.Reader.Get(key)
}
