package verifier_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// batch imports tokens for stock and returns its number.
func (g *gate) batch(count int) string {
	g.t.Helper()
	r, _, err := g.importCSV(tokenFile(count, 0))
	g.must(err)
	for n := range count {
		g.keys[fileSerial(n)] = fileKey(n)
	}
	return r.Batch.ID
}

// check shows the codes of a token whose clock is offset steps ahead.
func (g *gate) checkBatch(n int, offset int64) (verifier.BatchCheck, error) {
	serial := fileSerial(n)
	return g.CheckBatch(g.t.Context(), because(""), serial, verifier.Typed(g.code(serial, offset)), verifier.Typed(g.code(serial, offset+1)))
}

func TestBatchIsCheckedBeforeRelease(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	id := g.batch(10)
	assign := func(n int) error {
		_, _, err := g.Assign(t.Context(), because(""), fileSerial(n), "retail", "hanako")
		return err
	}
	release := func() error {
		_, _, err := g.ReleaseBatch(t.Context(), because(""), id)
		return err
	}
	g.turnedDown(assign(0), "is in batch "+id+", which isn't released yet")
	g.turnedDown(release(), "3 more of the tokens")

	for range 3 { // the same token three times is one token
		_, err := g.checkBatch(0, 0)
		g.must(err)
		g.advance(3 * time.Minute)
	}
	g.turnedDown(release(), "2 more of the tokens")
	check, err := g.checkBatch(1, -90)
	if err != nil || check.Offset != -89 {
		t.Errorf("%+v, %v", check, err)
	}
	_, err = g.checkBatch(2, 300) // five hours
	g.turnedDown(err, "doesn't show these codes")
	_, err = g.CheckBatch(t.Context(), because(""), fileSerial(2), verifier.Typed(g.code(fileSerial(2), 0)), verifier.Typed(g.code(fileSerial(2), 5)))
	g.turnedDown(err, "doesn't show these codes") // not in a row
	g.turnedDown(release(), "1 more of the tokens")
	_, err = g.checkBatch(2, 0)
	g.must(err)
	g.must(release())
	g.turnedDown(release(), "was released already")
	_, err = g.checkBatch(3, 0)
	g.turnedDown(err, "was released already")

	b, err := g.Batch(t.Context(), id)
	if err != nil || b.State != verifier.BatchReleased || len(b.Checked) != 3 || b.Failed != 2 {
		t.Errorf("%+v, %v", b, err)
	}
	g.must(assign(0))
	if e := g.log.entries[len(g.log.entries)-2]; e.Event != "batch.release" || !strings.Contains(e.Detail, "3 were checked, 2 checks failed") || e.Receipt == "" {
		t.Errorf("%+v", e)
	}
}

// The codes of a check are used up; what it showed of the clock is known when the
// holder registers.
func TestCheckedCodesAreUsedUp(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	id := g.batch(1)
	const ahead = 30 // minutes
	serial := fileSerial(0)
	_, err := g.checkBatch(0, ahead)
	g.must(err)
	_, err = g.checkBatch(0, ahead)
	g.turnedDown(err, "doesn't show these codes")
	_, _, err = g.ReleaseBatch(t.Context(), because(""), id)
	g.must(err)
	_, _, err = g.Assign(t.Context(), because(""), serial, "retail", "hanako")
	g.must(err)
	for _, offset := range []int64{ahead, ahead + 1} {
		r, err := g.Start(t.Context(), because(""), serial, verifier.Typed(g.code(serial, offset)))
		if err != nil || r.Outcome == verifier.Accepted {
			t.Errorf("a checked code again: %+v, %v", r, err)
		}
	}
	g.advance(3 * time.Minute)
	r, err := g.Start(t.Context(), because(""), serial, verifier.Typed(g.code(serial, ahead)))
	if err != nil || r.Outcome != verifier.Accepted {
		t.Errorf("%+v, %v", r, err)
	}
}

// What a check says of a token's clock is worth nothing while ours is behind, and
// the codes that it uses up would be new again.
func TestNoCheckWhileOurClockIsBehind(t *testing.T) {
	g := newGate(t)
	id := g.batch(3)
	_, err := g.checkBatch(0, 0)
	g.must(err)
	g.advance(-time.Hour)
	if _, err := g.checkBatch(1, 0); !errors.Is(err, verifier.ErrClockBehind) {
		t.Errorf("with our clock behind: %v", err)
	}
	if b, err := g.Batch(t.Context(), id); err != nil || len(b.Checked) != 1 || b.Failed != 0 {
		t.Errorf("%+v, %v", b, err)
	}
	g.advance(time.Hour)
	_, err = g.checkBatch(1, 0)
	g.must(err)
}

