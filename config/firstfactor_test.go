package config_test

import (
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/config"
)

// A file with every kind of first factor. Its lines are counted on below.
const factorsYAML = minimal + `radius:
  udp: ["127.0.0.1:1812"]
  first_factors:
    - name: ad
      ldap:
        servers: ["ldaps://dc1.bank.example", "ldap://dc2.bank.example:3890"]
        bind_dn: cn=otpgate,dc=bank,dc=example
        bind_password_file: bind
        base_dn: dc=bank,dc=example
        filter: (sAMAccountName={user})
        groups: {attribute: memberOf}
    - name: plain
      ldap: {servers: ["ldaps://dc1.bank.example"], user_dn: "uid={user},dc=bank,dc=example"}
    - name: old
      radius: {servers: ["192.0.2.10:1812", "[2001:db8::10]:1812"], secret_file: s, migrating: true}
  clients:
    - {name: a, address: 192.0.2.1, secret_file: s, realm: staff, mode: password+otp, first_factor: ad, code_position: first}
    - {name: b, address: 192.0.2.2, secret_file: s, realm: staff, mode: challenge, first_factor: pin}
    - {name: c, address: 192.0.2.3, secret_file: s, realm: staff, mode: challenge, first_factor: none}
    - {name: d, address: 192.0.2.4, secret_file: s, realm: staff, first_factor: old}
`

func factorFiles(text string) map[string]string {
	return map[string]string{"gateway.yaml": text, "s": "0123456789abcdef\n", "bind": "short\n", "empty": "\n"}
}

