package oidc

import (
	"cmp"
	"crypto/rand"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// assertionLifeAdvised is how long a client assertion should be good: longer than
// two clocks differ, and far below what is refused.
const assertionLifeAdvised = time.Minute

// Guide is what the engineers of a client's portal have to know: where it asks,
// and what it sends and gets. Values that differ in each log-in are examples; they
// fit together, so that the whole is a log-in that the gateway would take, but for
// signatures and secrets.
type Guide struct {
	Client    string           `json:"client_id"`
	Realm     string           `json:"realm"`
	Profile   Profile          `json:"profile"`
	Auth      AuthMethod       `json:"auth"`
	Constrain SenderConstraint `json:"sender_constraint,omitempty"`
	Issuer    string           `json:"issuer"`
	Endpoints []Endpoint       `json:"endpoints"`
	// Credentials says how each request of the back channel shows who sends it.
	Credentials string `json:"credentials,omitempty"`
	// Algorithms sign client assertions, request objects and DPoP proofs.
	Algorithms []string    `json:"algorithms,omitempty"`
	Assertion  *ExampleJWT `json:"client_assertion,omitempty"`
	Object     *ExampleJWT `json:"request_object,omitempty"` // if it is required
	Proof      *ExampleJWT `json:"dpop_proof,omitempty"`
	// Push, Authorize and Redeem are the parameters of the three steps.
	Push      []Parameter `json:"push,omitempty"`
	Authorize []Parameter `json:"authorize"`
	Redeem    []Parameter `json:"redeem,omitempty"`
	// IDToken is what the portal must find in the ID token, or let nobody in.
	IDToken []Parameter `json:"id_token"`
}

// Endpoint is an address of the gateway.
type Endpoint struct {
	Name string `json:"name"` // in the discovery document
	URL  string `json:"url"`
}

// Parameter is a name with its value and what to know about it.
type Parameter struct {
	Name  string `json:"name"`
	Value string `json:"value"`
	Note  string `json:"note,omitempty"`
}

// ExampleJWT is what a JWT holds before it is signed.
type ExampleJWT struct {
	Header map[string]any `json:"header"`
	Claims map[string]any `json:"claims"`
}

// The examples; the challenge and its verifier are those of RFC 7636 appendix B.
const (
	exampleCustomer  = "00123456789"
	exampleState     = "af0ifjsldkj-one-for-each-log-in"
	exampleNonce     = "n-0S6_WzA2Mj-one-for-each-log-in"
	exampleVerifier  = "dBjftJeZ4CVP-mB92K27uhbUJU1p1r_wW1gFWFOEjXk"
	exampleChallenge = "E9Melhoa2OwvFrEMTJguCHaoeK1t8URWbuGJSstw-cM"
)

// NewGuide is the guide for client, whose keys are keys (ClientKeys), at the
// provider issuer, whose listener for certificates is at mtls ("" if there is
// none), as of now.
func NewGuide(client *Client, keys []jose.JSONWebKey, issuer, mtls string, now time.Time) Guide {
	back := issuer // where the back channel is
	if client.Auth.mutualTLS() || client.SenderConstraint == ByMTLS {
		back = cmp.Or(mtls, issuer)
	}
	g := Guide{
		Client: client.ID, Realm: client.Realm, Profile: client.Profile, Auth: client.Auth,
		Constrain: client.SenderConstraint, Issuer: issuer,
		Authorize: authorizeParameters(client), IDToken: idTokenClaimsOf(client, issuer),
	}
	g.Endpoints = []Endpoint{
		{"authorization_endpoint", issuer + "/authorize"},
		{"jwks_uri", issuer + "/jwks.json"},
	}
	if client.Profile == ProfileEntraEAM {
		return g
	}
	g.Endpoints = append(g.Endpoints,
		Endpoint{"pushed_authorization_request_endpoint", back + "/par"},
		Endpoint{"token_endpoint", back + "/token"},
		Endpoint{"userinfo_endpoint", back + "/userinfo"},
		Endpoint{"introspection_endpoint", back + "/introspect"},
		Endpoint{"revocation_endpoint", back + "/revoke"},
		Endpoint{"otpgate_status_endpoint", back + "/status"},
		Endpoint{"end_session_endpoint", issuer + "/end_session"})
	g.Push, g.Redeem, g.Credentials = pushParameters(client), redeemParameters(client), credentialsOf(client.Auth)
	if client.Auth == PrivateKeyJWT || client.SenderConstraint == ByDPoP || client.RequestObject != NoObjects {
		g.Algorithms = algorithmNames(assertionAlgorithms())
	}
	if client.Auth == PrivateKeyJWT {
		g.Assertion = exampleAssertion(client, keys, issuer, now)
	}
	if client.RequestObject == ObjectsRequired {
		g.Object = exampleObject(client, keys, issuer, now)
	}
	if client.SenderConstraint == ByDPoP {
		g.Proof = exampleProof(back+"/token", now)
	}
	return g
}

func pushParameters(client *Client) []Parameter {
	if client.RequestObject == ObjectsRequired {
		return append([]Parameter{
			{"client_id", client.ID, ""},
			{"request", "eyJ…", "the request object, signed, and nothing beside it"},
		}, credentialParameters(client)...)
	}
	return append(requestParameters(client), credentialParameters(client)...)
}

// requestParameters are those of the request itself.
func requestParameters(client *Client) []Parameter {
	return []Parameter{
		{"client_id", client.ID, ""},
		{"response_type", "code", ""},
		{"scope", "openid", ""},
		{"redirect_uri", client.RedirectURIs[0], "one of redirect_uris, letter by letter"},
		{"login_hint", exampleCustomer, "the customer who has passed your first factor, and nobody else"},
		{"state", exampleState, "new for each log-in, and bound to this browser by a cookie"},
		{"nonce", exampleNonce, "new for each log-in; comes back in the ID token"},
		{"code_challenge", exampleChallenge, "base64url of the SHA-256 of a verifier that never leaves your server"},
		{"code_challenge_method", "S256", ""},
		{"acr_values", client.ACR, "then nothing less is answered"},
		{"ui_locales", "ja", "optional: the language of the page"},
	}
}

func authorizeParameters(client *Client) []Parameter {
	if client.Profile == ProfileEntraEAM {
		return []Parameter{{"client_id", client.ID, "Entra sends it, and the rest, once it is set up with these addresses"}}
	}
	return []Parameter{
		{"client_id", client.ID, ""},
		{"request_uri", requestURIPrefix + "…", "from the answer to the push, within 90 seconds"},
	}
}

func redeemParameters(client *Client) []Parameter {
	return append([]Parameter{
		{"client_id", client.ID, ""},
		{"grant_type", "authorization_code", ""},
		{"code", "…", "from the address that the browser comes back to: once, within 60 seconds"},
		{"redirect_uri", client.RedirectURIs[0], "as pushed"},
		{"code_verifier", exampleVerifier, "what code_challenge was made of"},
	}, credentialParameters(client)...)
}

func credentialsOf(auth AuthMethod) string {
	switch auth {
	case PrivateKeyJWT:
		return "a new client_assertion in each form, signed by the portal's key"
	case TLSClientAuth, SelfSignedTLS:
		return "the portal's certificate, in the TLS handshake"
	case SecretBasic:
		return "the header Authorization: Basic, of client_id and secret, each form-urlencoded (RFC 6749 §2.3.1)"
	case SecretPost:
		return "client_secret in each form"
	case NoAuth:
	}
	return ""
}

// credentialParameters are the part of a form that shows who sends it.
func credentialParameters(client *Client) []Parameter {
	switch client.Auth {
	case PrivateKeyJWT:
		return []Parameter{
			{"client_assertion_type", assertionTypeJWT, ""},
			{"client_assertion", "eyJ…", "a new one for each request"},
		}
	case SecretPost:
		return []Parameter{{"client_secret", "…", ""}}
	case SecretBasic, TLSClientAuth, SelfSignedTLS, NoAuth: // not in the form
	}
	return nil
}

// exampleAssertion has exactly what assertion.verify demands.
func exampleAssertion(client *Client, keys []jose.JSONWebKey, issuer string, now time.Time) *ExampleJWT {
	return &ExampleJWT{signedHeader("JWT", keys), map[string]any{
		"iss": client.ID, "sub": client.ID, "aud": issuer, "jti": rand.Text(),
		"iat": now.Unix(), "exp": now.Add(assertionLifeAdvised).Unix(),
	}}
}

// exampleObject has what requestObject.verify demands, and the request.
func exampleObject(client *Client, keys []jose.JSONWebKey, issuer string, now time.Time) *ExampleJWT {
	claims := map[string]any{
		"iss": client.ID, "aud": issuer, "jti": rand.Text(),
		"nbf": now.Unix(), "exp": now.Add(assertionLifeAdvised).Unix(),
	}
	for _, p := range requestParameters(client) {
		claims[p.Name] = p.Value
	}
	return &ExampleJWT{signedHeader(objectType, keys), claims}
}

// signedHeader is that of a JWT which the first of keys signs.
func signedHeader(typ string, keys []jose.JSONWebKey) map[string]any {
	header := map[string]any{"typ": typ, "alg": string(jose.ES256)}
	if len(keys) > 0 {
		header["alg"] = string(algorithmOf(keys[0].Key))
		if keys[0].KeyID != "" {
			header["kid"] = keys[0].KeyID
		}
	}
	return header
}

// exampleProof is one without a nonce: the first answer has it.
func exampleProof(endpoint string, now time.Time) *ExampleJWT {
	return &ExampleJWT{
		map[string]any{"typ": proofType, "alg": "ES256", "jwk": "the public key of the proofs, as a JWK"},
		map[string]any{"jti": rand.Text(), "htm": "POST", "htu": endpoint, "iat": now.Unix(), "nonce": "DPoP-Nonce of the last answer"},
	}
}

func idTokenClaimsOf(client *Client, issuer string) []Parameter {
	claims := []Parameter{
		{"alg", string(client.IDTokenAlg), "in its header, and no other; by a key at jwks_uri"},
		{"iss", issuer, "letter by letter"},
		{"aud", client.ID, "is in it, and nobody else"},
		{"exp", "", "not over"},
	}
	if client.Profile == ProfileEntraEAM { // Microsoft checks the rest as its own page says
		return claims
	}
	return append(claims,
		Parameter{"nonce", exampleNonce, "the one of this log-in"},
		Parameter{"sub", exampleCustomer, "the customer whom you have pushed"},
		Parameter{"acr", client.ACR, "what you have asked for"},
		Parameter{"amr", "otp", "is among them"},
		Parameter{"auth_time", "", "not before this log-in began"})
}
