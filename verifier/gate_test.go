package verifier_test

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/internal/store"
	"otpgate/verifier"
)

func TestACodeIsAcceptedOnce(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	code := g.code("T1", 0)

	g.expect("hanako", code, verifier.Accepted)
	g.expect("hanako", code, verifier.Replayed)
	g.expect("hanako", code, verifier.Replayed)
	if a := g.account("hanako"); a.Failures != 0 || a.Tokens[0].Failures != 0 {
		t.Errorf("replays were counted: user %d, token %d", a.Failures, a.Tokens[0].Failures)
	}

	g.advance(time.Hour)
	g.expect("hanako", code, verifier.Replayed) // long out of the window, still known as used
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
}

func TestTheWindowOfANewToken(t *testing.T) {
	for offset, want := range map[int64]verifier.Outcome{
		-200: verifier.Wrong, -4: verifier.NextCode, -1: verifier.Accepted, 0: verifier.Accepted, 1: verifier.Accepted,
		4: verifier.NextCode, 200: verifier.Wrong,
	} {
		g := newGate(t)
		g.newToken("hanako", "T1")
		g.expect("hanako", g.code("T1", offset), want)
	}
}

func TestAnEarlierStepThanTheLastIsRefused(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	earlier := g.code("T1", 0)
	g.expect("hanako", g.code("T1", 1), verifier.Accepted)
	g.expect("hanako", earlier, verifier.Replayed)
}

func TestPeoplesKeyboardsAreUnderstood(t *testing.T) {
	fullWidth := func(s string) string {
		return strings.Map(func(r rune) rune { return r - '0' + '０' }, s)
	}
	for name, typed := range map[string]func(string) string{
		"full width": fullWidth,
		"grouped":    func(s string) string { return " " + s[:3] + " " + s[3:] + "\u3000" },
		"hyphen":     func(s string) string { return s[:3] + "-" + s[3:] },
		"long vowel": func(s string) string { return s[:3] + "ー" + s[3:] }, // the hyphen's key in kana mode
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.newToken("hanako", "T1")
			g.expect("hanako", typed(g.code("T1", 0)), verifier.Accepted)
		})
	}
	g := newGate(t)
	g.newToken("hanako", "T1")
	code := g.code("T1", 0)
	for _, typed := range []string{"", "0" + code, code + "0", code[:5], code + "\x00", "+" + code, code[:5] + "x"} {
		g.expect("hanako", typed, verifier.Wrong)
	}
}

func TestTenWrongInARowLockUserAndToken(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	for left := 9; left >= 1; left-- {
		r := g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		if r.Locked || r.TriesLeft != left {
			t.Fatalf("after a wrong code: locked %v, %d left; want %d left", r.Locked, r.TriesLeft, left)
		}
	}
	if r := g.expect("hanako", g.wrong("T1"), verifier.Wrong); !r.Locked || r.TriesLeft != 0 {
		t.Fatalf("the tenth wrong code: locked %v, %d left", r.Locked, r.TriesLeft)
	}
	if r := g.expect("hanako", g.code("T1", 0), verifier.Locked); !r.Locked {
		t.Error("a right code at a locked user isn't answered as locked")
	}
	a := g.account("hanako")
	if a.LockedAt.IsZero() || a.Tokens[0].LockedAt.IsZero() || a.Service != verifier.ServiceLocked {
		t.Errorf("user locked %v, token locked %v, service %s", a.LockedAt, a.Tokens[0].LockedAt, a.Service)
	}
	g.advance(100 * 24 * time.Hour) // the realm has no timer
	g.expect("hanako", g.code("T1", 0), verifier.Locked)
}

func TestARightCodeEndsTheRow(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	for range 3 {
		for range 9 {
			g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		}
		g.advance(time.Hour)
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	}
}

