package config_test

import (
	"fmt"
	"strings"
	"testing"

	"otpgate/config"
	"otpgate/radius/dictionary"
)

// withReply is a file whose client and realm ask for attributes.
func withReply(realm, client string) map[string]string {
	return map[string]string{
		"vpn.secret": strings.Repeat("s", 20),
		"gateway.yaml": fmt.Sprintf(`realms:
  - {id: staff, service_id: "0001", name: {ja: 行内, en: Staff}, %s}
  - {id: retail, service_id: "5001", name: {ja: 見本, en: Retail}}
oidc: {issuer: "https://localhost:8443"}
radius:
  udp: [":1812"]
  clients:
    - {name: vpn, address: 192.0.2.1, secret_file: vpn.secret, realm: staff, %s}
`, realm, client),
	}
}

func TestReply(t *testing.T) {
	write(t, withReply(
		`user_names: lower, radius_reply: {Class: "{realm}"}, groups: {管理者: {Cisco-AVPair: ["shell:priv-lvl=15", b], Session-Timeout: 3600}, none: {}}`,
		`realms: [retail], charset: latin-1, reply: {Filter-Id: "{group}", Tunnel-Type: VLAN, Tunnel-Private-Group-Id: 120}`))
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	show := func(set dictionary.Set) (shown []string) {
		for _, e := range set {
			e.Encode(dictionary.Person{Realm: "staff", Groups: []string{"g"}}, func(kind byte, value []byte) {
				shown = append(shown, fmt.Sprintf("%s %d %q", e.Name, kind, value))
			})
		}
		return shown
	}
	staff, vpn := c.Realms[0], c.Radius.Clients[0]
	for _, x := range []struct {
		set  dictionary.Set
		want string
	}{
		{staff.RadiusReply, `[Class 25 "staff"]`},
		{staff.Groups["管理者"], `[Cisco-AVPair 26 "\x00\x00\x00\t\x01\x13shell:priv-lvl=15" Cisco-AVPair 26 "\x00\x00\x00\t\x01\x03b" Session-Timeout 27 "\x00\x00\x0e\x10"]`},
		{vpn.Reply, `[Filter-Id 11 "g" Tunnel-Type 64 "\x00\x00\x00\r" Tunnel-Private-Group-Id 81 "120"]`},
	} {
		if got := fmt.Sprint(show(x.set)); got != x.want {
			t.Errorf("%s, want %s", got, x.want)
		}
	}
	if staff.UserNames != "lower" || c.Realms[1].UserNames != "exact" || fmt.Sprint(vpn.Realms) != "[retail]" || vpn.Charset != "latin-1" {
		t.Errorf("%+v, %+v", staff, vpn)
	}
}

func TestFaultsOfReply(t *testing.T) {
	var long []string
	for range 9 {
		long = append(long, strings.Repeat("x", 240))
	}
	for _, c := range []struct{ realm, client, line, problem string }{
		{"", "reply: {Clas: staff}", "8", "reply.Clas: unknown attribute; did you mean Class?"},
		{"", "reply: {MikroTik-Group: full}", "8", "did you mean Mikrotik-Group?"},
		{"", "reply: {Message-Authenticator: x}", "8", "unknown attribute; otpgate config schema has the list"},
		{"", "reply: {Class: a, Class: b}", "8", "is given twice"},
		{"", "reply: {Session-Timeout: 1h}", "8", "reply.Session-Timeout: must be a whole number from 0 to 4294967295, not \"1h\""},
		{"", "reply: {Framed-IP-Address: 192.0.2.300}", "8", "IPv4"},
		{"", "reply: {Class: [a, '{grups}']}", "8", "reply.Class[1]: has the placeholder {grups}"},
		{"", "reply: {Class: {group}}", "8", "begins with { needs quotes"},
		{"", "reply: {Class: }", "8", "must be a value, not empty"},
		{"", "reply: {Class: []}", "8", "must have 1 to 32 values, and has 0"},
		{"", "reply: {Class: true}", "8", "put it in quotes"},
		{"", "reply: [Class]", "8", "must be attributes with their values"},
		{"", "reply: {Class: \"a\\nb\"}", "8", "control characters"},
		{"", "reply: {Class: [" + strings.Join(long, ", ") + "]}", "8", "2178 octets for realm staff"},
		{"", "realms: [staff]", "8", "is taken by"},
		{"", "realms: [retial]", "8", "there is no realm \"retial\""},
		{"", "charset: sjis", "8", "utf-8 or latin-1"},
		{"radius_reply: {Service-Type: Admin}", "", "2", "Administrative-User"},
		{"groups: {admins: {Class: [a, 1.5]}}", "", "2", "groups.admins.Class[1]: must be text"},
		{"groups: {'a,b': {Class: a}}", "", "2", "no comma"},
		{"groups: {12: {Class: a}}", "", "2", "put it in quotes"},
		{"groups: {a: {Class: a}, a: {Class: b}}", "", "2", "is given twice"},
		{"groups: [admins]", "", "2", "must be groups with their attributes"},
		{"user_names: upper", "", "2", "exact or lower"},
	} {
		write(t, withReply(c.realm, c.client))
		faults := faultsOf(t)
		if len(faults) != 1 || !strings.HasPrefix(faults[0], c.line+":") || !strings.Contains(faults[0], c.problem) {
			t.Errorf("%.60s %.60s:\n  %q\n  want one in line %s: %s", c.realm, c.client, faults, c.line, c.problem)
		}
	}
}
