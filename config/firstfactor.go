package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The first factors that no entry of radius.first_factors makes.
const (
	NoFactor  = "none" // only the code
	PINFactor = "pin"  // a PIN of ours
)

// The modes of a client, as gateway.yaml has them.
const (
	ModeOTP         = "otp"
	ModePasswordOTP = "password+otp"
	ModeChallenge   = "challenge"
)

// checkFirstFactors reads the files of radius.first_factors.
func checkFirstFactors(r *Radius, d *decoder) {
	names := d.unique()
	for i := range r.FirstFactors {
		f, at := &r.FirstFactors[i], fmt.Sprintf("radius.first_factors[%d]", i)
		names(f.Name, at+".name")
		if f.Name == NoFactor || f.Name == PINFactor {
			d.fault(at+".name", "%s means something else in a client's first_factor: choose another name", f.Name)
		}
		ldap, radius := d.has(at+".ldap"), d.has(at+".radius")
		if ldap == radius {
			d.fault(at, "must have either ldap or radius")
		}
		if f.LDAP != nil {
			checkLDAP(f.LDAP, d, at+".ldap")
		}
		if f.Radius != nil {
			checkUpstream(f.Radius, r.UDP, d, at+".radius")
		}
	}
}

func checkLDAP(l *LDAPFactor, d *decoder, at string) {
	l.CAs = d.authorities(at+".ca_file", l.CAFile)
	servers := d.unique()
	for i, server := range l.Servers {
		servers(strings.ToLower(server), fmt.Sprintf("%s.servers[%d]", at, i))
	}
	switch byDN, bySearch := d.has(at+".user_dn"), d.has(at+".base_dn") || d.has(at+".filter"); {
	case byDN && bySearch:
		d.fault(at+".user_dn", "is given beside base_dn or filter: a person is found by the one or by the others")
	case byDN && l.UserDN != "" && !strings.Contains(l.UserDN, "={user}"):
		d.fault(at+".user_dn", "must have {user} as a value in it, such as uid={user},ou=people,dc=bank,dc=example")
	case !byDN:
		d.search(at, "user_dn, or base_dn and filter,", l.Filter, "{user}")
	}
	searches := !d.has(at + ".user_dn")
	if l.Groups != nil {
		searches = true
		checkLDAPGroups(l.Groups, d, at+".groups")
	}
	checkBind(l, searches, d, at)
}

func checkLDAPGroups(g *LDAPGroups, d *decoder, at string) {
	switch bySearch := d.has(at+".base_dn") || d.has(at+".filter"); {
	case d.has(at+".attribute") && bySearch:
		d.fault(at+".attribute", "is given beside base_dn or filter: groups are found by the one or by the others")
	case !d.has(at + ".attribute"):
		d.search(at, "attribute, or base_dn and filter,", g.Filter, "{dn}", "{user}")
	}
}

// search checks base_dn and filter at a path that must have both, and the filter
// one of the placeholders: without it, it would find the same for everybody.
func (d *decoder) search(at, must, filter string, placeholders ...string) {
	if !d.has(at+".base_dn") || !d.has(at+".filter") {
		d.fault(at, "must have %s to find by", must)
		return
	}
	has := func(placeholder string) bool { return strings.Contains(filter, placeholder) }
	if filter != "" && !slices.ContainsFunc(placeholders, has) {
		d.fault(at+".filter", "must have %s in it, or it finds the same for everybody", alternatives(placeholders))
	}
}

// checkBind reads the password of the account that searches are made as.
func checkBind(l *LDAPFactor, searches bool, d *decoder, at string) {
	dn, file, env := d.has(at+".bind_dn"), d.has(at+".bind_password_file"), d.has(at+".bind_password_env")
	switch {
	case file && env:
		d.fault(at+".bind_password_env", "is given beside bind_password_file: leave one of them out")
		return
	case searches && !dn:
		d.fault(at, "must have bind_dn: the search for people or groups is made as that account")
	case !searches && dn:
		d.fault(at+".bind_dn", "is for nothing: with user_dn and no groups there is no search")
	case dn != (file || env):
		d.fault(at, "must have bind_dn with bind_password_file or bind_password_env, or neither")
	}
	l.BindPassword = d.secret(at, "bind_password", l.BindPasswordFile, l.BindPasswordEnv, password)
}