func TestWhatOpensALock(t *testing.T) {
	lock := func(t *testing.T) *gate {
		g := newGate(t)
		g.newToken("hanako", "T1")
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		for range 10 {
			g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		}
		return g
	}
	t.Run("unlock", func(t *testing.T) {
		g := lock(t)
		used := g.code("T1", 0)
		g.unlock("hanako")
		g.expect("hanako", used, verifier.Replayed) // opening a lock doesn't give a used code back
		g.advance(time.Minute)
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	})
	t.Run("suspend and resume", func(t *testing.T) {
		g := lock(t)
		used := g.code("T1", 0)
		g.step(g.Suspend(t.Context(), because("locked"), "T1"))
		g.step(g.Resume(t.Context(), because("form 7"), "T1"))
		g.expect("hanako", used, verifier.Replayed)
		g.advance(time.Minute)
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	})
	t.Run("time, where the realm says so", func(t *testing.T) {
		g := lock(t)
		realm := g.Realms["retail"]
		realm.Lockout.UnlockAfter = 30 * time.Minute
		g.Realms["retail"] = realm
		g.advance(30*time.Minute - time.Second)
		g.expect("hanako", g.code("T1", 0), verifier.Locked)
		g.advance(time.Second)
		if r := g.expect("hanako", g.wrong("T1"), verifier.Wrong); r.TriesLeft != 9 {
			t.Errorf("%d tries left after the lock opened and one wrong", r.TriesLeft)
		}
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	})
}

func TestParallelUsesOfOneCode(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	counts := g.parallel("hanako", 200, func(int) string { return g.code("T1", 0) })
	if want := map[verifier.Outcome]int{verifier.Accepted: 1, verifier.Replayed: 199}; !cmp.Equal(counts, want) {
		t.Errorf("outcomes %v, want %v", counts, want)
	}
}

func TestParallelGuessing(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	wrong := g.wrong("T1")
	counts := g.parallel("hanako", 200, func(int) string { return wrong })
	if want := map[verifier.Outcome]int{verifier.Wrong: 10, verifier.Locked: 190}; !cmp.Equal(counts, want) {
		t.Errorf("outcomes %v, want %v", counts, want)
	}
	g.expect("hanako", g.code("T1", 0), verifier.Locked)
}

// A guesser who asks about somebody who can't pass learns nothing from the
// work: as many candidates are compared, and something is written.
func TestSameWorkWhoeverIsAsked(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.addUser("bare")
	g.newToken("suspended", "T2")
	g.step(g.Suspend(t.Context(), because("lost"), "T2"))
	g.addUser("fresh")
	g.create(verifier.NewToken{Realm: "retail", User: "fresh", Serial: "T3"})
	g.newToken("released", "T4")
	g.step(g.Release(t.Context(), because("left"), "T4"))

	commits := &countingStore{Records: g.Records}
	g.Records = commits
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	usual := 0
	if _, err := g.Verify(t.Context(), verifier.Attempt{
		Realm: "retail", User: "hanako", Match: func(string) bool { usual++; return false },
	}); err != nil {
		t.Fatal(err)
	}
	for user, want := range map[string]verifier.Outcome{
		"hanako": verifier.Wrong, "nobody": verifier.NoUser, "bare": verifier.NoToken, "suspended": verifier.Suspended,
		"fresh": verifier.NotInService, "released": verifier.NoToken,
		"nul\x00byte": verifier.NoUser, "": verifier.NoUser, strings.Repeat("x", 300): verifier.NoUser,
	} {
		compared := 0
		commits.writes = 0
		r, err := g.Verify(t.Context(), verifier.Attempt{
			Realm: "retail", User: user, Door: "test",
			Match: func(string) bool { compared++; return false },
		})
		if err != nil || r.Outcome != want || compared < usual*3/4 || compared > usual*2 || commits.writes == 0 {
			t.Errorf("%.20q: %v, %v, %d compared, %d written; want %v, about %d compared", user, r.Outcome, err, compared, commits.writes, want, usual)
		}
	}
	for serial, user := range map[string]string{"T2": "suspended", "T3": "fresh"} {
		if r, err := g.try(user, g.code(serial, 0)); err != nil || r.Outcome == verifier.Accepted {
			t.Errorf("right code of %s: %v, %v", user, r.Outcome, err)
		}
	}
}

