package verifier_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"otpgate/internal/store"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// A clock that has run off: the first right code wants the next one, and only
// the two together count.
func TestNextCodeIsWanted(t *testing.T) {
	const off = 20 // minutes
	for name, c := range map[string]struct {
		after  time.Duration
		offset int64
		want   verifier.Outcome
	}{
		"the next code":           {time.Minute, off, verifier.Accepted},
		"the one after it":        {2 * time.Minute, off, verifier.Accepted},
		"the third":               {3 * time.Minute, off, verifier.NextCode},
		"in time, though late":    {3 * time.Minute, off - 1, verifier.Accepted},
		"too late":                {3*time.Minute + time.Second, off - 2, verifier.NextCode},
		"the same again":          {10 * time.Second, off, verifier.NextCode},
		"a code of another place": {time.Minute, off + 30, verifier.NextCode},
	} {
		t.Run(name, func(t *testing.T) {
			g := newGate(t)
			g.newToken("hanako", "T1")
			if r := g.expect("hanako", g.code("T1", off), verifier.NextCode); r.TriesLeft != 9 {
				t.Errorf("%d tries left: the first code of a pair counts as a failure", r.TriesLeft)
			}
			g.advance(c.after)
			g.expect("hanako", g.code("T1", c.offset), c.want)
		})
	}
}

func TestAResynchronisedTokenIsLearnt(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	first := g.code("T1", 20)
	g.expect("hanako", first, verifier.NextCode)
	g.advance(time.Minute)
	second := g.code("T1", 20)
	g.expect("hanako", second, verifier.Accepted)
	if a := g.account("hanako"); a.Failures != 0 {
		t.Errorf("%d failures after the pair was complete", a.Failures)
	}
	// The pair again: CVE-2019-12887.
	g.expect("hanako", second, verifier.Replayed)
	if r, _ := g.try("hanako", first); r.Outcome == verifier.Accepted {
		t.Error("the first code of the pair was accepted afterwards")
	}
	g.advance(24 * time.Hour)
	g.expect("hanako", g.code("T1", 20), verifier.Accepted) // at once: its clock is known now
	g.expect("hanako", g.code("T1", 0), verifier.Wrong)     // far below the last step
}

// The next code must come in the same log-in, if the door can tell them apart.
func TestNextCodeOfAnotherLogin(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	try := func(login string, code string) verifier.Outcome {
		r, err := g.Verify(t.Context(), verifier.Attempt{Realm: "retail", User: "hanako", Match: verifier.Typed(code), Door: "oidc", Client: "portal", Login: login})
		g.must(err)
		return r.Outcome
	}
	if got := try("a", g.code("T1", 20)); got != verifier.NextCode {
		t.Fatal(got)
	}
	g.advance(time.Minute)
	if got := try("b", g.code("T1", 20)); got == verifier.Accepted {
		t.Error("another log-in completed the pair")
	}
}

// multiOTP: "code code" opened a locked token.
func TestARightPairDoesNotOpenALock(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	for range 9 {
		g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	}
	if r := g.expect("hanako", g.code("T1", 20), verifier.NextCode); !r.Locked {
		t.Error("the tenth failure, right but far off, didn't lock")
	}
	g.advance(time.Minute)
	g.expect("hanako", g.code("T1", 20), verifier.Locked)
}

func TestParallelNextCodes(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.expect("hanako", g.code("T1", 20), verifier.NextCode)
	g.advance(time.Minute)
	next := g.code("T1", 20)
	counts := g.parallel("hanako", 100, func(int) string { return next })
	if counts[verifier.Accepted] != 1 || counts[verifier.Replayed] != 99 {
		t.Errorf("outcomes %v, want one Accepted", counts)
	}
}

