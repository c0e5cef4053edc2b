package main

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
)

// TestRadiusClients asks as gear does, and looks at what the operator is shown.
func TestRadiusClients(t *testing.T) {
	acct := "    - { name: acct, address: 127.0.0.2/32, secret_file: acct.secret, realm: staff, accounting: true }\n"
	s := newSite(t, acct, "")
	config, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	graced := strings.Replace(string(config), "otp: { period: 30 }", "otp: { period: 30 }\n    failover_grace: 5s", 1)
	acctSecret, vpnSecret := filepath.Join(s.dir, "acct.secret"), filepath.Join(s.dir, "data", "vpn.secret")
	for file, text := range map[string]string{s.config: graced, acctSecret: "secret-of-the-accountant"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	s.serve(t)
	key := employee(t, s.client(), "taro")
	code := codeNow(key, 30, 0)
	station := append(login("taro", code), "Calling-Station-Id=203.0.113.7")

	for i, want := range []string{"Access-Accept", "Access-Accept", "Access-Reject"} { // the grace, once
		if got := radclient(t, s.radius, vpnSecret, "auth", station...); got != want {
			t.Errorf("the code for time %d: %s, want %s", i+1, got, want)
		}
	}
	if got := radclient(t, s.radius, vpnSecret, "auth", "User-Name=taro", "CHAP-Password="+code); got != "none" {
		t.Errorf("CHAP without Message-Authenticator: %s", got)
	}
	accounting := []string{"User-Name=taro", "Acct-Status-Type=Start", "Acct-Session-Id=0000001A", "Proxy-State=0x0102"}
	fromAcct := append(accounting, "Packet-Src-IP-Address=127.0.0.2")
	if out := radclientOutput(t, s.radius, acctSecret, "acct", fromAcct...); !strings.Contains(out, "Received Accounting-Response") ||
		!strings.Contains(out, "Proxy-State = 0x0102") {
		t.Errorf("accounting:\n%s", out)
	}
	if got := radclient(t, s.radius, vpnSecret, "acct", accounting...); got != "none" {
		t.Errorf("accounting where it isn't wanted: %s", got)
	}
	radclient(t, s.radius, vpnSecret, "auth", append(station, "Packet-Src-IP-Address=127.0.0.9")...)

	out, err := s.otpgate("radius", "clients", "--json")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	var seen admin.RadiusSeen
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if len(seen.Clients) != 2 || len(seen.Unknown) != 1 {
		t.Fatalf("shown: %+v", seen)
	}
	if c := seen.Clients[0]; c.Name != "acct" || c.Requests != 1 || c.Accounts != 1 || c.From.String() != "127.0.0.2" {
		t.Errorf("acct: %+v", c)
	}
	if c := seen.Clients[1]; c.Accepts != 2 || c.Rejects != 1 || c.Unsigned != 1 || c.Methods["PAP"] != 3 ||
		c.Dropped["message_authenticator_missing"] != 1 || c.Dropped["accounting_off"] != 1 || c.Requests != 5 {
		t.Errorf("vpn: %+v", c)
	}
	if u := seen.Unknown[0]; u.Address.String() != "127.0.0.9" || u.Packets != 1 {
		t.Errorf("unknown: %+v", u)
	}

	out, err = s.otpgate("radius", "clients")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	for _, want := range []string{
		`(?m)^CLIENT +LAST SEEN \(.*\) +FROM +REQUESTS +ACCEPTED +REJECTED +CHALLENGED +DROPPED +UNSIGNED +METHODS$`,
		`(?m)^vpn +20.* 127\.0\.0\.1 +5 +2 +1 +0 +2 +1 +PAP 3$`,
		`(?m)^dropped at vpn: accounting_off 1, message_authenticator_missing 1$`,
		`(?m)^no client has the address 127\.0\.0\.9: 1 packet, the last at 20`,
	} {
		if !regexp.MustCompile(want).MatchString(out) {
			t.Errorf("no %s in\n%s", want, out)
		}
	}
	wantInAudit(t, s, "verify", "accepted", "again within failover_grace: ")
	wantInAudit(t, s, "radius.accounting", "start", `session "0000001A", from 127.0.0.2`)
}

// wantInAudit looks for one entry of taro.
func wantInAudit(t *testing.T, s site, event, outcome, detail string) {
	t.Helper()
	out, err := s.otpgate("audit", "tail", "--json", "--user", "taro@staff")
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	found := 0
	for line := range strings.Lines(out) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if e.Event == event && e.Outcome == outcome && strings.HasPrefix(e.Detail, detail) {
			found++
		}
	}
	if found != 1 {
		t.Errorf("%d entries %s %s %q, want 1, in\n%s", found, event, outcome, detail, out)
	}
}
