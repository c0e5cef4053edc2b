package oidc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"otpgate/verifier"
)

const (
	// maxHint is four times an ID token of ours, and twice one of Entra's.
	maxHint = 8 << 10
	// maxSubject is OIDC Core §2's.
	maxSubject = 255
	// maxHintIssuers of one client: a tenant each, which rarely are more than two.
	maxHintIssuers = 8
	// hintSkew is how far an issuer's clock may differ.
	hintSkew = time.Minute
	// maxHintAge is how old a hint may be, and ExpiredFor more: a first factor of a
	// moment ago, and a slow person. An ID token that lives for a year is none.
	maxHintAge = 10 * time.Minute
	// maxExpiredFor bounds HintIssuer.ExpiredFor: a hint is for this one log-in.
	maxExpiredFor = time.Hour
)

// defaultHintClaim names the customer unless HintIssuer.Claim says otherwise.
const defaultHintClaim = "sub"

// HintIssuer is somebody whose ID tokens may name a client's customers
// (id_token_hint): the portal's first factor.
type HintIssuer struct {
	Issuer   string // its iss, byte for byte
	Audience string // the aud of its tokens: the first factor's name for this client
	// Tenant is its tid, where one issuer signs for several (Microsoft Entra); "":
	// tid isn't looked at.
	Tenant string
	// Claim names the customer; "": sub.
	Claim string
	// ExpiredFor is how long ago a hint may have expired, and by how much more than
	// ten minutes ago it may have been issued.
	ExpiredFor time.Duration
	Keys       KeySource
}

// maxAge is how long ago a hint may have been issued.
func (i *HintIssuer) maxAge() time.Duration { return maxHintAge + i.ExpiredFor }

func (i *HintIssuer) check() error {
	switch {
	case !printable(i.Issuer, maxURI):
		return fmt.Errorf("issuer: must be 1 to %d printable characters", maxURI)
	case !printable(i.Audience, maxURI):
		return fmt.Errorf("audience: must be 1 to %d printable characters", maxURI)
	case i.ExpiredFor < 0 || i.ExpiredFor > maxExpiredFor:
		return fmt.Errorf("expired_for: must be at most %s", maxExpiredFor)
	}
	return i.Keys.check(checkHintKey)
}

// hintAlgorithms are those that ID tokens of other issuers may be signed by: RS256,
// which Microsoft Entra has and OIDC Core §15.1 asks of all, among them.
func hintAlgorithms() []jose.SignatureAlgorithm {
	return []jose.SignatureAlgorithm{jose.ES256, jose.PS256, jose.EdDSA, jose.RS256}
}

// checkHintKey reports why key is of no use to verify hints.
func checkHintKey(key *jose.JSONWebKey) error {
	alg, err := checkStrength(key)
	if err != nil {
		return err
	}
	if key.Algorithm != "" && key.Algorithm != string(alg) && (key.Algorithm != string(jose.RS256) || alg != jose.PS256) {
		return fmt.Errorf("alg %q isn't one for this key", key.Algorithm)
	}
	return nil
}

// customerName is who is asked for.
type customerName struct {
	customer string // the user whose code is asked for
	subject  string // sub of the ID token
}