// Who wrote a realm that the client doesn't have is told so in the audit log, and
// whoever has an @ in the name isn't.
func TestAnotherRealmInTheName(t *testing.T) {
	g := newGate(t)
	for user, hint := range map[string]bool{
		"taro@STAFF": true, `Staff\taro`: true, "taro@example.com": false, "staff": false, "taro@retail": false,
	} {
		g.expect(user, "123456", verifier.NoUser)
		if detail := g.log.last().Detail; strings.Contains(detail, "the name has realm staff in it") != hint {
			t.Errorf("%s: %s", user, detail)
		}
	}
}

func TestTwoTokensOfOneUser(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2", InService: true})
	for range 9 {
		g.expect("hanako", g.wrong("T1", "T2"), verifier.Wrong)
	}
	if r := g.expect("hanako", g.code("T1", 0), verifier.Accepted); r.Serial != "T1" {
		t.Errorf("accepted %s, want T1", r.Serial)
	}
	// That ended the row of T2 as well: it doesn't lock in the shadow of T1.
	for range 9 {
		g.expect("hanako", g.wrong("T1", "T2"), verifier.Wrong)
	}
	if r := g.expect("hanako", g.code("T2", 0), verifier.Accepted); r.Serial != "T2" {
		t.Errorf("accepted %s, want T2", r.Serial)
	}
	// The tenth in a row locks the user, and with the user every token.
	for range 10 {
		g.expect("hanako", g.wrong("T1", "T2"), verifier.Wrong)
	}
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T3", InService: true})
	g.advance(time.Minute)
	for _, serial := range []string{"T1", "T2", "T3"} {
		g.expect("hanako", g.code(serial, 0), verifier.Locked)
	}
}

func TestOtherRealmsAreOtherPeople(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	code := g.code("T1", 0)
	r, err := g.Verify(t.Context(), verifier.Attempt{Realm: "staff", User: "hanako", Match: verifier.Typed(code)})
	if err != nil || r.Outcome != verifier.NoUser {
		t.Errorf("in another realm: %v, %v", r.Outcome, err)
	}
	_, err = g.Verify(t.Context(), verifier.Attempt{Realm: "nowhere", User: "hanako", Match: verifier.Typed(code)})
	if !errors.Is(err, verifier.ErrNoDecision) {
		t.Errorf("in no realm: %v", err)
	}
	g.expect("hanako", code, verifier.Accepted)
}

func TestATokenSuspendedMeanwhileIsNotAccepted(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	code := g.code("T1", 0)
	records := g.Records
	g.Records = &hookedStore{Records: records, beforeUpdate: func(h *hookedStore) {
		h.beforeUpdate = nil
		g.step(g.Suspend(t.Context(), because("stolen"), "T1"))
	}}
	g.expect("hanako", code, verifier.Suspended)
}