func TestHOTP(t *testing.T) {
	hotp := func(t *testing.T) (g *gate, code func(count int64) string) {
		g = newGate(t)
		g.addUser("hanako")
		g.create(verifier.NewToken{
			Realm: "retail", User: "hanako", Serial: "T1", InService: true,
			Params: otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6},
		})
		return g, func(count int64) string {
			return otp.NewGenerator(g.keys["T1"], otp.Params{Algorithm: otp.SHA1, Digits: 6}).Code(count)
		}
	}
	t.Run("in order, each once", func(t *testing.T) {
		g, code := hotp(t)
		g.expect("hanako", code(0), verifier.Accepted)
		g.expect("hanako", code(0), verifier.Replayed)
		g.expect("hanako", code(1), verifier.Accepted)
		g.expect("hanako", code(11), verifier.Accepted) // ten were shown and not used
		if r, _ := g.try("hanako", code(5)); r.Outcome == verifier.Accepted {
			t.Error("an earlier count was accepted")
		}
	})
	t.Run("far ahead wants two in a row", func(t *testing.T) {
		g, code := hotp(t)
		g.expect("hanako", code(99), verifier.NextCode)
		g.expect("hanako", code(99), verifier.NextCode) // not the same twice
		g.expect("hanako", code(100), verifier.Accepted)
		g.expect("hanako", code(100), verifier.Replayed)
		g.expect("hanako", code(101), verifier.Accepted)
	})
	t.Run("not two apart", func(t *testing.T) {
		g, code := hotp(t)
		g.expect("hanako", code(50), verifier.NextCode)
		g.expect("hanako", code(52), verifier.NextCode)
	})
	t.Run("out of reach", func(t *testing.T) {
		g, code := hotp(t)
		g.expect("hanako", code(100), verifier.Wrong)
	})
}

// Our own clock stepping back would make used codes new again.
func TestNobodyPassesWhileOurClockIsBehind(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)

	g.advance(-5 * time.Second) // what a time service may do
	g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	g.must(g.Ready(t.Context()))

	g.advance(-time.Second)
	_, err := g.try("hanako", g.code("T1", 0))
	if !errors.Is(err, verifier.ErrClockBehind) || !errors.Is(err, verifier.ErrNoDecision) {
		t.Errorf("with our clock behind: %v", err)
	}
	if err := g.Ready(t.Context()); !errors.Is(err, verifier.ErrClockBehind) {
		t.Errorf("ready: %v", err)
	}
	g.reopen() // a restart doesn't forget
	if _, err := g.try("hanako", g.code("T1", 0)); !errors.Is(err, verifier.ErrClockBehind) {
		t.Errorf("after a restart: %v", err)
	}
	if _, _, err := g.Resync(t.Context(), because("run off"), "T1", g.code("T1", 0), g.code("T1", 1)); !errors.Is(err, verifier.ErrClockBehind) {
		t.Errorf("resynchronised: %v", err)
	}
	g.advance(time.Minute)
	g.must(g.Ready(t.Context()))
	g.expect("hanako", g.code("T1", 1), verifier.Accepted)
}

// A clock that was far ahead, by mistake, doesn't shut the gateway for years.
func TestAClerkAcceptsTheClock(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.newToken("taro", "T2")
	var why *verifier.Refusal
	if _, err := g.AcceptClock(t.Context(), because("no need")); !errors.As(err, &why) {
		t.Errorf("accepted a clock that isn't behind: %v", err)
	}
	const ahead = 10 * 365 * 24 * time.Hour
	g.advance(ahead)
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	g.advance(-ahead)
	if _, err := g.try("taro", g.code("T2", 0)); !errors.Is(err, verifier.ErrClockBehind) {
		t.Fatalf("%v", err)
	}
	if _, err := g.AcceptClock(t.Context(), verifier.By{Who: "root"}); !errors.As(err, &why) {
		t.Errorf("without a reason: %v", err)
	}
	receipt, err := g.AcceptClock(t.Context(), because("the time server was wrong"))
	if err != nil || g.log.last().Event != "clock.accept" || g.log.last().Receipt != receipt.Number {
		t.Fatalf("%v, in the log %+v", err, g.log.last())
	}
	g.must(g.Ready(t.Context()))
	g.expect("taro", g.code("T2", 0), verifier.Accepted)
	if r, err := g.try("hanako", g.code("T1", 0)); err != nil || r.Outcome == verifier.Accepted {
		t.Errorf("a token whose last step is ten years ahead: %v, %v", r.Outcome, err)
	}
}

