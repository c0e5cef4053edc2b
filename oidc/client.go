package oidc

import (
	"errors"
	"fmt"
	"net"
	"net/url"
	"slices"
	"strings"

	"github.com/go-jose/go-jose/v4"
)

// DefaultACR is the authentication context that says: a one-time password was
// right.
const DefaultACR = "urn:otpgate:acr:otp"

// The limits of a client's registration.
const (
	maxClientID     = 255  // octets; it is a metrics label and part of a record key
	maxACR          = 255  // octets; it stands in every grant
	maxClientKeys   = 16   // an assertion without kid is tried against each
	maxRedirectURIs = 64   // compared one by one at every pushed request
	maxSecrets      = 2    // the one in use, and the next or the last one while the portal changes over
	minRSABits      = 2048 // FAPI 2.0 Security Profile §5.4.1
)

// Profile is what is asked of a client.
type Profile string

// The profiles. Only what a client's profile allows is taken from it, so a
// stricter client is no weaker for a lax one beside it.
const (
	// ProfileFAPI2 is the FAPI 2.0 Security Profile: pushed requests, asymmetric
	// client authentication, sender-constrained access tokens.
	ProfileFAPI2 Profile = "fapi2"
	// ProfileOIDC is OpenID Connect's code flow, for what can do no better.
	ProfileOIDC Profile = "oidc"
	// ProfileEntraEAM is Microsoft Entra's external authentication method: an ID
	// token by form_post, and no back channel.
	ProfileEntraEAM Profile = "entra-eam"
)

// AuthMethod is how a client authenticates, by its registered name (RFC 8414 §2,
// token_endpoint_auth_methods_supported). A client has exactly one.
type AuthMethod string

// The methods.
const (
	PrivateKeyJWT AuthMethod = "private_key_jwt"             // OIDC Core §9
	TLSClientAuth AuthMethod = "tls_client_auth"             // RFC 8705 §2.1
	SelfSignedTLS AuthMethod = "self_signed_tls_client_auth" // RFC 8705 §2.2
	SecretBasic   AuthMethod = "client_secret_basic"         // OIDC Core §9; ProfileOIDC only
	SecretPost    AuthMethod = "client_secret_post"          // OIDC Core §9; ProfileOIDC only
	NoAuth        AuthMethod = "none"                        // ProfileEntraEAM, which has no back channel
)

// mutualTLS reports whether m needs the listener that asks for certificates.
func (m AuthMethod) mutualTLS() bool { return m == TLSClientAuth || m == SelfSignedTLS }

// SenderConstraint is what binds a client's access tokens to it.
type SenderConstraint string

// The constraints.
const (
	Unconstrained SenderConstraint = ""
	ByDPoP        SenderConstraint = "dpop" // RFC 9449
	ByMTLS        SenderConstraint = "mtls" // RFC 8705 §3
)

// Client is a relying party: a portal.
type Client struct {
	ID    string
	Realm string // the realm whose customers it names
	// ACR is what the realm's ID tokens say of a passed one-time password.
	ACR     string
	Profile Profile
	Auth    AuthMethod
	// RedirectURIs are compared byte for byte, as are PostLogoutRedirectURIs.
	// https, or http on loopback.
	RedirectURIs           []string
	PostLogoutRedirectURIs []string

	Keys        KeySource   // of PrivateKeyJWT and SelfSignedTLS
	Secrets     []Secret    // of SecretBasic and SecretPost: any of them is right
	Certificate Certificate // of TLSClientAuth

	// IDTokenAlg signs its ID tokens: ES256, PS256, EdDSA or RS256.
	IDTokenAlg       jose.SignatureAlgorithm
	SenderConstraint SenderConstraint
	// RequestObject: whether it signs its requests, by one of its keys.
	RequestObject ObjectUse
	// HintIssuers are those whose id_token_hint may name its customers.
	HintIssuers []HintIssuer
	// BareHint: a login_hint in the browser's hands is taken, with ProfileOIDC only.
	// Whoever holds the browser then says whose code is asked for.
	BareHint bool
	// Details are the types of authorization_details that it may ask for.
	Details []DetailType
	// Rate is how many requests a second it may make at the back channel; 0: no
	// limit.
	Rate int
}

