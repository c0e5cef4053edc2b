package oidc

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"otpgate/internal/store"
)

// The limits of a request object.
const (
	// maxObject is several times a request with a transaction in it, in bytes.
	maxObject = 16 << 10
	// objectType keeps other JWTs of the client from being one (RFC 9101 §10.8).
	objectType = "oauth-authz-req+jwt"
	// maxObjectLife bounds how long a jti has to be remembered. FAPI 2.0 Message
	// Signing §5.3.1 allows up to 60 minutes; a browser needs seconds.
	maxObjectLife = 10 * time.Minute
)

// ObjectUse is whether a client signs its requests (RFC 9101).
type ObjectUse string

// The uses.
const (
	NoObjects       ObjectUse = ""
	ObjectsAllowed  ObjectUse = "allowed"
	ObjectsRequired ObjectUse = "required"
)

// requestObject is an authorization request as a signed JWT (RFC 9101 §4), of which
// nothing is verified.
type requestObject struct {
	jws     *jose.JSONWebSignature
	payload []byte
	claims  objectClaims
}

// objectClaims are those that make it valid, now and here. aud is a string: one for
// several receivers could be replayed by one of them at another.
type objectClaims struct {
	Issuer    string           `json:"iss"`
	Audience  string           `json:"aud"`
	ID        string           `json:"jti"`
	Expiry    *jwt.NumericDate `json:"exp"`
	NotBefore *jwt.NumericDate `json:"nbf"`
	IssuedAt  *jwt.NumericDate `json:"iat"`
}