func TestAReplayTellsNoMoreThanAWrongCode(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, LongRun: 30})
	g.newToken("hanako", "T1")
	for range 3 {
		for range 9 {
			g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		}
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		g.advance(time.Hour)
	}
	for _, later := range []time.Duration{0, 20 * 7 * 24 * time.Hour} {
		g.advance(later)
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		wrong := g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		replayed := g.expect("hanako", g.code("T1", 0), verifier.Replayed)
		if wrong.TriesLeft != replayed.TriesLeft || wrong.TriesLeft < 1 {
			t.Errorf("%v later: %d tries left after a wrong code, %d after a replay", later, wrong.TriesLeft, replayed.TriesLeft)
		}
	}
}

func TestGuessesAtNobodyCountInTheRealm(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, RealmAlarm: 10})
	g.addUser("bare")
	for range 10 {
		g.expect("bare", "123456", verifier.NoToken)
	}
	if g.alarms() != 1 {
		t.Errorf("%d alarms", g.alarms())
	}
}

// However wide the interval: so many codes are accepted at once, and no more.
func TestAtMostFiveCandidates(t *testing.T) {
	for _, idle := range []time.Duration{0, 30 * 24 * time.Hour, 400 * 24 * time.Hour} {
		accepted := 0
		for offset := int64(-30); offset <= 30; offset++ {
			g := newGate(t)
			g.newToken("hanako", "T1")
			g.advance(idle)
			r, err := g.try("hanako", g.code("T1", offset))
			g.must(err)
			if r.Outcome == verifier.Accepted {
				accepted++
			}
		}
		if accepted < 3 || accepted > 5 {
			t.Errorf("after %v %d codes are accepted at once", idle, accepted)
		}
	}
}

// The outcome is in the log, though whoever asked has gone.
func TestACallerWhoLeavesIsLogged(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	ctx, leave := context.WithCancel(t.Context())
	g.Records = &hookedStore{Records: g.Records, afterUpdate: leave}
	_, err := g.Verify(ctx, verifier.Attempt{Realm: "retail", User: "hanako", Match: verifier.Typed(g.code("T1", 0)), Door: "test"})
	if err != nil || g.log.last().Outcome != string(verifier.Accepted) {
		t.Errorf("%v; in the log %+v", err, g.log.last())
	}
}

func TestNothingFromBeforeARestore(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	g.advance(10 * time.Minute)
	shown := g.code("T1", 0) // perhaps used after the backup was taken
	g.must(verifier.SetFloor(t.Context(), g.Records, g.now))
	g.must(verifier.SetFloor(t.Context(), g.Records, g.now.Add(-time.Hour))) // never back
	g.expect("hanako", shown, verifier.Replayed)
	g.advance(3 * time.Minute)
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
}

func TestOnlyAClerkFindsARestoredCounter(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	hotp := otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}
	code := func(serial string, count int64) string {
		return otp.NewGenerator(g.keys[serial], hotp).Code(count)
	}
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T1", InService: true, Params: hotp})
	g.advance(time.Hour)
	g.must(verifier.SetFloor(t.Context(), g.Records, g.now))
	// How far it went between backup and restore, nobody knows: these may be
	// codes that somebody has seen.
	for count := range int64(4) {
		g.expect("hanako", code("T1", count), verifier.Wrong)
	}
	if d := g.log.last().Detail; !strings.Contains(d, "token resync") {
		t.Errorf("the log says %q", d)
	}
	_, _, err := g.Resync(t.Context(), because("restored"), "T1", code("T1", 7), code("T1", 8))
	g.must(err)
	g.expect("hanako", code("T1", 8), verifier.Replayed)
	g.expect("hanako", code("T1", 9), verifier.Accepted)

	g.advance(time.Second)
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2", InService: true, Params: hotp})
	g.expect("hanako", code("T2", 0), verifier.Accepted) // made after the restore
}