// checkClients returns the clients by id, or every fault in them.
func checkClients(clients []Client) (map[string]*Client, error) {
	byID := make(map[string]*Client, len(clients))
	var faults []error
	for i := range clients {
		c := clients[i]
		if err := c.check(); err != nil {
			faults = append(faults, fmt.Errorf("oidc: client %q: %w", c.ID, err))
		}
		if byID[c.ID] != nil {
			faults = append(faults, fmt.Errorf("oidc: client %q: is there twice", c.ID))
		}
		byID[c.ID] = &c
	}
	return byID, errors.Join(faults...)
}

// check reports the first thing about c that could not be safe.
func (c *Client) check() error {
	for _, check := range []func() error{c.checkNames, c.checkRedirects, c.checkProfile, c.checkCredentials} {
		if err := check(); err != nil {
			return err
		}
	}
	return nil
}

func (c *Client) checkNames() error {
	switch {
	case !printable(c.ID, maxClientID):
		return fmt.Errorf("id: must be 1 to %d printable characters", maxClientID)
	case c.Realm == "":
		return errors.New("realm: is missing")
	case c.ACR == "":
		return errors.New("acr: is missing")
	case !printable(c.ACR, maxACR):
		return fmt.Errorf("acr: must be at most %d printable characters", maxACR)
	case c.Rate < 0:
		return errors.New("rate: must not be negative")
	}
	return checkDetailTypes(c.Details)
}

// entraRedirects are where Microsoft Entra takes answers (its page "external
// authentication method provider reference").
func entraRedirects() []string {
	return []string{
		"https://login.microsoftonline.com/common/federation/externalauthprovider",
		"https://login.microsoftonline.us/common/federation/externalauthprovider",
		"https://login.partner.microsoftonline.cn/common/federation/externalauthprovider",
	}
}

func (c *Client) checkRedirects() error {
	if len(c.RedirectURIs) == 0 || len(c.RedirectURIs) > maxRedirectURIs {
		return fmt.Errorf("redirect_uris: must be 1 to %d", maxRedirectURIs)
	}
	if len(c.PostLogoutRedirectURIs) > maxRedirectURIs {
		return fmt.Errorf("post_logout_redirect_uris: must be at most %d", maxRedirectURIs)
	}
	for _, uri := range c.RedirectURIs {
		if c.Profile == ProfileEntraEAM && !slices.Contains(entraRedirects(), uri) {
			return fmt.Errorf("redirect_uri %q: must be Microsoft's with profile entra-eam", uri)
		}
	}
	for _, uri := range slices.Concat(c.RedirectURIs, c.PostLogoutRedirectURIs) {
		if err := checkRedirectURI(uri); err != nil {
			return fmt.Errorf("redirect_uri %q: %w", uri, err)
		}
	}
	return nil
}

// checkProfile holds c to what its profile allows.
func (c *Client) checkProfile() error {
	auth := map[Profile][]AuthMethod{
		ProfileFAPI2:    {PrivateKeyJWT, TLSClientAuth, SelfSignedTLS}, // FAPI 2.0 Security Profile §5.3.2.1
		ProfileOIDC:     {PrivateKeyJWT, TLSClientAuth, SelfSignedTLS, SecretBasic, SecretPost},
		ProfileEntraEAM: {NoAuth},
	}
	algorithms := []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA}
	if c.Profile != ProfileFAPI2 { // FAPI 2.0 Security Profile §5.4.1 leaves RS256 out
		algorithms = append(algorithms, jose.RS256)
	}
	switch {
	case auth[c.Profile] == nil:
		return fmt.Errorf("profile: there is none named %q", c.Profile)
	case !slices.Contains(auth[c.Profile], c.Auth):
		return fmt.Errorf("auth: %q isn't allowed with profile %s", c.Auth, c.Profile)
	case !slices.Contains(algorithms, c.IDTokenAlg):
		return fmt.Errorf("id_token_alg: %q isn't allowed with profile %s", c.IDTokenAlg, c.Profile)
	case !slices.Contains([]SenderConstraint{Unconstrained, ByDPoP, ByMTLS}, c.SenderConstraint):
		return fmt.Errorf("sender_constraint: there is none named %q", c.SenderConstraint)
	case c.Profile == ProfileFAPI2 && c.SenderConstraint == Unconstrained: // FAPI 2.0 Security Profile §5.3.2.1
		return errors.New("sender_constraint: must be dpop or mtls with profile fapi2")
	case c.Profile == ProfileEntraEAM && c.SenderConstraint != Unconstrained:
		return errors.New("sender_constraint: there are no access tokens with profile entra-eam")
	}
	return c.checkRequests()
}