func parseObject(raw string) (*requestObject, error) {
	if len(raw) > maxObject {
		return nil, fmt.Errorf("longer than %d bytes", maxObject)
	}
	jws, err := jose.ParseSignedCompact(raw, assertionAlgorithms())
	if err != nil {
		return nil, err
	}
	if jws.Signatures[0].Protected.ExtraHeaders[jose.HeaderType] != objectType {
		return nil, fmt.Errorf("typ must be %s", objectType)
	}
	o := &requestObject{jws: jws, payload: jws.UnsafePayloadWithoutVerification()}
	if err := checkJSON(o.payload); err != nil {
		return nil, err
	}
	if err := josejson.Unmarshal(o.payload, &o.claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	return o, nil
}

// openObject returns the parameters in the request object raw, which must be one of
// client, and the object.
func (p *Provider) openObject(ctx context.Context, client *Client, raw string) (params, *requestObject, error) {
	refused := func(cause error) (params, *requestObject, error) {
		return nil, nil, refuse(invalidRequestObject, "the request object is not accepted").because(cause)
	}
	if client.RequestObject == NoObjects {
		return nil, nil, refuse(requestNotSupported, "no request object is taken from this client")
	}
	o, err := parseObject(raw)
	if err != nil {
		return refused(err)
	}
	kid := o.jws.Signatures[0].Header.KeyID
	keys, err := p.clientKeys(ctx, client, func(key *jose.JSONWebKey) bool { return kid == "" || key.KeyID == kid })
	if err != nil {
		return refused(err)
	}
	now := p.now()
	if err := o.verify(client.ID, p.orDecoy(keys, o.jws), p.issuer, now, p.steady.read(now)); err != nil {
		return refused(err)
	}
	form, err := o.params()
	if err != nil {
		return refused(err)
	}
	return form, o, nil
}

// verify reports the first thing wrong with o as a request object of the client id,
// which has keys, to issuer at time now, and that it is expired by a clock that
// never goes back (RFC 9101 §6.2; FAPI 2.0 Message Signing §5.3.1).
func (o *requestObject) verify(id string, keys []jose.JSONWebKey, issuer string, now, steady time.Time) error {
	if !signedBy(o.jws, keys) {
		return errors.New("no key of the client verifies the signature")
	}
	c := o.claims
	switch {
	case c.Issuer != id:
		return errors.New("iss must be the client_id")
	case c.Audience != issuer:
		return errors.New("aud must be the issuer")
	case c.ID == "" || len(c.ID) > maxJTI:
		return fmt.Errorf("jti must have 1 to %d bytes", maxJTI)
	case c.Expiry == nil || c.NotBefore == nil:
		return errors.New("exp or nbf is missing")
	case !steady.Before(c.Expiry.Time().Add(clockSkew)):
		return errors.New("is expired")
	case c.NotBefore.Time().After(now.Add(clockSkew)):
		return errors.New("nbf is in the future")
	case c.Expiry.Time().After(c.NotBefore.Time().Add(maxObjectLife)): // so nbf isn't longer ago either
		return fmt.Errorf("exp is more than %s after nbf", maxObjectLife)
	case c.IssuedAt != nil && c.IssuedAt.Time().After(now.Add(clockSkew)):
		return errors.New("iat is in the future")
	}
	return nil
}

// madeSinceStart refuses an object that may have been used before the start, which
// nothing remembers: by its client's clock, which may have been ahead. A pushed one
// needs no such care: only its client can push it.
func (p *Provider) madeSinceStart(o *requestObject) error {
	made := o.claims.NotBefore.Time()
	if o.claims.IssuedAt != nil {
		made = o.claims.IssuedAt.Time()
	}
	if made.Unix() > p.started.Add(clockSkew).Unix() {
		return nil
	}
	return (&protocolError{
		status: http.StatusServiceUnavailable, code: temporarilyDown,
		description: "the gateway has just started: try again with a new request object",
	}).because(errors.New("the request object was made before the start, and may have been used then"))
}

// params are the parameters in o, as a form would have them (RFC 9101 §4).
func (o *requestObject) params() (params, error) {
	var members map[string]json.RawMessage
	if err := josejson.Unmarshal(o.payload, &members); err != nil {
		return nil, err
	}
	for _, claim := range []string{"iss", "aud", "jti", "exp", "nbf", "iat"} {
		delete(members, claim)
	}
	if len(members) > maxParams {
		return nil, fmt.Errorf("more than %d parameters", maxParams)
	}
	form := make(params, len(members))
	for name, value := range members {
		switch name {
		case "request", "request_uri": // RFC 9101 §4
			return nil, fmt.Errorf("%s must not be in it", name)
		case "sub": // a client assertion has one, of the same issuer and audience (RFC 9101 §10.8)
			return nil, errors.New("sub must not be in it: the customer is named in login_hint")
		}
		text, err := parameterText(name, value)
		if err != nil {
			return nil, err
		}
		if text != "" {
			form[name] = text
		}
	}
	return form, nil
}

// structured are the parameters that aren't strings in a request object, by the
// first characters that their JSON may have (OIDC Core §5.5, RFC 9396 §3, OIDC Core
// §3.1.2.1).
func structured(name string) (begin string) {
	switch name {
	case "claims":
		return "{"
	case "authorization_details":
		return "["
	case "max_age":
		return "0123456789"
	}
	return `"`
}

// parameterText is value as a form would have it. What isn't a string, and none of
// the structured ones, is no parameter that is known here; a client that has signed
// it expects something of it.
func parameterText(name string, value json.RawMessage) (string, error) {
	begin := structured(name)
	if len(value) == 0 || !strings.ContainsRune(begin, rune(value[0])) {
		return "", errors.New("a parameter is of another JSON type than it must be")
	}
	if begin != `"` {
		return string(value), nil
	}
	var text string
	if err := josejson.Unmarshal(value, &text); err != nil {
		return "", err
	}
	return text, nil
}

// useObject uses up the jti of a request object that has been verified. It reports
// whether it was the first to.
func (p *Provider) useObject(ctx context.Context, client *Client, o *requestObject) (fresh bool, err error) {
	key := store.Key("oidc.object", client.ID, digest(o.claims.ID))
	now := p.now()
	life := o.claims.Expiry.Time().Add(clockSkew).Sub(p.steady.read(now))
	account := p.accounts[client.ID]
	reserved, ok := account.reserve(now, beginning, entrySize(len(client.ID)), life)
	if !ok {
		return false, errAccountFull()
	}
	fresh, err = p.passing.Add(ctx, key, []byte{1}, life)
	if !fresh {
		account.release(reserved) // the first has its own
	}
	if err != nil {
		return false, fmt.Errorf("oidc: remember jti: %w", err)
	}
	return fresh, nil
}