// Backup between the two codes of a pair: the second may have been used at the
// old machine.
func TestNoPairAcrossARestore(t *testing.T) {
	for _, off := range []int64{-20, 20} {
		g := newGate(t)
		g.newToken("hanako", "T1")
		g.expect("hanako", g.code("T1", off), verifier.NextCode)
		g.advance(time.Minute)
		g.must(verifier.SetFloor(t.Context(), g.Records, g.now))
		if r, err := g.try("hanako", g.code("T1", off)); err != nil || r.Outcome == verifier.Accepted {
			t.Errorf("%+d steps: %v, %v", off, r.Outcome, err)
		}
	}
}

func TestRightCodesBeforeALockOpensDontCountAfterIt(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 3, UnlockCodes: 3, UnlockAfter: 30 * time.Minute})
	g.newToken("taro", "T1")
	lock := func() {
		for range 3 {
			g.expect("taro", g.wrong("T1"), verifier.Wrong)
		}
	}
	lock()
	for range 2 {
		g.advance(time.Minute)
		g.expect("taro", g.code("T1", 0), verifier.Locked)
	}
	g.advance(time.Hour) // the lock has opened by itself
	lock()
	g.advance(time.Minute)
	g.expect("taro", g.code("T1", 0), verifier.Locked)
}

func TestAClockThatWasAheadGivesNothingAway(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.must1(g.Verify(t.Context(), verifier.Attempt{Realm: "retail", User: "nobody", Match: verifier.Typed("1")}))
	g.advance(-time.Hour) // behind what was decided
	_, _, err := g.OpenFallback(t.Context(), because("lost"), "retail", "hanako", g.now.Add(time.Hour))
	if err == nil {
		t.Error("a fallback was opened")
	}
	// A stolen token can be taken out of use whatever our clock says.
	_, _, err = g.Suspend(t.Context(), because("stolen"), "T1")
	g.must(err)
}

// HMAC pads keys with zeros: these two show the same codes.
func TestAKeyWithZerosBehindIsTheSame(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	_, _, _, err := g.CreateToken(t.Context(), because("again"), verifier.NewToken{
		Realm: "retail", User: "hanako", Serial: "T2", Params: g.Realms["retail"].OTP, Key: append(g.keys["T1"], 0, 0),
	})
	var why *verifier.Refusal
	if !errors.As(err, &why) {
		t.Errorf("%v", err)
	}
}

func TestALockedUserCostsLittleWork(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.lock("hanako", "T1")
	compared := 0
	r, err := g.Verify(t.Context(), verifier.Attempt{
		Realm: "retail", User: "hanako", Match: func(string) bool { compared++; return false },
	})
	if err != nil || r.Outcome != verifier.Locked || compared > 10 {
		t.Errorf("%v, %v: %d compared", r.Outcome, err, compared)
	}
}

func TestLongRunOfWrongCodes(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, LongRun: 30, UnlockAfter: time.Minute, UnlockCodes: 3})
	g.newToken("hanako", "T1")
	// Three wrong and a right one, every week: never ten in a row.
	for range 9 {
		for range 3 {
			g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		}
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		g.advance(7 * 24 * time.Hour)
	}
	g.expect("hanako", g.wrong("T1"), verifier.Wrong)
	if r := g.expect("hanako", g.wrong("T1"), verifier.Wrong); r.TriesLeft != 1 {
		t.Errorf("%d tries left before the thirtieth", r.TriesLeft)
	}
	if r := g.expect("hanako", g.wrong("T1"), verifier.Wrong); !r.Locked {
		t.Error("thirty wrong within ninety days didn't lock")
	}
	for range 4 { // neither time nor right codes open this lock
		g.advance(time.Hour)
		g.expect("hanako", g.code("T1", 0), verifier.Locked)
	}
	if a := g.account("hanako"); a.Service != verifier.ServiceLocked || a.LockedAt.IsZero() {
		t.Errorf("service %s, locked at %v", a.Service, a.LockedAt)
	}
	g.unlock("hanako")
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
}

func TestOldWrongCodesAreForgotten(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, LongRun: 12})
	g.newToken("hanako", "T1")
	for range 6 {
		for range 5 {
			g.expect("hanako", g.wrong("T1"), verifier.Wrong)
		}
		g.expect("hanako", g.code("T1", 0), verifier.Accepted)
		g.advance(98 * 24 * time.Hour)
	}
}

