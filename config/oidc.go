package config

import (
	"crypto/x509"
	"fmt"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/oidc/dn"
)

// Values of an OIDC client's profile and auth that its other keys depend upon.
const (
	fapi2    = "fapi2"
	entraEAM = "entra-eam"

	privateKeyJWT = "private_key_jwt"
	tlsClientAuth = "tls_client_auth"
	selfSignedTLS = "self_signed_tls_client_auth"
	secretBasic   = "client_secret_basic"
	secretPost    = "client_secret_post"
	noAuth        = "none"

	byMTLS = "mtls"

	objectsAllowed  = "allowed"
	objectsRequired = "required"

	// idTokenHint is what the keys of an issuer of hints are for, in place of auth.
	idTokenHint = "id_token_hint"
	// entraExpired is the default of expired_for with profile entra-eam: Microsoft
	// Entra gives a log-in up after about 10 minutes.
	entraExpired = 10 * time.Minute
)

// entraRedirects are where Microsoft Entra takes answers: all of it, US Government,
// 21Vianet.
func entraRedirects() []string {
	return []string{
		"https://login.microsoftonline.com/common/federation/externalauthprovider",
		"https://login.microsoftonline.us/common/federation/externalauthprovider",
		"https://login.partner.microsoftonline.cn/common/federation/externalauthprovider",
	}
}

// minKeyRotation is the least time between two signing keys.
const minKeyRotation = 7 * 24 * time.Hour

func checkOIDC(c *Config, d *decoder) {
	if c.OIDC.Issuer != "" {
		if problem := checkIssuer(c.OIDC.Issuer); problem != "" {
			d.fault("oidc.issuer", "%s", problem)
		}
	}
	if c.OIDC.MTLSURL != "" {
		if problem := checkIssuer(c.OIDC.MTLSURL); problem != "" {
			d.fault("oidc.mtls_url", "%s", problem)
		}
		if !d.has("listen.https_mtls") {
			d.fault("oidc.mtls_url", "is the address of listen.https_mtls, which is missing")
		}
	}
	if r := c.OIDC.KeyRotation; r > 0 && r < minKeyRotation { // each key is published for two days before it signs
		d.fault("oidc.key_rotation", "must be 0s, or from 168h to 17520h, not %s", r)
	}
	ids := d.unique()
	for i := range c.OIDC.Clients {
		client, at := &c.OIDC.Clients[i], fmt.Sprintf("oidc.clients[%d]", i)
		ids(client.ID, at+".id")
		checkRealmOf(c, d, client.Realm, at+".realm")
		checkRedirects(client.RedirectURIs, d, at+".redirect_uris")
		checkHome(client, d, at)
		checkRedirects(client.PostLogoutRedirectURIs, d, at+".post_logout_redirect_uris")
		if client.Profile == "" { // it has a fault, and the rest depends upon it
			continue
		}
		client.byProfile(d, at)
		checkProfile(client, d, at)
		checkRequests(client, d, at)
		checkMutualTLS(client, d, at)
		checkCredentials(client, d, at)
	}
}

func checkRedirects(uris []string, d *decoder, at string) {
	taken := d.unique()
	for j, uri := range uris {
		path := fmt.Sprintf("%s[%d]", at, j)
		taken(uri, path)
		if problem := checkRedirect(uri); uri != "" && problem != "" {
			d.fault(path, "%s", problem)
		}
	}
}

// checkHome also fills in client_uri, where the file leaves it out.
func checkHome(c *OIDCClient, d *decoder, at string) {
	if d.has(at + ".client_uri") {
		if problem := checkRedirect(c.ClientURI); c.ClientURI != "" && problem != "" {
			d.fault(at+".client_uri", "%s", problem)
		}
		return
	}
	if len(c.RedirectURIs) == 0 {
		return // which has a fault
	}
	if first, err := url.Parse(c.RedirectURIs[0]); err == nil {
		c.ClientURI = first.Scheme + "://" + first.Host + "/"
	}
}

// byProfile fills in what the file leaves to the profile.
func (c *OIDCClient) byProfile(d *decoder, at string) {
	entra := c.Profile == entraEAM
	if !d.has(at + ".auth") {
		c.Auth = privateKeyJWT
		if entra {
			c.Auth = noAuth
		}
	}
	if !d.has(at + ".id_token_alg") {
		c.IDTokenAlg = "ES256"
		if entra {
			c.IDTokenAlg = "RS256"
		}
	}
	if !d.has(at+".request_object") && c.Auth == privateKeyJWT && !entra {
		c.RequestObject = objectsAllowed
	}
	for i := range c.HintIssuers {
		if entra && !d.has(fmt.Sprintf("%s.hint_issuers[%d].expired_for", at, i)) {
			c.HintIssuers[i].ExpiredFor = entraExpired
		}
	}
	if !d.has(at+".sender_constraint") && c.Profile == fapi2 {
		c.SenderConstraint = "dpop"
		if c.Auth == tlsClientAuth || c.Auth == selfSignedTLS {
			c.SenderConstraint = byMTLS
		}
	}
}

