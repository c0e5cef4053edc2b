package main

import (
	"compress/gzip"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"

	"otpgate/internal/admin"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// The first database that ever landed, made in November 2026, opens with
// today's program: its audit log says what was done to it.
func TestFirstDatabaseOpens(t *testing.T) {
	s := newSite(t, "", "")
	data := filepath.Join(s.dir, "data")
	if err := os.MkdirAll(filepath.Join(data, "audit"), 0o700); err != nil {
		t.Fatal(err)
	}
	unpack(t, "testdata/schema1/otpgate.db.gz", filepath.Join(data, "otpgate.db"))
	copyFile(t, "testdata/schema1/master.key", filepath.Join(data, "master.key"))
	copyFile(t, "testdata/schema1/audit-000001.jsonl", filepath.Join(data, "audit", "audit-000001.jsonl"))
	const secret = "the-vpn-secret-of-this-test"
	if err := os.WriteFile(filepath.Join(data, "vpn.secret"), []byte(secret), 0o600); err != nil {
		t.Fatal(err)
	}
	s.serve(t)

	totp := func(a otp.Algorithm, period int) otp.Params {
		return otp.Params{Type: otp.TOTP, Algorithm: a, Digits: 6, Period: period}
	}
	for _, want := range []struct {
		realm, user, serial string
		state               verifier.TokenState
		params              otp.Params
		wrong               int
		locked, used        bool
	}{
		{"staff", "taro", "T1", verifier.InService, totp(otp.SHA1, 30), 3, false, true},
		{"staff", "jiro", "T2", verifier.InService, totp(otp.SHA1, 30), 10, true, false},
		{"staff", "saburo", "T3", verifier.TokenSuspended, totp(otp.SHA1, 30), 0, false, true},
		{"retail", "10000000001", "T4", verifier.TokenSuspended, totp(otp.SHA1, 60), 0, false, false},
		{"retail", "10000000002", "T5", verifier.InService, totp(otp.SHA256, 60), 0, false, false},
	} {
		a, err := s.client().Account(t.Context(), want.realm, want.user)
		if err != nil || len(a.Tokens) != 1 {
			t.Errorf("%s: %d tokens, %v", want.user, len(a.Tokens), err)
			continue
		}
		got := a.Tokens[0]
		if got.Serial != want.serial || got.State != want.state || got.Params != want.params || got.Failures != want.wrong ||
			got.LockedAt.IsZero() == want.locked || got.UsedAt.IsZero() == want.used {
			t.Errorf("%s: %+v\nwant %+v", want.user, got, want)
		}
		if a.PIN != nil {
			t.Errorf("%s has a PIN: %+v", want.user, a.PIN)
		}
		if a.Failures != want.wrong || a.LockedAt.IsZero() == want.locked {
			t.Errorf("%s: %d wrong, locked %v; want %+v", want.user, a.Failures, a.LockedAt, want)
		}
	}
	checkFirstToken(t, s, nas{address: s.radius, secret: []byte(secret)})
}

// checkFirstToken tries T1, whose key was given to it: what it showed when it
// was used is refused, what it shows now is accepted.
func checkFirstToken(t *testing.T, s site, nas nas) {
	t.Helper()
	key, err := readSecret(strings.NewReader("JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"))
	if err != nil {
		t.Fatal(err)
	}
	const usedStep = 59851981 // of audit entry 11
	params := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 30}
	if got := params.Step(time.Date(2026, 11, 24, 22, 30, 30, 0, time.UTC)); got != usedStep {
		t.Fatalf("step %d at the time of entry 11", got)
	}
	shown := codeNow(key, 30, 0)
	for _, c := range []struct {
		code string
		want codec.Code
	}{
		{otp.NewGenerator(key, params).Code(usedStep), codec.CodeAccessReject},
		{shown, codec.CodeAccessAccept},
		{shown, codec.CodeAccessReject},
	} {
		if got, err := nas.ask("taro", c.code); err != nil || got != c.want {
			t.Errorf("taro: %v, %v; want %v", got, err, c.want)
		}
	}
	if _, err := s.client().AddUser(t.Context(), admin.NewUser{Realm: "staff", Name: "goro"}); err != nil {
		t.Errorf("it takes nothing new: %v", err)
	}
	if _, err := s.client().StepUser(t.Context(), "staff", "taro", "set_pin", admin.Step{PIN: "739105"}); err != nil {
		t.Errorf("it takes no PIN: %v", err)
	}
}

func copyFile(t *testing.T, from, to string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}

func unpack(t *testing.T, from, to string) {
	t.Helper()
	f, err := os.Open(from)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	packed, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(packed)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(to, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