func TestFirstFactors(t *testing.T) {
	write(t, factorFiles(factorsYAML))
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	ad, plain, old := c.Radius.FirstFactors[0].LDAP, c.Radius.FirstFactors[1].LDAP, c.Radius.FirstFactors[2].Radius
	if string(ad.BindPassword.Bytes()) != "short" || ad.Groups.Attribute != "memberOf" || ad.Timeout != 2*time.Second {
		t.Errorf("ad = %+v", ad)
	}
	if plain.BindPassword.Bytes() != nil || plain.Groups != nil {
		t.Errorf("plain = %+v", plain)
	}
	if want := []netip.AddrPort{netip.MustParseAddrPort("192.0.2.10:1812"), netip.MustParseAddrPort("[2001:db8::10]:1812")}; !slices.Equal(old.Addresses, want) ||
		string(old.Secret.Bytes()) != "0123456789abcdef" || old.Timeout != 2500*time.Millisecond || !old.RequireMessageAuthenticator || !old.Migrating {
		t.Errorf("old = %+v", old)
	}
	var got [][]string
	for _, client := range c.Radius.Clients {
		got = append(got, []string{client.Mode, client.FirstFactor, client.CodePosition})
	}
	want := [][]string{{"password+otp", "ad", "first"}, {"challenge", "pin", "last"}, {"challenge", "none", "last"}, {"otp", "old", "last"}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if c.Realms[0].Language != "ja" || c.Radius.EAP != nil {
		t.Errorf("language %q, EAP %v", c.Realms[0].Language, c.Radius.EAP)
	}
}

func TestFirstFactorFaults(t *testing.T) {
	for name, test := range map[string]struct{ old, changed, want string }{
		"neither kind":            {"ldap: {servers: [\"ldaps://dc1.bank.example\"], user_dn: \"uid={user},dc=bank,dc=example\"}", "", "16:7: radius.first_factors[1]: must have either ldap or radius"},
		"a name that is taken":    {"name: plain", "name: pin", "16:13: radius.first_factors[1].name: pin means something else"},
		"two of one name":         {"name: plain", "name: ad", "16:13: radius.first_factors[1].name: \"ad\" is taken by radius.first_factors[0].name (line 8)"},
		"ldap over http":          {"ldaps://dc1.bank.example\", ", "http://dc1.bank.example\", ", "must be ldaps://HOST, or ldap://HOST for StartTLS"},
		"a filter for all":        {"(sAMAccountName={user})", "(objectClass=person)", "14:17: radius.first_factors[0].ldap.filter: must have {user} in it"},
		"no way to find people":   {"        filter: (sAMAccountName={user})\n", "", "must have user_dn, or base_dn and filter, to find by"},
		"two ways":                {"        filter: (", "        user_dn: uid={user}\n        filter: (", "14:18: radius.first_factors[0].ldap.user_dn: is given beside base_dn or filter"},
		"a DN for all":            {"uid={user},", "uid=user,", "user_dn: must have {user}"},
		"no account":              {"        bind_dn: cn=otpgate,dc=bank,dc=example\n        bind_password_file: bind\n", "", "radius.first_factors[0].ldap: must have bind_dn"},
		"no password":             {"        bind_password_file: bind\n", "", "must have bind_dn with bind_password_file or bind_password_env"},
		"an empty password":       {"bind_password_file: bind", "bind_password_file: empty", "12:29: radius.first_factors[0].ldap.bind_password_file: empty is empty"},
		"a missing password":      {"bind_password_file: bind", "bind_password_file: nowhere", "nowhere can't be read"},
		"two passwords":           {"bind_password_file: bind", "bind_password_file: bind\n        bind_password_env: X", "is given beside bind_password_file"},
		"an account for nothing":  {"dc=example\"}", "dc=example\", bind_dn: cn=a, bind_password_file: bind}", "bind_dn: is for nothing"},
		"no authorities":          {"        bind_dn", "        ca_file: nowhere\n        bind_dn", "ca_file: nowhere can't be read"},
		"wrong authorities":       {"        bind_dn", "        ca_file: s\n        bind_dn", "ca_file: s holds no certificate"},
		"groups two ways":         {"memberOf}", "memberOf, base_dn: dc=a, filter: \"(member={dn})\"}", "is given beside base_dn or filter"},
		"groups for all":          {"{attribute: memberOf}", "{base_dn: dc=a, filter: (cn=*)}", "must have {dn} or {user} in it"},
		"groups nowhere":          {"{attribute: memberOf}", "{base_dn: dc=a}", "must have attribute, or base_dn and filter, to find by"},
		"a server by name":        {"192.0.2.10:1812", "old.bank.example:1812", "19:26: radius.first_factors[2].radius.servers[0]: must be an address and a port"},
		"no such address":         {"192.0.2.10:1812", "192.0.2.300:1812", "19:26: radius.first_factors[2].radius.servers[0]: must be an address and a port"},
		"no port":                 {"192.0.2.10:1812", "192.0.2.10:0", "must be an address and a port"},
		"itself":                  {"192.0.2.10:1812", "127.0.0.1:1812", "is this gateway itself"},
		"itself, in disguise":     {"[2001:db8::10]:1812", "[::ffff:127.0.0.1]:1812", "is this gateway itself"},
		"one server twice":        {"[2001:db8::10]:1812", "192.0.2.10:1812", "is taken by radius.first_factors[2].radius.servers[0]"},
		"no secret":               {"secret_file: s, migrating", "migrating", "has no secret"},
		"two secrets":             {"secret_file: s, migrating", "secret_file: s, secret_env: S, migrating", "secret_env: is given beside secret_file"},
		"a short secret":          {"secret_file: s, migrating", "secret_file: bind, migrating", "secret_file: bind holds a secret of 5 characters"},
		"patience beyond gear's":  {"migrating: true", "migrating: true, timeout: 5s", "timeout: must be from 0.2s to 3s"},
		"no such factor":          {"first_factor: ad", "first_factor: da", "21:101: radius.clients[0].first_factor: there is no \"da\""},
		"which there are":         {"first_factor: ad", "first_factor: da", "it must be none, pin, ad, plain or old"},
		"challenge for anything":  {"mode: challenge, first_factor: none", "mode: challenge", "radius.clients[2].mode: challenge without a first_factor takes any password: say first_factor: pin"},
		"otp with a PIN":          {"mode: challenge, first_factor: pin", "first_factor: pin", "pin is never asked for in mode otp"},
		"otp, not migrating":      {", migrating: true", "", "old is never asked for in mode otp"},
		"password+otp of nothing": {", first_factor: ad", "", "21:73: radius.clients[0].mode: password+otp needs a first_factor"},
		"a place for nothing":     {"mode: challenge, first_factor: pin", "mode: challenge, first_factor: pin, code_position: last", "code_position: is for nothing"},
	} {
		t.Run(name, func(t *testing.T) {
			if strings.Count(factorsYAML, test.old) == 0 {
				t.Fatalf("%q isn't in the file", test.old)
			}
			write(t, factorFiles(strings.Replace(factorsYAML, test.old, test.changed, 1)))
			faults := faultsOf(t)
			if len(faults) != 1 || !strings.Contains(faults[0], test.want) {
				t.Errorf("faults:\n%s\nwant one: %s", strings.Join(faults, "\n"), test.want)
			}
			for _, f := range faults {
				if strings.Contains(f, "0123456789abcdef") || strings.Contains(f, "short\n") {
					t.Error("a fault has a secret in it")
				}
			}
		})
	}
}

func TestEAPFaults(t *testing.T) {
	for name, test := range map[string]struct{ eap, want string }{
		"nothing":              {"{}", "6:8: radius.eap: must have cert_file and key_file: ttls and peap need a certificate"},
		"a tunnel without":     {"{methods: [gtc, peap]}", "must have cert_file and key_file"},
		"no method":            {"{methods: []}", "6:18: radius.eap.methods: must have at least 1"},
		"one twice":            {"{methods: [gtc, gtc]}", "\"gtc\" is taken by radius.eap.methods[0]"},
		"an unknown one":       {"{methods: [tls]}", "must be ttls, peap, gtc or mschapv2"},
		"half a pair":          {"{cert_file: s}", "must have cert_file and key_file, or neither"},
		"a pair for nothing":   {"{methods: [gtc], cert_file: s, key_file: s}", "cert_file: is for nothing"},
		"what isn't a pair":    {"{cert_file: s, key_file: s}", "6:8: radius.eap: the certificate and its key can't be used"},
		"what isn't there":     {"{cert_file: nowhere, key_file: s}", "cert_file: nowhere can't be read"},
		"a language of nobody": {"{methods: [gtc]}\nX", "language: must be ja or en"},
	} {
		t.Run(name, func(t *testing.T) {
			eap, rest, _ := strings.Cut(test.eap, "\n")
			text := minimal + "radius:\n  eap: " + eap + "\n"
			if rest != "" {
				text = strings.Replace(text, "{id: staff,", "{id: staff, language: fr,", 1)
			}
			write(t, factorFiles(text))
			if faults := strings.Join(faultsOf(t), "\n"); !strings.Contains(faults, test.want) {
				t.Errorf("faults:\n%s\nwant %s", faults, test.want)
			}
		})
	}
}

func TestEAPWithoutTunnel(t *testing.T) {
	write(t, factorFiles(minimal+"radius:\n  eap: {methods: [mschapv2, gtc]}\n"))
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := c.Radius.EAP.Methods; !slices.Equal(got, []string{"mschapv2", "gtc"}) {
		t.Errorf("methods %q", got)
	}
}
