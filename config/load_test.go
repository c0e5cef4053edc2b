package config_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/config"
)

// minimal is the least that is complete; tests add to it from line 5 on.
const minimal = `realms:
  - {id: staff, service_id: "0001", name: {ja: 行内, en: Staff}}
oidc:
  issuer: https://localhost:8443
`

// write makes a directory with these files, mode 0600, and goes there.
func write(t *testing.T, files map[string]string) {
	t.Helper()
	t.Chdir(t.TempDir())
	for name, text := range files {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// faultsOf loads gateway.yaml, which must be faulty, and returns its faults
// as "line:column: path: problem".
func faultsOf(t *testing.T) []string {
	t.Helper()
	c, err := config.Load("gateway.yaml")
	var faults config.Faults
	if !errors.As(err, &faults) || c != nil {
		t.Fatalf("Load = %v, %v; want faults", c, err)
	}
	var lines []string
	for _, f := range faults {
		line, found := strings.CutPrefix(f.String(), "gateway.yaml:")
		if !found {
			t.Errorf("fault %q doesn't begin with the file's name", f)
		}
		lines = append(lines, line)
	}
	return lines
}

func TestShippedRunsOnAnEmptyMachine(t *testing.T) {
	write(t, map[string]string{"gateway.yaml": string(config.Shipped())})
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if entries, _ := os.ReadDir("."); len(entries) != 1 {
		t.Errorf("Load wrote something: %v", entries)
	}
	if got, want := c.SecretsToMake(), []string{"data/vpn.secret"}; !cmp.Equal(got, want) {
		t.Errorf("SecretsToMake = %q, want %q", got, want)
	}
	if got := c.Realms[1]; got.OTP != (config.OTP{Type: "totp", Digits: 6, Period: 60, Algorithm: "SHA1"}) ||
		got.Lockout != (config.Lockout{Consecutive: 10, LongRun: 30, RealmAlarm: 100}) {
		t.Errorf("retail = %+v", got)
	}
	for i, most := range []int{0, 1} { // staff may have several tokens, a customer one
		if r := c.Realms[i]; r.TokensPerUser != most || r.ReissueCooldown != 30*time.Minute {
			t.Errorf("%s: tokens_per_user %d, reissue_cooldown %v", r.ID, r.TokensPerUser, r.ReissueCooldown)
		}
	}
	if got := c.Realms[0].Lockout.UnlockAfter; got != 30*time.Minute {
		t.Errorf("staff's unlock_after = %v", got)
	}
}

func TestShippedIsTheFileAtTheTop(t *testing.T) {
	top, err := os.ReadFile("../gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(top, config.Shipped()) {
		t.Error("config/shipped.yaml differs from gateway.yaml: cp gateway.yaml config/shipped.yaml")
	}
}

// The portal in the shipped file works when its # are taken away.
func TestShippedPortalExample(t *testing.T) {
	before, example, found := strings.Cut(string(config.Shipped()), "    # - id: portal\n")
	if !found {
		t.Fatal("there is no example of a portal")
	}
	example = regexp.MustCompile("(?m)^    # ").ReplaceAllString("    # - id: portal\n"+example, "    ")
	write(t, map[string]string{"gateway.yaml": before + example, "portal.jwks.json": publicKeys(t)})
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if len(c.OIDC.Clients) != 1 {
		t.Fatalf("clients = %+v", c.OIDC.Clients)
	}
	p := c.OIDC.Clients[0]
	if p.ID != "portal" || p.Realm != "retail" || p.Profile != "fapi2" || len(p.JWKS.Keys) != 1 ||
		!cmp.Equal(p.RedirectURIs, []string{"https://portal.bank.example/callback"}) {
		t.Errorf("portal = %+v", p)
	}
}

func TestDefaults(t *testing.T) {
	write(t, map[string]string{"gateway.yaml": minimal + `
radius:
  udp: [":1812"]
  clients: [{name: vpn, address: "2001:db8::1", secret_file: s, realm: staff}]
`, "s": "0123456789abcdef\n"})
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	vpn := c.Radius.Clients[0]
	got := []any{
		c.DataDir, c.MasterKeyFile, c.DatabaseFile(), c.Store.Engine, c.Listen.HTTPS, c.Listen.TLS == nil,
		c.Listen.Metrics, c.Listen.AdminSocket, c.Realms[0].OTP, c.Realms[0].Lockout,
		vpn.Address.String(), vpn.Mode, vpn.RequireMessageAuthenticator, string(vpn.Secret.Bytes()),
	}
	want := []any{
		"data", "data/master.key", "data/otpgate.db", "bolt", "127.0.0.1:8443", true,
		"127.0.0.1:9464", "data/admin.sock",
		config.OTP{Type: "totp", Digits: 6, Period: 30, Algorithm: "SHA1"},
		config.Lockout{Consecutive: 10, LongRun: 30, RealmAlarm: 100},
		"2001:db8::1/128", "otp", true, "0123456789abcdef",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	write(t, nil)
	if err := os.Mkdir("etc", 0o700); err != nil {
		t.Fatal(err)
	}
	text := minimal + "data_dir: ../var\nmaster_key_file: /run/master.key\n"
	if err := os.WriteFile("etc/gateway.yaml", []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load("etc/gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	got := []string{c.DataDir, c.MasterKeyFile, c.Listen.AdminSocket}
	if want := []string{"var", "/run/master.key", "var/admin.sock"}; !cmp.Equal(got, want) {
		t.Errorf("paths = %q, want %q", got, want)
	}
}

// What people do to a file, and all that they are told at once.
func TestFaults(t *testing.T) {
	client := func(s string) string {
		return minimal + "radius:\n  udp: [\":1812\"]\n  clients:\n    - {" + s + "}\n"
	}
	portal := func(s string) string { return minimal + "  clients:\n    - {" + s + "}\n" }
	tests := map[string]struct {
		file string
		want []string
	}{
		"the four of issue 2": {`data_dir: data
data_dir: elsewhere
realms:
  - id: staff
    service_id: "0001"
    name: { ja: 行内, en: Staff }
    otp: { digits: six, perod: 30 }
radius:
  udp: [":1812"]
  clients:
    - { name: vpn, address: 127.0.0.1, secret_file: vpn.secret, realm: staff }
oidc: { issuer: "https://localhost:8443" }
`, []string{
			`2:1: data_dir: is given twice: the first is in line 1`,
			`7:20: realms[0].otp.digits: must be a whole number, not the text "six"`,
			`7:25: realms[0].otp.perod: unknown key; did you mean period?`,
			`11:53: radius.clients[0].secret_file: vpn.secret can't be read: no such file or directory: (umask 077; openssl rand -base64 24 > FILE) makes one`,
		}},
		"nothing":        {"", []string{"1:1: is empty; otpgate config init writes a file to begin with"}},
		"comments alone": {"# realms:\n", []string{"1:1: is empty; otpgate config init writes a file to begin with"}},
		"a list":         {"- a\n", []string{"1:1: must be keys with values, not a list"}},
		"an empty map": {"{}", []string{
			"1:1: realms: is missing",
			"1:1: oidc: is missing",
		}},
		"a bracket left open": {"realms: [{id: a}\noidc:\n", []string{
			"2:1: is no valid YAML: did not find expected ',' or ']' (while parsing a flow sequence that begins at line 1)",
		}},
		"a tab":         {"realms:\n\t- id: a\n", []string{"2:1: is no valid YAML: found character that cannot start any token (while scanning for the next token that begins at line 2)"}},
		"Shift JIS":     {"realms:\n  - {name: {ja: \x8ds\x93\xe0}}\n", []string{"2:17: is no UTF-8 text here; save the file as UTF-8"}},
		"two documents": {minimal + "---\na: 1\n", []string{"5:1: a second YAML document begins here; one is allowed"}},
		"anchors": {`realms:
  - {id: a, service_id: "1", name: &n {ja: あ, en: A}}
  - {id: b, service_id: "2", name: *n}
oidc: {issuer: "https://localhost"}
`, []string{
			"2:36: realms[0].name: anchors (&) and aliases (*) aren't allowed here: write the value out",
			"3:36: realms[1].name: anchors (&) and aliases (*) aren't allowed here: write the value out",
		}},
		"types": {`data_dir: [data]
master_key_file: ""
store: bolt
listen: { https: 8443, metrics: localhost, admin_socket: "a\tb" }
realms:
  - id: Staff
    service_id: 0001
    name: 行内
    otp: { type: motp, digits: "6", period: 1_0, algorithm: MD5 }
    lockout: { consecutive: 0, unlock_after: 30 }
    theme: { accent: #1f4e79
    }
  - [x]
radius:
  udp: ":1812"
  clients:
    - { name: vpn, address: 10.0.0.1/8, secret_env: "s3cret!", realm: ~, mode: chap, require_message_authenticator: no }
oidc:
  issuer: https://otp.example/
  clients: 5
`, []string{
			`1:11: data_dir: must be text, not a list`,
			`2:18: master_key_file: must not be empty`,
			`3:8: store: must be keys with values, not the text "bolt"`,
			`4:18: listen.https: must be text, not the number 8443: put it in quotes, "8443"`,
			`4:33: listen.metrics: must be an address and a port, such as 127.0.0.1:8443, [::1]:8443 or :8443, not "localhost"`,
			`4:58: listen.admin_socket: must not have line breaks, tabs or other control characters in it`,
			`6:9: realms[0].id: must be lower-case letters, digits and hyphens, a letter first, not "Staff"`,
			`7:17: realms[0].service_id: must be text, not the number 0001: put it in quotes, "0001"`,
			`8:11: realms[0].name: must be keys with values, not the text "行内"`,
			`9:18: realms[0].otp.type: must be totp or hotp, not "motp"`,
			`9:32: realms[0].otp.digits: must be a whole number, not the text "6": leave out the quotes`,
			`9:45: realms[0].otp.period: must be a whole number in plain digits, not "1_0"`,
			`9:61: realms[0].otp.algorithm: must be SHA1, SHA256 or SHA512, not "MD5"`,
			`10:29: realms[0].lockout.consecutive: must be from 1 to 100, not 0`,
			`10:46: realms[0].lockout.unlock_after: must be a time with its unit, such as 90s, 30m or 12h, not the number 30`,
			`11:14: realms[0].theme.accent: must be text, not empty (a value that begins with # needs quotes)`,
			`13:5: realms[1]: must be keys with values, not a list`,
			`15:8: radius.udp: must be a list, not the text ":1812"`,
			`17:29: radius.clients[0].address: 10.0.0.1/8 is an address inside a network: write 10.0.0.0/8 for the network or 10.0.0.1 for the one machine`,
			`17:53: radius.clients[0].secret_env: must be the name of an environment variable, never the secret itself, not "s3cret!"`,
			`17:71: radius.clients[0].realm: must be text, not empty`,
			`17:80: radius.clients[0].mode: must be otp, password+otp or challenge, not "chap"`,
			`17:117: radius.clients[0].require_message_authenticator: must be true or false, not the text "no"`,
			`19:11: oidc.issuer: must be https:// and a host, with no path and no slash at the end, such as https://otp.bank.example, not "https://otp.example/"`,
			`20:12: oidc.clients: must be a list, not the number 5`,
		}},
		"bounds": {`realms:
  - id: a
    service_id: "1"
    name: { ja: "", en: A }
    otp: { digits: 9, period: 14 }
    lockout: { consecutive: 101, unlock_after: 59s }
    theme: { accent: "#777777" }
  - { id: b, service_id: "12345678901", name: { ja: あ, en: B }, otp: { digits: 5, period: 121 }, lockout: { unlock_after: 0s } }
oidc: { issuer: "https://localhost" }
`, []string{
			`4:17: realms[0].name.ja: must not be empty`,
			`5:20: realms[0].otp.digits: must be from 6 to 8, not 9`,
			`5:31: realms[0].otp.period: must be from 15 to 120, not 14`,
			`6:29: realms[0].lockout.consecutive: must be from 1 to 100, not 101`,
			`6:48: realms[0].lockout.unlock_after: must be from 1m to 168h, not 59s`,
			`7:22: realms[0].theme.accent: #777777 has a contrast of 4.4:1 against white, and 4.5:1 is needed to read it: take a darker one`,
			`8:26: realms[1].service_id: must have at most 10 characters, and has 11`,
			`8:80: realms[1].otp.digits: must be from 6 to 8, not 5`,
			`8:91: realms[1].otp.period: must be from 15 to 120, not 121`,
			`8:123: realms[1].lockout.unlock_after: must be from 1m to 168h, not 0s`,
		}},
		"duplicates": {`listen: { https: ":8443", metrics: ":8443" }
realms:
  - { id: a, service_id: "1", name: { ja: あ, en: A } }
  - { id: a, service_id: "1", name: { ja: い, en: B } }
radius:
  udp: [":1812", ":1812", ":0", ":0"]
  clients:
    - { name: vpn, address: 10.0.0.1, secret_file: s, realm: a }
    - { name: vpn, address: 10.0.0.1/32, secret_file: s, realm: a }
    - { name: lan, address: 10.0.0.0/24, secret_file: s, realm: a }
oidc:
  issuer: https://localhost
  clients:
    - { id: p, realm: a, redirect_uris: [https://p.example/, https://p.example/], jwks_file: k }
    - { id: p, realm: a, redirect_uris: [https://p.example/], jwks_file: k }
`, []string{
			`1:36: listen.metrics: is the same address as https: :8443`,
			`4:11: realms[1].id: "a" is taken by realms[0].id (line 3)`,
			`4:26: realms[1].service_id: "1" is taken by realms[0].service_id (line 3)`,
			`6:18: radius.udp[1]: ":1812" is taken by radius.udp[0] (line 6)`,
			`9:15: radius.clients[1].name: "vpn" is taken by radius.clients[0].name (line 8)`,
			`9:29: radius.clients[1].address: "10.0.0.1/32" is taken by radius.clients[0].address (line 8)`,
			`14:62: oidc.clients[0].redirect_uris[1]: "https://p.example/" is taken by oidc.clients[0].redirect_uris[0] (line 14)`,
			`15:13: oidc.clients[1].id: "p" is taken by oidc.clients[0].id (line 14)`,
		}},
		"a secret written down": {client("name: vpn, address: 10.0.0.1, secret: hunter2hunter2hunter2, realm: staff"), []string{
			`8:7: radius.clients[0]: has no secret: give secret_file, the path of a file, or secret_env, the name of an environment variable`,
			`8:38: radius.clients[0].secret: unknown key; did you mean secret_file or secret_env?`,
		}},
		"two secrets": {client("name: vpn, address: 10.0.0.1, secret_file: s, secret_env: HOME, realm: staff"), []string{
			`8:66: radius.clients[0].secret_env: is given beside secret_file: leave one of them out`,
		}},
		"a secret that is not set": {client("name: vpn, address: 10.0.0.1, secret_env: OTPGATE_NO_SUCH, realm: staff"), []string{
			`8:50: radius.clients[0].secret_env: the environment variable OTPGATE_NO_SUCH isn't set`,
		}},
		"a short secret": {client("name: vpn, address: 10.0.0.1, secret_file: short, realm: staff"), []string{
			`8:51: radius.clients[0].secret_file: short holds a secret of 15 characters; 16 are needed (RFC 2865): (umask 077; openssl rand -base64 24 > FILE) makes one`,
		}},
		"a secret of two lines": {client("name: vpn, address: 10.0.0.1, secret_file: lines, realm: staff"), []string{
			`8:51: radius.clients[0].secret_file: lines holds something other than one line of text`,
		}},
		"a directory for a secret": {client("name: vpn, address: 10.0.0.1, secret_file: ., realm: staff"), []string{
			`8:51: radius.clients[0].secret_file: . is no regular file`,
		}},
		"a realm that isn't there": {client("name: vpn, address: 10.0.0.1, secret_file: s, realm: stuff"), []string{
			`8:61: radius.clients[0].realm: there is no realm "stuff"; there is staff`,
		}},
		"clients and no listener": {minimal + "radius:\n  clients: [{name: v, address: 10.0.0.1, secret_file: s, realm: staff}]\n", []string{
			`6:3: radius.udp: is missing or empty: the clients have nowhere to ask; the usual address is :1812`,
		}},
		"clients and an empty listener": {minimal + "radius:\n  udp: []\n  clients: [{name: v, address: 10.0.0.1, secret_file: s, realm: staff}]\n", []string{
			`6:8: radius.udp: is missing or empty: the clients have nowhere to ask; the usual address is :1812`,
		}},
		"a portal that has nothing": {portal("{}: x"), []string{
			`6:7: oidc.clients[0].id: is missing`,
			`6:7: oidc.clients[0].realm: is missing`,
			`6:7: oidc.clients[0].redirect_uris: is missing`,
			`6:7: oidc.clients[0].jwks_file: is missing: give it, the file of the portal's public keys, or jwks_uri, their address`,
			`6:8: oidc.clients[0]: a key must be a word, not keys with values`,
		}},
		"redirect addresses": {portal(`id: p, realm: staff, jwks_file: k, redirect_uris: [` +
			`"http://p.example/", "http://127.0.0.1:9/", "/cb", "https://p.example/#x", "https://*.example/", "app:cb", "https://p.example:0/", "https://p.example/あ"]`), []string{
			`6:59: oidc.clients[0].redirect_uris[0]: must be https (http for loopback only), not "http://p.example/"`,
			`6:103: oidc.clients[0].redirect_uris[2]: must be an absolute URI, such as https://portal.bank.example/callback, not "/cb"`,
			`6:110: oidc.clients[0].redirect_uris[3]: must have no user, no # and no * in it: it is compared letter by letter`,
			`6:134: oidc.clients[0].redirect_uris[4]: must have no user, no # and no * in it: it is compared letter by letter`,
			`6:156: oidc.clients[0].redirect_uris[5]: must be an absolute URI, such as https://portal.bank.example/callback, not "app:cb"`,
			`6:166: oidc.clients[0].redirect_uris[6]: must be an absolute URI, such as https://portal.bank.example/callback, not "https://p.example:0/"`,
			`6:190: oidc.clients[0].redirect_uris[7]: must be an absolute URI, such as https://portal.bank.example/callback, not "https://p.example/あ"`,
		}},
		"no redirect address": {portal(`id: p, realm: staff, jwks_file: k, redirect_uris: []`), []string{
			`6:58: oidc.clients[0].redirect_uris: must have at least 1, and has 0`,
		}},
		"too many redirect addresses": {portal(`id: p, realm: staff, jwks_file: k, redirect_uris: [` + manyURIs(65) + `]`), []string{
			`6:58: oidc.clients[0].redirect_uris: must have at most 64, and has 65`,
		}},
		"a socket too deep": {minimal + "listen: {admin_socket: " + strings.Repeat("d", 108) + "}\n", []string{
			"5:24: listen.admin_socket: is a path of 108 bytes, and a unix socket's may have 107: " + strings.Repeat("d", 108),
		}},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			write(t, map[string]string{
				"gateway.yaml": tt.file, "s": "0123456789abcdef", "short": "0123456789abcde\n",
				"lines": "0123456789abcdef\n0123456789abcdef\n", "k": publicKeys(t),
			})
			if diff := cmp.Diff(tt.want, faultsOf(t)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func manyURIs(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, "https://p.example/%d, ", i)
	}
	return b.String()
}

// The commands find the daemon without being able to read its secrets, but not
// by a file that is wrong.
func TestAdminSocket(t *testing.T) {
	text := strings.Replace(twoClients, "data/in/s", "/run/secrets/none", 1) +
		"listen: {admin_socket: run/s.sock, tls: {cert_file: none, key_file: none}}\n"
	write(t, map[string]string{"gateway.yaml": text, "wrong.yaml": strings.Replace(text, "admin_socket", "admin_sock", 1)})
	if got, err := config.AdminSocket("gateway.yaml"); got != "run/s.sock" || err != nil {
		t.Errorf("AdminSocket = %q, %v; want run/s.sock", got, err)
	}
	want := "wrong.yaml:10:10: listen.admin_sock: unknown key; did you mean admin_socket?"
	if got, err := config.AdminSocket("wrong.yaml"); got != "" || err == nil || err.Error() != want {
		t.Errorf("AdminSocket = %q, %v; want %s", got, err, want)
	}
}

func TestIssuers(t *testing.T) {
	for issuer, good := range map[string]bool{
		"https://localhost:8443": true, "https://otp.bank.example": true, "https://[::1]:8443": true,
		"http://localhost": false, "https://a/": false, "https://a/b": false, "https://a?b": false, "https://a#b": false,
		"https://u@a": false, "https://A.example": false, "https://a:99999": false, "https://a:": false, "https://:8443": false,
		"https://a b": false, "https://銀行.example": false, "a": false, "": false,
	} {
		write(t, map[string]string{"gateway.yaml": strings.Replace(minimal, "https://localhost:8443", fmt.Sprintf("%q", issuer), 1)})
		if _, err := config.Load("gateway.yaml"); (err == nil) != good {
			t.Errorf("issuer %q: %v", issuer, err)
		}
	}
}

func TestAccents(t *testing.T) {
	for accent, good := range map[string]bool{
		"#000000": true, "#14467c": true, "#C00000": true, "#767676": true, // 4.54:1
		"#777777": false, "#ffd400": false, "#FFFFFF": false, "#fff": false, "navy": false, "#14467g": false,
	} {
		realm := fmt.Sprintf(", theme: {accent: %q}}\noidc", accent)
		write(t, map[string]string{"gateway.yaml": strings.Replace(minimal, "}\noidc", realm, 1)})
		if _, err := config.Load("gateway.yaml"); (err == nil) != good {
			t.Errorf("accent %s: %v", accent, err)
		}
	}
}

func TestFileAsAWhole(t *testing.T) {
	write(t, map[string]string{"big.yaml": "#" + strings.Repeat(" ", 1<<20)})
	for file, want := range map[string]string{
		"none.yaml": "none.yaml: there is no such file; otpgate config init writes one to begin with",
		"big.yaml":  "big.yaml: is larger than 1 MiB",
		".":         ".: can't be read: is a directory",
	} {
		if _, err := config.Load(file); err == nil || err.Error() != want {
			t.Errorf("Load(%s) = %v, want %s", file, err, want)
		}
	}
}

// A file of another kind has a fault on every line; nobody reads them all.
func TestFaultsAreBounded(t *testing.T) {
	var b strings.Builder
	for i := range 5000 {
		fmt.Fprintf(&b, "key%d: 1\n", i)
	}
	write(t, map[string]string{"gateway.yaml": b.String()})
	_, err := config.Load("gateway.yaml")
	var faults config.Faults
	if !errors.As(err, &faults) || len(faults) != 101 {
		t.Fatalf("%d faults, want 100 and a last word", len(faults))
	}
	if got, want := faults[100].String(), "gateway.yaml: has more faults than these: correct them first"; got != want {
		t.Errorf("last fault = %q, want %q", got, want)
	}
}