// A file that doesn't fit its tokens: the check says why, the batch is taken out,
// and a better file comes in with the same serials and keys.
func TestDiscardBatch(t *testing.T) {
	g := newGate(t)
	kept, _, err := g.importCSV(fileHeader + fileLine(1000, "") + fileLine(1001, ""))
	g.must(err)
	id := g.batch(300)
	sha256 := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA256, Digits: 6, Period: 60}
	codes := otp.NewGenerator(fileKey(0), sha256)
	step := sha256.Step(g.now)
	_, err = g.CheckBatch(t.Context(), because(""), fileSerial(0), verifier.Typed(codes.Code(step)), verifier.Typed(codes.Code(step+1)))
	g.turnedDown(err, "it would be right for SHA256 and 60 s, and the token is set to SHA1 and 60 s")

	_, _, err = g.DiscardBatch(t.Context(), because(""), id)
	g.turnedDown(err, "needs a reason")
	_, _, err = g.DiscardBatch(t.Context(), because("the maker sent the wrong file"), id)
	g.must(err)
	_, err = g.Token(t.Context(), fileSerial(0))
	g.turnedDown(err, "there is no token")
	_, _, err = g.ReleaseBatch(t.Context(), because(""), id)
	g.turnedDown(err, "was discarded")
	for n := 1000; n < 1002; n++ { // another batch's stock stays
		if info, err := g.Token(t.Context(), fileSerial(n)); err != nil || info.Batch != kept.Batch.ID {
			t.Errorf("%+v, %v", info.Token, err)
		}
	}

	r, _, err := g.importCSV(strings.ReplaceAll(tokenFile(300, 0), "SHA1", "SHA256"))
	g.must(err)
	if r.Batch.ID == id {
		t.Error("the batch's name was given again")
	}
	_, err = g.CheckBatch(t.Context(), because(""), fileSerial(0), verifier.Typed(codes.Code(step)), verifier.Typed(codes.Code(step+1)))
	g.must(err)
}

// A discard that is cut off is carried out at the next start; tokens that came
// with a user stay.
func TestDiscardIsCutOff(t *testing.T) {
	for writes := range 5 {
		g := newGate(t)
		r, _, err := g.importCSV(tokenFile(300, 100))
		g.must(err)
		g.Records = &dyingStore{Records: g.Records, left: writes}
		_, _, _ = g.DiscardBatch(t.Context(), because("wrong"), r.Batch.ID)
		g.reopen()
		g.must(g.FinishBatches(t.Context()))
		found := 0
		g.must(g.Tokens(t.Context(), verifier.TokenFilter{}, func(i verifier.TokenInfo) error {
			found++
			return nil
		}))
		if want := 3; writes == 0 && found != 300 || writes > 0 && found != want {
			t.Errorf("%d writes: %d tokens", writes, found)
		}
	}
}

// A batch whose tokens all have users has nothing to release.
func TestBatchOfUsersOnly(t *testing.T) {
	g := newGate(t)
	r, _, err := g.importCSV(tokenFile(3, 1))
	if err != nil || r.Batch.State != verifier.BatchReleased {
		t.Errorf("%+v, %v", r, err)
	}
	_, err = g.checkBatch(0, 0)
	g.turnedDown(err, "is in service")
}

// A HOTP token's check advances its counter.
func TestCheckHOTP(t *testing.T) {
	g := newGate(t)
	_, _, err := g.importCSV("serial,secret_hex,type,digits,algorithm,counter\n" + "E1,3132333435363738393031323334353637383930,hotp,6,SHA1,0\n")
	g.must(err)
	typed := verifier.Typed
	for _, c := range []struct {
		first, second string
		ok            bool
	}{
		{"755224", "359152", false}, // RFC 4226 appendix D: counts 0 and 2
		{"287082", "755224", false}, // backwards
		{"755224", "287082", true},
		{"755224", "287082", false}, // used up
		{"359152", "969429", true},
	} {
		if _, err := g.CheckBatch(t.Context(), because(""), "E1", typed(c.first), typed(c.second)); (err == nil) != c.ok {
			t.Errorf("%s, %s: %v", c.first, c.second, err)
		}
	}
}