// checkRequests holds c to the ways that its profile leaves it to name a customer.
func (c *Client) checkRequests() error {
	entra := c.Profile == ProfileEntraEAM
	switch {
	case !slices.Contains([]ObjectUse{NoObjects, ObjectsAllowed, ObjectsRequired}, c.RequestObject):
		return fmt.Errorf("request_object: there is no use named %q", c.RequestObject)
	case entra && c.RequestObject != NoObjects:
		return errors.New("request_object: there are none with profile entra-eam")
	case c.BareHint && c.Profile != ProfileOIDC:
		return errors.New("bare_login_hint: is for profile oidc alone")
	case entra && (len(c.HintIssuers) == 0 || len(c.Details) > 0):
		return errors.New("hint_issuers: are needed with profile entra-eam, and there are no authorization_details")
	case len(c.HintIssuers) > maxHintIssuers:
		return fmt.Errorf("hint_issuers: must be at most %d", maxHintIssuers)
	}
	taken := make(map[string]bool)
	for i := range c.HintIssuers {
		issuer := &c.HintIssuers[i]
		if err := issuer.check(); err != nil {
			return fmt.Errorf("hint_issuers: %w", err)
		}
		if taken[issuer.Issuer] {
			return fmt.Errorf("hint_issuers: %q is there twice", issuer.Issuer)
		}
		taken[issuer.Issuer] = true
	}
	return nil
}

// checkCredentials: exactly those that the client's method needs. One that is
// there for nothing would be believed to be needed.
func (c *Client) checkCredentials() error {
	keys := c.Auth == PrivateKeyJWT || c.Auth == SelfSignedTLS || c.RequestObject != NoObjects
	secrets := c.Auth == SecretBasic || c.Auth == SecretPost
	switch {
	case keys != c.Keys.given():
		return fmt.Errorf("jwks: are needed with auth %s and %s and for request objects, and for nothing else", PrivateKeyJWT, SelfSignedTLS)
	case secrets != (len(c.Secrets) > 0) || len(c.Secrets) > maxSecrets:
		return fmt.Errorf("secrets: must be 1 or %d with auth %s and %s, and none with others", maxSecrets, SecretBasic, SecretPost)
	case (c.Auth == TLSClientAuth) != c.Certificate.given():
		return fmt.Errorf("certificate: is needed with auth %s, and with no other", TLSClientAuth)
	}
	if c.Auth == TLSClientAuth {
		if err := c.Certificate.check(); err != nil {
			return err
		}
	}
	if keys {
		return c.Keys.check(keysFor(c.Auth))
	}
	return nil
}

// checkRedirectURI keeps codes off the open network: plain http only to this
// very machine (RFC 8252 §7.3), where the demo and developers' portals listen.
func checkRedirectURI(uri string) error {
	u, err := url.Parse(uri)
	switch {
	case err != nil:
		return errors.New("is not a URI")
	case len(uri) > maxURI || strings.ContainsFunc(uri, func(r rune) bool { return r <= ' ' || r > '~' }):
		return fmt.Errorf("must be at most %d ASCII characters without spaces", maxURI) // it becomes a header
	case u.Host == "" || u.User != nil:
		return errors.New("must name a host, and no user")
	case u.Fragment != "" || u.RawFragment != "" || uri[len(uri)-1] == '#':
		return errors.New("must not have a fragment (RFC 6749 §3.1.2)")
	case u.Scheme == "https", u.Scheme == "http" && loopback(u.Hostname()):
		return nil
	}
	return errors.New("must be https; http only for localhost")
}

func loopback(host string) bool {
	return host == "localhost" || net.ParseIP(host).IsLoopback()
}
