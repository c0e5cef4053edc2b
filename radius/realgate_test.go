package radius

import (
	"context"
	"crypto/sha256"
	"io"
	"log/slog"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	codec "layeh.com/radius"

	"otpgate/internal/audit"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// keptAudit is an audit log that can be read.
type keptAudit struct {
	mu       sync.Mutex
	outcomes []string
}

func (l *keptAudit) Append(_ context.Context, e audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if e.Door == door {
		l.outcomes = append(l.outcomes, e.Outcome)
	}
	return nil
}

// realGate puts the real gate behind the door. hanako has a token in service and
// no PIN; code returns what the token shows now.
func (h *harness) realGate() (v *verifier.Verifier, log *keptAudit, code func() string) {
	h.t.Helper()
	must := func(err error) {
		h.t.Helper()
		if err != nil {
			h.t.Fatal(err)
		}
	}
	ctx, dir := h.t.Context(), h.t.TempDir()
	master, err := seal.CreateMaster(filepath.Join(dir, "master.key"))
	must(err)
	db, err := bolt.Open(filepath.Join(dir, "otpgate.db"), bolt.Options{})
	must(err)
	h.t.Cleanup(func() { must(db.Close()) })
	box, err := seal.Open(ctx, db, master)
	must(err)
	params := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 30}
	log = &keptAudit{}
	v = &verifier.Verifier{
		Records: db, Seal: box, Audit: log, Now: time.Now, Log: slog.New(slog.NewTextHandler(io.Discard, nil)),
		Realms:  map[string]verifier.Realm{"staff": {ID: "staff", OTP: params, Lockout: verifier.Lockout{Consecutive: 10}}},
		Metrics: verifier.NewMetrics(prometheus.NewRegistry()),
	}
	by := verifier.By{Who: "clerk"}
	for _, user := range []string{"hanako", "taro"} {
		_, _, err = v.AddUser(ctx, by, "staff", user)
		must(err)
	}
	key := sha256.Sum256([]byte("hanako's"))
	_, _, _, err = v.CreateToken(ctx, by, verifier.NewToken{
		Realm: "staff", User: "hanako", Serial: "T1", Params: params, Key: slices.Clone(key[:20]), InService: true,
	})
	must(err)
	h.Gate = v
	return v, log, func() string { return otp.NewGenerator(key[:20], params).Code(params.Step(time.Now())) }
}

// A first PIN, wrong PINs and wrong codes as the real gate counts them.
func TestRealGate(t *testing.T) {
	inBubble(t, func(h *harness) {
		v, log, code := h.realGate()
		h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
		failures := func(pin, token int) {
			t.Helper()
			a, err := v.Account(h.t.Context(), "staff", "hanako")
			if err != nil || a.PIN.Failures != pin || a.Tokens[0].Failures != token {
				t.Errorf("%d wrong PINs and %d wrong codes, want %d and %d (%v)", a.PIN.Failures, a.Tokens[0].Failures, pin, token, err)
			}
		}
		state := h.asks("", nil, askCode)
		state = h.asks(code(), state, promptNewPIN.english())
		state = h.asks("1234", state, promptPINNotAllowed.english())
		h.answers("8093", h.asks("8093", state, promptPINAgain.english()), codec.CodeAccessAccept)

		time.Sleep(30 * time.Second)
		h.answers(code(), h.asks("8094", nil, askCode), codec.CodeAccessReject)
		failures(1, 0)
		h.answers("nonsense", h.asks("8093", nil, askCode), codec.CodeAccessReject)
		failures(1, 1)
		h.answers(code(), h.asks("8093", nil, askCode), codec.CodeAccessAccept) // no wrong PIN has used it up
		failures(0, 0)
		h.answers(code(), h.asks("8093", nil, askCode), codec.CodeAccessReject)

		h.as("vpn", ModePasswordOTP, FirstFactor{PIN: true})
		time.Sleep(30 * time.Second)
		h.types("8094"+code(), nil, codec.CodeAccessReject)
		h.types("8093"+code(), nil, codec.CodeAccessAccept)
		want := []string{
			"unset", "pin_wanted", "accepted", "wrong", "wrong_first_factor", "right", "wrong",
			"right", "accepted", "right", "replayed", "wrong_first_factor", "accepted",
		}
		if !slices.Equal(log.outcomes, want) {
			t.Errorf("the audit log has %q, want %q", log.outcomes, want)
		}
	})
}

// Another server's word is enough only for who has no token here.
func TestRealGateMigrates(t *testing.T) {
	inBubble(t, func(h *harness) {
		_, _, code := h.realGate()
		h.as("vpn", ModeOTP, FirstFactor{Upstream: &fakeUpstream{}, Migrating: true})
		h.types(rightPassword, nil, codec.CodeAccessReject) // hanako has one
		h.types(code(), nil, codec.CodeAccessAccept)
		taro := func(id byte, password string) []byte {
			return newPacket(codec.CodeAccessRequest, id, password).user("taro").password(password, secret).signed(secret)
		}
		h.wantReply(vpn, taro(201, rightPassword), codec.CodeAccessAccept)
		h.wantReply(vpn, taro(202, "wrong"), codec.CodeAccessReject)
		for i, name := range []string{"Hanako", `BANK\hanako`, "hanako@bank.example", "\uff48anako", "nobody"} { // whom another server may take for hanako
			b := newPacket(codec.CodeAccessRequest, byte(210+i), name).user(name).password(rightPassword, secret).signed(secret)
			h.wantReply(vpn, b, codec.CodeAccessReject)
		}
	})
}