// secret reads what a file or an environment variable holds, those of
// NAME_file or NAME_env at path.
func (d *decoder) secret(path, name, file, env string, is kind) Secret {
	var secret Secret
	var err error
	switch {
	case file != "":
		path += "." + name + "_file"
		secret, err = readSecret(file, is)
	case env != "":
		path += "." + name + "_env"
		secret, err = envSecret(env, is)
	}
	if err != nil {
		d.fault(path, "%v", err)
	}
	return secret
}

// checkUpstream checks another RADIUS server, which must not be this one.
func checkUpstream(r *RadiusFactor, ours []string, d *decoder, at string) {
	servers := d.unique()
	for i, server := range r.Servers {
		path := fmt.Sprintf("%s.servers[%d]", at, i)
		if server == "" {
			continue
		}
		addr, err := netip.ParseAddrPort(server)
		if err != nil || addr.Port() == 0 {
			d.fault(path, "must be an address and a port, such as 192.0.2.10:1812 or [2001:db8::10]:1812, not %s", quote(server))
			continue
		}
		addr = netip.AddrPortFrom(addr.Addr().Unmap(), addr.Port())
		servers(addr.String(), path)
		if slices.Contains(ours, addr.String()) {
			d.fault(path, "is this gateway itself (radius.udp): it would ask itself without end")
		}
		r.Addresses = append(r.Addresses, addr)
	}
	file, env := at+".secret_file", at+".secret_env"
	switch {
	case d.has(file) && d.has(env):
		d.fault(env, "is given beside secret_file: leave one of them out")
		return
	case !d.has(file) && !d.has(env):
		d.fault(at, "has no secret: give secret_file, the path of a file, or secret_env, the name of an environment variable")
	}
	r.Secret = d.secret(at, "secret", r.SecretFile, r.SecretEnv, sharedSecret)
}

// checkMode finds a client's mode and first factor that don't go together.
func checkMode(c *Config, d *decoder, client *RadiusClient, at string) {
	if d.has(at+".code_position") && client.Mode != "" && client.Mode != ModePasswordOTP {
		d.fault(at+".code_position", "is for nothing: only in mode password+otp the code stands beside something")
	}
	name, path := client.FirstFactor, at+".first_factor"
	known := name == NoFactor || name == PINFactor
	migrating := false
	for _, f := range c.Radius.FirstFactors {
		if f.Name == name && name != "" {
			known, migrating = true, f.Radius != nil && f.Radius.Migrating
		}
	}
	switch {
	case name == "" || client.Mode == "": // which have a fault
	case !known:
		d.fault(path, "there is no %s: it must be %s", quote(name), alternatives(c.Radius.factorNames()))
	case client.Mode == ModeOTP && name != NoFactor && !migrating:
		d.fault(path, "%s is never asked for in mode otp: take mode password+otp or challenge, or leave it out", name)
	case client.Mode == ModePasswordOTP && name == NoFactor:
		d.fault(at+".mode", "password+otp needs a first_factor: pin, or the name of one of radius.first_factors")
	case client.Mode == ModeChallenge && !d.has(path): // which would be taken for a second factor, and be none
		d.fault(at+".mode", "challenge without a first_factor takes any password: say first_factor: pin, or the name of one of radius.first_factors; first_factor: none if the code alone is meant")
	}
}

// factorNames is what a client's first_factor can be.
func (r *Radius) factorNames() []string {
	names := []string{NoFactor, PINFactor}
	for _, f := range r.FirstFactors {
		if f.Name != "" {
			names = append(names, f.Name)
		}
	}
	return names
}