// checkProfile finds what the profile doesn't allow.
func checkProfile(c *OIDCClient, d *decoder, at string) {
	secret := c.Auth == secretBasic || c.Auth == secretPost
	switch {
	case secret && c.Profile == fapi2:
		d.fault(at+".auth", "a shared secret isn't allowed with profile fapi2: take private_key_jwt or a certificate; "+
			"a portal that can do neither has profile oidc")
	case c.Profile == entraEAM && c.Auth != noAuth && c.Auth != "":
		d.fault(at+".auth", "must be none, or left out, with profile entra-eam: Entra never asks by itself, its customers' browsers do")
	case c.Profile != entraEAM && c.Auth == noAuth:
		d.fault(at+".auth", "none is for profile entra-eam alone: anybody could say that they are this portal")
	}
	if c.Profile == fapi2 && c.IDTokenAlg == "RS256" {
		d.fault(at+".id_token_alg", "RS256 isn't allowed with profile fapi2 (FAPI 2.0 §5.4.1): take ES256, PS256 or EdDSA")
	}
	if c.Profile != entraEAM {
		return
	}
	for _, key := range []string{"sender_constraint", "rate", "post_logout_redirect_uris", "request_object", "bare_login_hint"} {
		if d.has(at + "." + key) {
			d.fault(at+"."+key, "is for portals that ask by themselves, which Entra (profile entra-eam) doesn't: leave it out")
		}
	}
	for i, uri := range c.RedirectURIs {
		if uri != "" && !slices.Contains(entraRedirects(), uri) {
			d.fault(fmt.Sprintf("%s.redirect_uris[%d]", at, i), "must be Microsoft's with profile entra-eam, such as %s", entraRedirects()[0])
		}
	}
	if len(c.HintIssuers) == 0 {
		d.fault(at+".hint_issuers", "is missing: the tenant that names its users, such as "+
			"[{ issuer: https://login.microsoftonline.com/TENANT-ID/v2.0, tenant: TENANT-ID, audience: APPLICATION-ID, "+
			"jwks_uri: https://login.microsoftonline.com/TENANT-ID/discovery/v2.0/keys }]")
	}
}

// checkRequests finds ways to name a customer that the profile doesn't have, or that
// contradict each other.
func checkRequests(c *OIDCClient, d *decoder, at string) {
	switch {
	case !c.BareLoginHint || c.Profile == entraEAM: // which has its own fault
	case c.Profile == fapi2:
		d.fault(at+".bare_login_hint", "isn't allowed with profile fapi2: its requests are pushed")
	case c.RequestObject == objectsRequired:
		d.fault(at+".bare_login_hint", "is of no use where request_object is required: leave one of them out")
	}
	issuers := d.unique()
	for i := range c.HintIssuers {
		issuer, path := &c.HintIssuers[i], fmt.Sprintf("%s.hint_issuers[%d]", at, i)
		issuers(issuer.Issuer, path+".issuer")
		if c.Profile == entraEAM && !d.has(path+".tenant") {
			d.fault(path+".tenant", "is missing: Microsoft Entra's tenant ID (tid)")
		}
		keys := keyFiles{issuer.JWKSFile, issuer.JWKSURI, issuer.JWKSCAFile}
		issuer.JWKS, issuer.JWKSCAs = keys.check(idTokenHint, d, path)
	}
}

// checkMutualTLS finds what nobody would answer for want of the listener.
func checkMutualTLS(c *OIDCClient, d *decoder, at string) {
	if d.has("listen.https_mtls") {
		return
	}
	const missing = "needs listen.https_mtls, which is missing: the address where portals show their certificate"
	switch {
	case c.Auth == tlsClientAuth || c.Auth == selfSignedTLS:
		d.fault(at+".auth", "%s "+missing, c.Auth)
	case c.SenderConstraint == byMTLS:
		d.fault(at+".sender_constraint", "mtls "+missing)
	}
}

