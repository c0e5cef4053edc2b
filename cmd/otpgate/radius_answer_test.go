package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/internal/admin"
)

// What gateway.yaml lets an Access-Accept carry, and whom it takes a User-Name
// for, as FreeRADIUS's client sees it.
func TestRadclientAnswersAndNames(t *testing.T) {
	s := newSite(t, "    - { name: old, address: 127.0.0.2/32, secret_file: old.secret, realm: retail, realms: [staff], charset: latin-1 }\n", "")
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	configured := strings.NewReplacer(
		"otp: { period: 30 }\n", "otp: { period: 30 }\n    user_names: lower\n"+
			`    radius_reply: { Class: "of {realm}", Tunnel-Type: VLAN, Tunnel-Medium-Type: IEEE-802, Tunnel-Private-Group-Id: 120 }`+"\n"+
			`    groups: { admins: { Class: "admins", Cisco-AVPair: ["shell:priv-lvl=15", "shell:roles=net"], F5-LTM-User-Role: Guest } }`+"\n",
		"secret_file: data/vpn.secret, realm: staff", `secret_file: data/vpn.secret, realm: staff, reply: { Fortinet-Group-Name: "{group}", Session-Timeout: 3600, Framed-IP-Address: 192.0.2.7, Reply-Message: "{user}: {groups}" }`,
	).Replace(string(text))
	if err := os.WriteFile(s.config, []byte(configured), 0o600); err != nil {
		t.Fatal(err)
	}
	oldSecret := filepath.Join(s.dir, "old.secret")
	if err := os.WriteFile(oldSecret, []byte("the-old-switch-secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	secret := filepath.Join(s.dir, "data", "vpn.secret")

	t.Run("somebody in groups", func(t *testing.T) {
		key := employee(t, s.client(), "taro")
		for _, args := range [][]string{{"user", "groups", "taro@staff", "admins", "vpn users"}, {"user", "show", "taro@staff"}} {
			if out, err := s.otpgate(args...); err != nil || !strings.Contains(out, "admins, vpn users") {
				t.Fatalf("otpgate %q: %v\n%s", args, err, out)
			}
		}
		if out, err := s.otpgate("user", "groups", "taro@staff"); err == nil || !strings.Contains(out, "--none") {
			t.Errorf("without groups: %v, %s", err, out)
		}
		for offset, proof := range []func(code string) []string{
			func(code string) []string { return []string{"User-Password=" + code} },
			func(code string) []string { return msCHAPv2(t, "Taro@staff", code) },
		} {
			out := radclientOutput(t, s.radius, secret, "auth", append(proof(codeNow(key, 30, int64(offset))), "User-Name=Taro@staff", signed)...)
			for _, want := range []string{
				"Received Access-Accept", "Class = 0x61646d696e73", `Cisco-AVPair = "shell:priv-lvl=15"`, `Cisco-AVPair = "shell:roles=net"`,
				"F5-LTM-User-Role = Guest", `Fortinet-Group-Name = "admins"`, `Fortinet-Group-Name = "vpn users"`, "Session-Timeout = 3600",
				"Framed-IP-Address = 192.0.2.7", `Reply-Message = "taro: admins,vpn users"`,
				"Tunnel-Type:0 = VLAN", "Tunnel-Medium-Type:0 = IEEE-802", `Tunnel-Private-Group-Id:0 = "120"`,
			} {
				if !strings.Contains(out, want) {
					t.Errorf("no %s in\n%s", want, out)
				}
			}
		}
		out := radclientOutput(t, s.radius, secret, "auth", login("taro", wrongCode(key))...)
		if !strings.Contains(out, "Received Access-Reject") || strings.Contains(out, "Class") || strings.Contains(out, "Reply-Message") {
			t.Errorf("a wrong code:\n%s", out)
		}
	})

	t.Run("somebody in none", func(t *testing.T) {
		key := employee(t, s.client(), "jiro")
		out := radclientOutput(t, s.radius, secret, "auth", login(`STAFF\\JIRO`, codeNow(key, 30, 0))...)
		if !strings.Contains(out, "Received Access-Accept") || !strings.Contains(out, "Class = 0x6f66207374616666") {
			t.Errorf("no Accept with Class of staff:\n%s", out)
		}
		for _, never := range []string{"Cisco-AVPair", "Fortinet-Group-Name", "F5-", "Reply-Message"} {
			if strings.Contains(out, "\t"+never) {
				t.Errorf("%s for somebody in no group:\n%s", never, out)
			}
		}
	})

	t.Run("another realm, in Latin-1", func(t *testing.T) {
		key := employee(t, s.client(), "jürgen")
		if _, err := s.client().AddUser(t.Context(), admin.NewUser{Realm: "staff", Name: "Sabine"}); err == nil {
			t.Error("Sabine was added where names are in lower case")
		}
		from := func(user, code string) []string { return append(login(user, code), "Packet-Src-IP-Address=127.0.0.2") }
		code := codeNow(key, 30, 0)
		if got := radclient(t, s.radius, oldSecret, "auth", from(`"J\374rgen"`, code)...); got != "Access-Reject" { // of retail
			t.Errorf("Jürgen without a realm: %s", got)
		}
		if got := radclient(t, s.radius, oldSecret, "auth", from(`"J\374rgen@staff"`, code)...); got != "Access-Accept" {
			t.Errorf("Jürgen@staff: %s", got)
		}
		// What isn't the client's is no realm.
		if got := radclient(t, s.radius, secret, "auth", login("jürgen@retail", codeNow(key, 30, 1))...); got != "Access-Reject" {
			t.Errorf("jürgen@retail at the vpn: %s", got)
		}
	})
}