func TestThreeRightCodesOpenALock(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 3, UnlockCodes: 3})
	g.newToken("taro", "T1")
	for range 3 {
		g.expect("taro", g.wrong("T1"), verifier.Wrong)
	}
	right := func(want verifier.Outcome) {
		t.Helper()
		g.advance(time.Minute)
		g.expect("taro", g.code("T1", 0), want)
	}
	right(verifier.Locked)
	used := g.code("T1", 0)
	g.expect("taro", used, verifier.Locked) // the same one again is no second
	right(verifier.Locked)
	right(verifier.Locked)
	right(verifier.Accepted)
	right(verifier.Accepted)
}

func TestAGuesserCannotOpenALock(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 3, UnlockCodes: 3})
	g.newToken("taro", "T1")
	for range 3 {
		g.expect("taro", g.wrong("T1"), verifier.Wrong)
	}
	for range 4 { // two right and a wrong one, over and over
		for range 2 {
			g.advance(time.Minute)
			g.expect("taro", g.code("T1", 0), verifier.Locked)
		}
		g.expect("taro", g.wrong("T1"), verifier.Locked)
	}
}

// One guess at each of many accounts locks nobody, but is seen.
func TestSprayRaisesAnAlarm(t *testing.T) {
	g := newGate(t)
	g.setLockout(verifier.Lockout{Consecutive: 10, RealmAlarm: 20})
	g.newToken("hanako", "T1")
	spray := func(n int) {
		for i := range n {
			if i%2 == 0 {
				g.expect("nobody", "123456", verifier.NoUser)
				continue
			}
			g.expect("hanako", g.wrong("T1"), verifier.Wrong)
			g.unlock("hanako")
		}
	}
	spray(19)
	if g.alarms() != 0 {
		t.Fatal("an alarm before the limit")
	}
	spray(10)
	if g.alarms() != 1 || !strings.Contains(g.lines.String(), "guessing across accounts") {
		t.Errorf("%d alarms in the audit log, want one; the log: %s", g.alarms(), &g.lines)
	}
	g.advance(11 * time.Minute)
	spray(19)
	if g.alarms() != 1 {
		t.Error("an alarm below the limit")
	}
	spray(1)
	if g.alarms() != 2 {
		t.Error("no second alarm")
	}
}

func TestARightCodeOfALostTokenIsNoted(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.setState("T1", verifier.Lost)
	g.expect("hanako", g.wrong("T1"), verifier.NoToken)
	if info, err := g.Token(t.Context(), "T1"); err != nil || !info.TriedAt.IsZero() {
		t.Errorf("a wrong code: %v, %v", info.TriedAt, err)
	}
	g.expect("hanako", g.code("T1", 0), verifier.NoToken)
	if info, err := g.Token(t.Context(), "T1"); err != nil || !info.TriedAt.Equal(g.now) {
		t.Errorf("tried at %v, %v; want %v", info.TriedAt, err, g.now)
	}
	if d := g.log.last().Detail; !strings.Contains(d, "the right code of token T1, which is lost") {
		t.Errorf("the log says %q", d)
	}
	// The new token works, and the lost one is still watched.
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "T2", InService: true})
	g.advance(time.Minute)
	g.expect("hanako", g.code("T1", 0), verifier.Wrong)
	if d := g.log.last().Detail; !strings.Contains(d, "T1, which is lost") {
		t.Errorf("the log says %q", d)
	}
	g.expect("hanako", g.code("T2", 0), verifier.Accepted)
}

func TestATokenPastItsExpiryIsNoToken(t *testing.T) {
	g := newGate(t)
	source := func(yield func(verifier.Imported, error) bool) {
		yield(verifier.Imported{
			Line: 1, Serial: "T1", Key: []byte("a key of twenty byte"), Params: g.Realms["retail"].OTP, User: "hanako",
			NotAfter: g.now.Add(time.Hour),
		}, nil)
	}
	_, err := g.Import(t.Context(), because("batch"), source, verifier.ImportOptions{
		Realm: "retail", File: "b.csv", Each: func(verifier.Imported, string) error { return nil }, Progress: func(int, int) {},
	})
	g.must(err)
	g.keys["T1"] = []byte("a key of twenty byte")
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	g.advance(2 * time.Hour)
	g.expect("hanako", g.code("T1", 0), verifier.NoToken)
	if d := g.log.last().Detail; !strings.Contains(d, "expired") {
		t.Errorf("the log says %q", d)
	}
}