// checkCredentials reads those that the client's auth goes by, and finds those
// that are missing or of no use.
func checkCredentials(c *OIDCClient, d *decoder, at string) {
	uses := map[string][]string{
		privateKeyJWT: {"jwks_file", "jwks_uri", "jwks_ca_file"},
		selfSignedTLS: {"jwks_file", "jwks_uri", "jwks_ca_file"},
		tlsClientAuth: {"certificate"},
		secretBasic:   {"secrets"},
		secretPost:    {"secrets"},
		noAuth:        {},
	}[c.Auth]
	if uses == nil { // auth has a fault
		return
	}
	signs := c.RequestObject != "" && c.Profile != entraEAM
	if signs {
		uses = append(uses, "jwks_file", "jwks_uri", "jwks_ca_file")
	}
	for _, key := range []string{"jwks_file", "jwks_uri", "jwks_ca_file", "secrets", "certificate"} {
		if d.has(at+"."+key) && !slices.Contains(uses, key) {
			d.fault(at+"."+key, "is of no use with auth %s: leave it out", c.Auth)
		}
	}
	if signs || c.Auth == privateKeyJWT || c.Auth == selfSignedTLS {
		keys := keyFiles{c.JWKSFile, c.JWKSURI, c.JWKSCAFile}
		c.JWKS, c.JWKSCAs = keys.check(c.Auth, d, at)
	}
	switch c.Auth {
	case tlsClientAuth:
		checkCertificateOf(c.Certificate, d, at)
	case secretBasic, secretPost:
		checkClientSecrets(c.Secrets, d, at)
	}
}

// keyFiles say where somebody's public keys are.
type keyFiles struct{ file, uri, caFile string }

// check reads the keys, if they are in a file, and the authorities of their server
// if they aren't. use is the auth that they are for, or idTokenHint.
func (k keyFiles) check(use string, d *decoder, at string) (keys jose.JSONWebKeySet, authorities []*x509.Certificate) {
	file, uri := at+".jwks_file", at+".jwks_uri"
	switch {
	case d.has(file) && d.has(uri):
		d.fault(uri, "is given beside jwks_file: leave one of them out")
	case !d.has(file) && !d.has(uri):
		whose := "the portal's"
		if use == idTokenHint {
			whose = "the issuer's"
		}
		d.fault(file, "is missing: give it, the file of %s public keys, or jwks_uri, their address", whose)
	case k.file != "":
		var err error
		if keys, err = readKeySet(k.file, use); err != nil {
			d.fault(file, "%v", err)
		}
	case k.uri != "":
		if problem := checkKeysURI(k.uri); problem != "" {
			d.fault(uri, "%s", problem)
		}
	}
	switch {
	case k.caFile == "":
	case !d.has(uri):
		d.fault(at+".jwks_ca_file", "is of no use without jwks_uri: leave it out")
	default:
		authorities = d.authorities(at+".jwks_ca_file", k.caFile)
	}
	return keys, authorities
}

// checkKeysURI: over plain http anybody on the way could put keys of their own
// there.
func checkKeysURI(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || !validPort(u) || !printable(s) || u.Scheme != "https":
		return fmt.Sprintf("must be an https address, such as https://portal.bank.example/jwks.json, not %s", quote(s))
	case u.User != nil || strings.Contains(s, "#"):
		return "must have no user and no # in it"
	}
	return ""
}

func checkClientSecrets(secrets []OIDCSecret, d *decoder, at string) {
	if len(secrets) == 0 {
		d.fault(at+".secrets", "has none: give one, such as [{ file: data/portal.secret }]; %s", howToMakeSecret)
	}
	for i := range secrets {
		s, path := &secrets[i], fmt.Sprintf("%s.secrets[%d]", at, i)
		var err error
		switch key := path + ".file"; {
		case d.has(path+".file") == d.has(path+".env"):
			d.fault(path, "must have exactly one of file and env")
		case s.File != "":
			if s.Secret, err = readSecret(s.File, clientSecret); err != nil {
				d.fault(key, "%v", err)
			}
		case s.Env != "":
			if s.Secret, err = envSecret(s.Env, clientSecret); err != nil {
				d.fault(path+".env", "%v", err)
			}
		}
	}
}

// checkCertificateOf reads the authorities and checks the one name.
func checkCertificateOf(c *OIDCCertificate, d *decoder, at string) {
	at += ".certificate"
	if c == nil {
		d.fault(at, "is missing: what the portal's certificate must be, such as { ca_file: portals-ca.crt, san_dns: portal.bank.example }")
		return
	}
	given := 0
	for _, key := range []string{"subject_dn", "san_dns", "san_uri", "san_ip", "san_email"} {
		if d.has(at + "." + key) {
			given++
		}
	}
	if given != 1 {
		d.fault(at, "must have exactly one of subject_dn, san_dns, san_uri, san_ip and san_email (RFC 8705 §2.1.2)")
	}
	if c.SubjectDN != "" {
		if _, err := dn.Parse(c.SubjectDN); err != nil {
			d.fault(at+".subject_dn", "%v", err)
		}
	}
	if c.SANIP != "" {
		address, err := netip.ParseAddr(c.SANIP)
		if err != nil || address.Zone() != "" {
			d.fault(at+".san_ip", "must be an IP address, such as 192.0.2.10, not %s", quote(c.SANIP))
		}
		c.IP = address
	}
	if c.CAFile != "" {
		c.CAs = d.authorities(at+".ca_file", c.CAFile)
	}
}