// hintClaims are what is read of a hint.
type hintClaims struct {
	Issuer    string           `json:"iss"`
	Subject   string           `json:"sub"`
	Audience  audience         `json:"aud"`
	Expiry    *jwt.NumericDate `json:"exp"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
	NotBefore *jwt.NumericDate `json:"nbf"`
	Tenant    string           `json:"tid"`
}

// audience is a string, or a list of exactly one: a token for several receivers is
// one that any of them could show here.
type audience string

func (a *audience) UnmarshalJSON(data []byte) error {
	if len(data) > 0 && data[0] == '"' {
		return josejson.Unmarshal(data, (*string)(a))
	}
	var list []string
	if err := josejson.Unmarshal(data, &list); err != nil {
		return err
	}
	if len(list) != 1 {
		return errors.New("aud must name one receiver")
	}
	*a = audience(list[0])
	return nil
}

// hint is an id_token_hint, parsed, of which nothing is verified.
type hint struct {
	jws     *jose.JSONWebSignature
	payload []byte
	claims  hintClaims
}

func parseHint(raw string) (*hint, error) {
	if len(raw) > maxHint {
		return nil, fmt.Errorf("longer than %d bytes", maxHint)
	}
	jws, err := jose.ParseSignedCompact(raw, hintAlgorithms())
	if err != nil {
		return nil, err
	}
	// Other kinds of JWT, which the issuer signs with the same keys, name theirs.
	if typ, there := jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType]; there && typ != "JWT" {
		return nil, errors.New("typ must be JWT, or left out")
	}
	h := &hint{jws: jws, payload: jws.UnsafePayloadWithoutVerification()}
	if err := checkJSON(h.payload); err != nil {
		return nil, err
	}
	if err := josejson.Unmarshal(h.payload, &h.claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return h, nil
}

// namedByHint returns whom a hint names that one of the client's issuers has signed.
func (p *Provider) namedByHint(ctx context.Context, client *Client, raw string) (customerName, error) {
	refused := func(cause error) (customerName, error) {
		return customerName{}, refuse(invalidRequest, "id_token_hint is not accepted").because(cause)
	}
	h, err := parseHint(raw)
	if err != nil {
		return refused(err)
	}
	i := slices.IndexFunc(client.HintIssuers, func(i HintIssuer) bool { return i.Issuer == h.claims.Issuer })
	if i < 0 {
		return refused(errors.New("iss is none that is configured for this client"))
	}
	issuer := &client.HintIssuers[i]
	keys, err := p.keysOf(ctx, &issuer.Keys, keyOwner{client.ID, issuer.Issuer}, h.signedWith)
	if err != nil {
		return refused(err)
	}
	if !signedBy(h.jws, keys) {
		return refused(errors.New("no key of the issuer verifies the signature"))
	}
	if err := h.verify(issuer, p.now()); err != nil {
		return refused(err)
	}
	name, err := h.name(issuer)
	if err != nil {
		return refused(err)
	}
	if client.Profile != ProfileEntraEAM {
		name.subject = name.customer // the portal's own name for the customer
	}
	return name, nil
}

// signedWith reports whether key may be the one that the hint was signed with.
func (h *hint) signedWith(key *jose.JSONWebKey) bool {
	header := h.jws.Signatures[0].Header
	return (header.KeyID == "" || key.KeyID == header.KeyID) && (key.Algorithm == "" || key.Algorithm == header.Algorithm)
}

// verify reports the first thing wrong with the claims of a hint of issuer, whose
// signature is right (OIDC Core §3.1.2.2, §3.1.3.7).
func (h *hint) verify(issuer *HintIssuer, now time.Time) error {
	c := h.claims
	switch {
	case string(c.Audience) != issuer.Audience:
		return errors.New("aud isn't the one that is configured")
	case issuer.Tenant != "" && c.Tenant != issuer.Tenant:
		return errors.New("tid isn't the one that is configured")
	case c.Expiry == nil:
		return errors.New("exp is missing")
	case c.Expiry.Time().Before(now.Add(-issuer.ExpiredFor - hintSkew)):
		return errors.New("is expired")
	case c.IssuedAt == nil:
		return errors.New("iat is missing")
	case c.IssuedAt.Time().After(now.Add(hintSkew)):
		return errors.New("iat is in the future")
	case c.IssuedAt.Time().Before(now.Add(-issuer.maxAge() - hintSkew)):
		return fmt.Errorf("iat is more than %s ago", issuer.maxAge())
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(hintSkew)):
		return errors.New("nbf is in the future")
	case !printable(c.Subject, maxSubject):
		return fmt.Errorf("sub must have 1 to %d printable characters", maxSubject)
	}
	return nil
}

// name reads the customer's name of a verified hint.
func (h *hint) name(issuer *HintIssuer) (customerName, error) {
	claim := issuer.Claim
	if claim == "" {
		claim = defaultHintClaim
	}
	var members map[string]any
	if err := josejson.Unmarshal(h.payload, &members); err != nil {
		return customerName{}, fmt.Errorf("claims: %w", err)
	}
	customer, ok := members[claim].(string)
	if !ok {
		return customerName{}, fmt.Errorf("%s is missing", claim)
	}
	if err := verifier.CheckUserName(customer); err != nil {
		return customerName{}, fmt.Errorf("%s can't be a customer's name: %w", claim, err)
	}
	return customerName{customer: customer, subject: h.claims.Subject}, nil
}