func TestNoDecisionWhenSomethingFails(t *testing.T) {
	broken := errors.New("disk on fire")
	t.Run("store", func(t *testing.T) {
		g := newGate(t)
		g.newToken("hanako", "T1")
		g.Records = &hookedStore{Records: g.Records, fail: broken}
		if r, err := g.try("hanako", g.code("T1", 0)); !errors.Is(err, verifier.ErrNoDecision) || !errors.Is(err, broken) || !cmp.Equal(r, verifier.Result{}) {
			t.Errorf("%+v, %v", r, err)
		}
	})
	t.Run("audit log", func(t *testing.T) {
		g := newGate(t)
		g.newToken("hanako", "T1")
		code := g.code("T1", 0)
		g.log.fail = broken
		if r, err := g.try("hanako", code); !errors.Is(err, verifier.ErrNoDecision) || !cmp.Equal(r, verifier.Result{}) {
			t.Errorf("%+v, %v", r, err)
		}
		g.log.fail = nil
		g.expect("hanako", code, verifier.Replayed) // used up all the same
	})
	t.Run("seal", func(t *testing.T) {
		g := newGate(t)
		g.newToken("hanako", "T1")
		g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
			b, err := tx.Get(store.Key("token", "T1"))
			if err != nil {
				return err
			}
			if err := tx.Put(store.Key("usertoken", "retail", "hanako", "T2"), []byte{1}); err != nil {
				return err
			}
			// T1's sealed key, moved to another record
			return tx.Put(store.Key("token", "T2"), []byte(strings.Replace(string(b), `"T1"`, `"T2"`, 1)))
		}))
		if _, err := g.try("hanako", "000000"); !errors.Is(err, verifier.ErrNoDecision) {
			t.Errorf("a key moved to another token: %v", err)
		}
	})
	// Who can write to the database, but has no master key, is nobody else.
	for name, forge := range map[string]func(record string) string{
		"someone else's index": func(record string) string { return record },
		"someone else's token": func(record string) string { return strings.Replace(record, `"thief"`, `"hanako"`, 1) },
		"no digits":            func(record string) string { return strings.Replace(record, `"digits":6`, `"digits":0`, 1) },
		"no period":            func(record string) string { return strings.Replace(record, `"period":60`, `"period":0`, 1) },
		"the first layout":     func(record string) string { return strings.Replace(record, `"v":2`, `"v":1`, 1) },
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.newToken("thief", "T9")
			g.addUser("hanako")
			user := "thief"
			g.must(g.Records.Update(t.Context(), func(tx store.Txn) error {
				b, err := tx.Get(store.Key("token", "T9"))
				if err != nil {
					return err
				}
				if strings.HasPrefix(name, "someone") {
					user = "hanako"
					if err := tx.Put(store.Key("usertoken", "retail", "hanako", "T9"), []byte{1}); err != nil {
						return err
					}
				}
				return tx.Put(store.Key("token", "T9"), []byte(forge(string(b))))
			}))
			for _, typed := range []string{g.code("T9", 0), "-"} {
				if r, err := g.try(user, typed); !errors.Is(err, verifier.ErrNoDecision) {
					t.Errorf("%q: %v, %v", typed, r.Outcome, err)
				}
			}
		})
	}
	t.Run("caller gone", func(t *testing.T) {
		g := newGate(t)
		g.newToken("hanako", "T1")
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := g.Verify(ctx, verifier.Attempt{Realm: "retail", User: "hanako", Match: verifier.Typed("1")}); !errors.Is(err, verifier.ErrNoDecision) {
			t.Errorf("%v", err)
		}
	})
}

func TestEveryTryIsInTheAuditLog(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.log.entries = nil
	code, wrong := g.code("T1", 0), g.wrong("T1")
	g.expect("hanako", code, verifier.Accepted)
	g.expect("hanako", code, verifier.Replayed)
	g.expect("hanako", wrong, verifier.Wrong)
	g.expect("nobody", wrong, verifier.NoUser)
	var got []string
	for _, e := range g.log.entries {
		got = append(got, strings.Join([]string{e.Event, e.Outcome, e.Realm, e.User, e.Serial, e.Door, e.Client}, " "))
		if strings.Contains(e.Detail, code) || strings.Contains(e.Detail, wrong) {
			t.Errorf("a code stands in the log: %q", e.Detail)
		}
	}
	want := []string{
		"verify accepted retail hanako T1 test peer",
		"verify replayed retail hanako  test peer",
		"verify wrong retail hanako T1 test peer",
		"verify no_user retail nobody  test peer",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// Counters, lock and last step are what they were after the file is opened
// again.
func TestStateOutlivesAReopen(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	code := g.code("T1", 0)
	g.expect("hanako", code, verifier.Accepted)
	for range 4 {
		g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	}
	g.reopen()
	g.expect("hanako", code, verifier.Replayed)
	if r := g.expect("hanako", g.wrong("T1"), verifier.Wrong); r.TriesLeft != 5 {
		t.Errorf("%d tries left, want 5", r.TriesLeft)
	}
}

func (g *gate) parallel(user string, n int, code func(i int) string) map[verifier.Outcome]int {
	var mu sync.Mutex
	var wg sync.WaitGroup
	counts := map[verifier.Outcome]int{}
	start := make(chan struct{})
	for i := range n {
		typed := code(i)
		wg.Go(func() {
			<-start
			r, err := g.try(user, typed)
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				g.t.Error(err)
			}
			counts[r.Outcome]++
		})
	}
	close(start)
	wg.Wait()
	return counts
}