// "Why was I refused?" stands in the log in words.
func TestTheLogSaysWhy(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	at := func(p otp.Params) string { return otp.NewGenerator(g.keys["T1"], p).Code(p.Step(g.now)) }
	for typed, want := range map[string]string{
		g.code("T1", 20): "+20 off",
		at(otp.Params{Algorithm: otp.SHA256, Digits: 6, Period: 60}): "it would be right for SHA256 and 60 s, and the token is set to SHA1 and 60 s",
		at(otp.Params{Algorithm: otp.SHA1, Digits: 6, Period: 30}):   "it would be right for SHA1 and 30 s",
	} {
		_, err := g.try("hanako", typed)
		g.must(err)
		if d := g.log.last().Detail; !strings.Contains(d, want) {
			t.Errorf("the log says %q, want %q in it", d, want)
		}
	}
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	g.expect("hanako", g.code("T1", 0), verifier.Replayed)
	if d := g.log.last().Detail; !strings.Contains(d, "already used") {
		t.Errorf("the log says %q", d)
	}
}

// setLockout changes the policy of realm retail.
func (g *gate) setLockout(l verifier.Lockout) {
	realm := g.Realms["retail"]
	realm.Lockout = l
	g.Realms["retail"] = realm
}

func (g *gate) alarms() int {
	n := 0
	for _, e := range g.log.entries {
		if e.Event == "realm.alarm" {
			n++
		}
	}
	return n
}

// setState writes a token's state past the steps that lead there.
func (g *gate) setState(serial string, s verifier.TokenState) {
	g.t.Helper()
	info, err := g.Token(g.t.Context(), serial)
	g.must(err)
	g.must(g.Records.Update(g.t.Context(), func(tx store.Txn) error {
		key := store.Key("token", serial)
		b, err := tx.Get(key)
		if err != nil {
			return err
		}
		return tx.Put(key, []byte(strings.Replace(string(b), `"state":"`+string(info.State)+`"`, `"state":"`+string(s)+`"`, 1)))
	}))
}

func TestAClerkFindsATokenAgain(t *testing.T) {
	const off = 2 * 24 * 60 // minutes: two days
	g := newGate(t)
	g.newToken("hanako", "T1")
	g.lock("hanako", "T1")
	first, second := g.code("T1", off), g.code("T1", off+1)
	for name, pair := range map[string][2]string{
		"the wrong way round": {second, first},
		"one of them twice":   {first, first},
		"not in a row":        {first, g.code("T1", off+2)},
	} {
		var why *verifier.Refusal
		if _, _, err := g.Resync(t.Context(), because("run off"), "T1", pair[0], pair[1]); !errors.As(err, &why) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if e := g.log.last(); e.Event != "token.resync" || e.Outcome != "refused" {
		t.Errorf("in the log: %+v", e)
	}
	_, receipt, err := g.Resync(t.Context(), because("run off"), "T1", first, second)
	if err != nil || receipt.Number == "" {
		t.Fatalf("receipt %+v, %v", receipt, err)
	}
	g.expect("hanako", g.code("T1", off+2), verifier.Locked) // it opens no lock
	g.unlock("hanako")
	g.expect("hanako", second, verifier.Replayed)
	g.advance(2 * time.Minute)
	g.expect("hanako", g.code("T1", off), verifier.Accepted)
	// Nor from before a restore.
	g.advance(time.Hour)
	third, fourth := g.code("T1", off), g.code("T1", off+1)
	g.must(verifier.SetFloor(t.Context(), g.Records, g.now.Add(10*time.Minute)))
	if _, _, err := g.Resync(t.Context(), because("restored"), "T1", third, fourth); err == nil {
		t.Error("codes from before a restore found the token")
	}
	// Never back: the same two again find nothing.
	if _, _, err := g.Resync(t.Context(), because("once more"), "T1", first, second); err == nil {
		t.Error("used codes found the token again")
	}
}
