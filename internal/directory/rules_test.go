package directory

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"testing"

	"github.com/go-ldap/ldap/v3"

	"otpgate/verifier"
)

func TestConfig(t *testing.T) {
	for name, change := range map[string]func(*Config){
		"no server":                 func(c *Config) { c.Servers = nil },
		"too many":                  func(c *Config) { c.Servers = slices.Repeat(c.Servers, maxServers+1) },
		"no TLS to be had":          func(c *Config) { c.Servers = []string{"ldapi:///run/slapd.sock"} },
		"a base in the URL":         func(c *Config) { c.Servers = []string{"ldaps://dc1.example/dc=example"} },
		"a password in the URL":     func(c *Config) { c.Servers = []string{"ldaps://me:hush@dc1.example"} },
		"no host":                   func(c *Config) { c.Servers = []string{"ldaps://:636"} },
		"no limit worth it":         func(c *Config) { c.Limit = maxLimit + 1 },
		"no account":                func(c *Config) { c.Account = Account{} },
		"no password":               func(c *Config) { c.Account.Password = nil },
		"no base":                   func(c *Config) { c.Users.Base = "" },
		"no user in the filter":     func(c *Config) { c.Users.Filter = "(uid=alice)" },
		"half a filter":             func(c *Config) { c.Users.Filter = "(uid={user}" },
		"template and search":       func(c *Config) { c.Users.Template = "uid={user},dc=example" },
		"template without a user":   func(c *Config) { c.Users = Users{Template: "uid=alice,dc=example"} },
		"template that is the user": func(c *Config) { c.Users = Users{Template: "{user}"} },
		"template that is no DN":    func(c *Config) { c.Users = Users{Template: "uid={user},example"} },
		"groups without a person":   func(c *Config) { c.Groups = Groups{Base: "dc=example", Filter: "(cn=vpn)"} },
		"groups without a base":     func(c *Config) { c.Groups = Groups{Filter: "(member={dn})"} },
		"groups in two places":      func(c *Config) { c.Groups = Groups{Attribute: "memberOf", Base: "dc=example"} },
		"template, groups, no account": func(c *Config) {
			*c = templating(c.Servers...)
			c.Groups.Attribute = "memberOf"
		},
	} {
		cfg := searching("ldaps://dc1.example")
		change(&cfg)
		if d, err := New(cfg); err == nil || d != nil {
			t.Errorf("%s: taken", name)
		} else if strings.Contains(err.Error(), "hush") {
			t.Errorf("a password is in %v", err)
		}
	}
	for _, cfg := range []Config{searching("ldaps://dc1.example"), templating("ldap://[::1]:10389"), searching("ldaps://a", "ldap://b")} {
		if _, err := New(cfg); err != nil {
			t.Error(err)
		}
	}
}

func TestSecretDoesNotPrint(t *testing.T) {
	cfg := searching("ldaps://dc1.example")
	var log strings.Builder
	slog.New(slog.NewJSONHandler(&log, nil)).Info("x", "account", cfg.Account, "password", cfg.Account.Password)
	if all := fmt.Sprintf("%v %+v %#v %s %x", cfg, cfg, cfg.Account, cfg.Account.Password, cfg.Account.Password) + log.String(); strings.Contains(all, accountPassword) ||
		strings.Contains(all, fmt.Sprintf("%x", accountPassword)) || !strings.Contains(all, hidden) {
		t.Errorf("printed: %s", all)
	}
}

func TestReason(t *testing.T) {
	const ad = "80090308: LdapErr: DSID-0C09050F, comment: AcceptSecurityContext error, data %s, v4f7c"
	for code, want := range map[string]string{
		"525": "", "52e": "", "533": "disabled", "701": "account has expired", "773": "must be changed", "775": "locked", "532": "password has expired",
	} {
		got := reason(nil, ldap.NewError(ldap.LDAPResultInvalidCredentials, fmt.Errorf(ad, code)))
		if !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("data %s: %q", code, got)
		}
	}
	if got := reason(nil, ldap.NewError(ldap.LDAPResultUnwillingToPerform, errors.New(strings.Repeat("Account inactivated. ", 100)))); !strings.Contains(got, "inactivated") || len(got) > 300 {
		t.Errorf("53: %q", got)
	}
	if got := reason(&ldap.SimpleBindResult{Controls: []ldap.Control{&ldap.ControlVChuPasswordMustChange{}}}, nil); got == "" {
		t.Error("a bind that allows nothing but a change of the password is right")
	}
	if got := reason(&ldap.SimpleBindResult{Controls: []ldap.Control{ldap.NewControlBeheraPasswordPolicy()}}, nil); got != "" {
		t.Errorf("a policy that has nothing to say: %q", got)
	}
}

// What a directory gives is what the gate would take, in number and in kind.
func TestGroupNames(t *testing.T) {
	if maxGroup != verifier.MaxGroup || maxGroups != verifier.MaxGroups || maxGroupsBytes != verifier.MaxGroupsBytes {
		t.Error("the gate has other bounds")
	}
	s := newSite(t, searching("ldaps://dc1.example"))
	fits := strings.Repeat("g", maxGroup)
	got := s.names([]string{
		"cn=b,dc=example", "CN=a,DC=example", "cn=b,ou=other", "cn=" + fits + ",dc=example", `cn=支店\20,dc=example`, "cn=支店,dc=example",
		"cn=" + fits + "x,dc=example", `cn=x\2Cy`, `cn=bell\07`, "no name", "", `cn=\ff\fe`,
	})
	if want := []string{"a", "b", fits, "支店"}; !slices.Equal(got, want) {
		t.Errorf("%q", got)
	}
	var many, long []string
	for i := range 1000 {
		many = append(many, fmt.Sprintf("cn=g%03d,dc=example", 999-i))
		long = append(long, fmt.Sprintf("cn=%03d%s,dc=example", i, fits[3:]))
	}
	if got := s.names(many); len(got) != maxGroups || got[0] != "g000" {
		t.Errorf("%q", got)
	}
	if got := s.names(long); len(strings.Join(got, ",")) > maxGroupsBytes || len(got) != 3 {
		t.Errorf("%q", got)
	}
	if n := strings.Count(s.log.String(), "\n"); n != maxLeftOut {
		t.Errorf("%d lines in the log", n)
	}
}

// FuzzFilled looks for a user whose name is more than a value in a filter or in
// a distinguished name.
func FuzzFilled(f *testing.F) {
	for _, user := range []string{"alice", "*", ")(uid=*", `\`, `\2a`, "{dn}", "{user}", " a ", "#", `a,dc=b+c="d;<>`, "支店"} {
		f.Add(user)
	}
	f.Fuzz(func(t *testing.T, user string) {
		if !possible(user) {
			t.Skip()
		}
		packet, err := ldap.CompileFilter(filled("(&(uid={user})(member={dn}))", "cn="+user, user))
		if err != nil {
			t.Fatal(err)
		}
		if parts := packet.Children; len(parts) != 2 || parts[0].Children[1].Data.String() != user || parts[1].Children[1].Data.String() != "cn="+user {
			t.Errorf("%q means something else in a filter", user)
		}
		dn, err := ldap.ParseDN(entryName("uid={user},ou=people,dc=example", user))
		if err != nil {
			t.Fatal(err)
		}
		if len(dn.RDNs) != 3 || len(dn.RDNs[0].Attributes) != 1 || dn.RDNs[0].Attributes[0].Value != user {
			t.Errorf("%q means something else in a name: %v", user, dn)
		}
	})
}
