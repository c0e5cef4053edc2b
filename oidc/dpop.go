package oidc

import (
	"context"
	"crypto"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
	josejson "github.com/go-jose/go-jose/v4/json"
	"github.com/go-jose/go-jose/v4/jwt"

	"otpgate/internal/store"
)

const (
	proofHeader = "DPoP"       // RFC 9449 §4.1
	nonceHeader = "DPoP-Nonce" // RFC 9449 §8.1
	proofType   = "dpop+jwt"   // RFC 9449 §4.2

	// maxProof is four times a PS256 proof with an RSA-4096 key in its header.
	maxProof = 8 << 10
	// nonceLife is how long one nonce is handed out. It is taken for another,
	// so every nonce is good for one to two of them.
	nonceLife = time.Minute
	// proofSkew is how far a proof's iat may be from our clock: as long as its
	// nonce may be old, which tells its age better. A portal's clock may be wrong
	// by as much.
	proofSkew = time.Minute
	// proofLife is how long a jti is remembered: as long as its nonce is taken.
	proofLife = 2 * nonceLife
)

// proof is a DPoP proof (RFC 9449 §4.2): that whoever sent the request has the
// key. Nobody has verified its claims yet, but the signature is right.
type proof struct {
	thumbprint string // of its key (RFC 7638, SHA-256), as jkt has it
	claims     proofClaims
}

type proofClaims struct {
	ID       string           `json:"jti"`
	Method   string           `json:"htm"`
	URI      string           `json:"htu"`
	IssuedAt *jwt.NumericDate `json:"iat"`
	Nonce    string           `json:"nonce"`
	Token    string           `json:"ath"` // hash of the access token

	Expiry    *jwt.NumericDate `json:"exp"` // optional, as in any JWT
	NotBefore *jwt.NumericDate `json:"nbf"`
}

// expectedProof is what a proof must be, beside one of the request that it comes
// with.
type expectedProof struct {
	key   string // thumbprint of the key that it is by; "": of any
	token string // the access token that comes with it; "": none does
	why   purpose
}

// parseProof reads a proof and verifies its signature with the key that is in it.
func parseProof(raw string) (*proof, error) {
	if len(raw) > maxProof {
		return nil, fmt.Errorf("longer than %d bytes", maxProof)
	}
	jws, err := jose.ParseSignedCompact(raw, assertionAlgorithms())
	if err != nil {
		return nil, err
	}
	header := jws.Signatures[0].Protected
	if header.ExtraHeaders[jose.HeaderType] != proofType {
		return nil, fmt.Errorf("typ must be %s", proofType)
	}
	key := header.JSONWebKey
	if key == nil || !key.Valid() || !key.IsPublic() {
		return nil, errors.New("jwk must be a public key")
	}
	if err := keysFor(PrivateKeyJWT)(key); err != nil { // as strong as a client's own
		return nil, fmt.Errorf("jwk: %w", err)
	}
	payload, err := jws.Verify(key)
	if err != nil {
		return nil, errors.New("the signature isn't by the key in it")
	}
	p := new(proof)
	if err := josejson.Unmarshal(payload, &p.claims); err != nil {
		return nil, fmt.Errorf("claims: %w", err)
	}
	sum, err := key.Thumbprint(crypto.SHA256)
	if err != nil {
		return nil, fmt.Errorf("jwk: %w", err)
	}
	p.thumbprint = base64.RawURLEncoding.EncodeToString(sum)
	return p, nil
}

// checkProof returns the thumbprint of the key that r has proof of, "" if r has no
// proof. The proof is used up on the client's account, and the answer has the nonce
// of the next.
func (p *Provider) checkProof(w http.ResponseWriter, r *http.Request, client *Client, want expectedProof) (thumbprint string, err error) {
	values := r.Header.Values(proofHeader)
	if len(values) == 0 {
		return "", nil
	}
	p.offerNonce(w)
	now := p.now()
	refused := func(cause error) error {
		return refuse(invalidDPoPProof, "the DPoP proof is not accepted").because(cause)
	}
	if len(values) > 1 {
		return "", refused(errors.New("there is more than one")) // RFC 9449 §4.3
	}
	proof, err := parseProof(values[0])
	if err != nil {
		return "", refused(err)
	}
	if err := proof.verify(r, p.origins(), want.token, now); err != nil {
		return "", refused(err)
	}
	if want.key != "" && proof.thumbprint != want.key { // before it takes room: it isn't the client's
		return "", refuse(invalidToken, "the access token is bound to another key")
	}
	if !p.nonces.taken(proof.claims.Nonce, p.steady.read(now)) {
		// The one refusal that a client mends by itself (RFC 9449 §8).
		return "", refuse(useDPoPNonce, "put the nonce of this answer's DPoP-Nonce into the proof")
	}
	if err := p.useProof(r.Context(), client, proof, want.why); err != nil {
		return "", err
	}
	return proof.thumbprint, nil
}

// verify reports the first thing wrong with a proof for r (RFC 9449 §4.3), but for
// its nonce and its jti.
func (p *proof) verify(r *http.Request, origins []string, token string, now time.Time) error {
	c := p.claims
	switch {
	case c.ID == "" || len(c.ID) > maxJTI:
		return fmt.Errorf("jti must have 1 to %d bytes", maxJTI)
	case c.Method != r.Method:
		return errors.New("htm is another method")
	case !slices.ContainsFunc(origins, func(origin string) bool { return sameEndpoint(c.URI, origin, r.URL.Path) }):
		return errors.New("htu is another address")
	case c.IssuedAt == nil:
		return errors.New("iat is missing")
	case c.IssuedAt.Time().After(now.Add(proofSkew)):
		return errors.New("iat is in the future")
	case c.IssuedAt.Time().Before(now.Add(-proofSkew)):
		return errors.New("iat is too long ago")
	case c.Expiry != nil && !now.Before(c.Expiry.Time().Add(clockSkew)): // RFC 7519 §4.1.4
		return errors.New("is expired")
	case c.NotBefore != nil && c.NotBefore.Time().After(now.Add(clockSkew)): // RFC 7519 §4.1.5
		return errors.New("nbf is in the future")
	case token != "" && c.Token != digest(token): // SHA-256, base64url: as ath has it
		return errors.New("ath is another access token's")
	}
	return nil
}

// origins are those at which the back channel is served.
func (p *Provider) origins() []string {
	if p.mtls == "" {
		return []string{p.issuer}
	}
	return []string{p.issuer, p.mtls}
}

// sameEndpoint compares htu with the address of an endpoint, after the
// normalisations of RFC 3986 §6.2.2 and 6.2.3, without query and fragment (RFC
// 9449 §4.3).
func sameEndpoint(htu, origin, path string) bool {
	got, err := url.Parse(htu)
	if err != nil || got.User != nil || got.Opaque != "" {
		return false
	}
	want, err := url.Parse(origin)
	return err == nil && strings.EqualFold(got.Scheme, want.Scheme) &&
		strings.EqualFold(withoutDefaultPort(got.Host), withoutDefaultPort(want.Host)) && got.Path == path
}

func withoutDefaultPort(host string) string { return strings.TrimSuffix(host, ":443") }

// useProof uses up the jti of a proof whose nonce is taken.
func (p *Provider) useProof(ctx context.Context, client *Client, proof *proof, why purpose) error {
	key := store.Key("oidc.dpop", proof.thumbprint, digest(proof.claims.ID))
	account := p.accounts[client.ID]
	reserved, ok := account.reserve(p.now(), why, entrySize(1), proofLife)
	if !ok {
		return errAccountFull()
	}
	fresh, err := p.passing.Add(ctx, key, []byte{1}, proofLife)
	if err != nil {
		account.release(reserved)
		return fmt.Errorf("oidc: remember proof: %w", err)
	}
	if !fresh {
		account.release(reserved) // the first has its own
		return refuse(invalidDPoPProof, "the DPoP proof is not accepted").because(errors.New("jti was used before"))
	}
	return nil
}

// offerNonce sends the nonce of the next proof (RFC 9449 §8.2).
func (p *Provider) offerNonce(w http.ResponseWriter) {
	w.Header().Set(nonceHeader, p.nonces.at(p.steady.read(p.now())))
}

// nonces makes the nonces of proofs: each is a MAC over the minute it was made in,
// so none has to be kept. Times are those of a clock that never goes back, or an old
// nonce would be good again. The key is this process's: after a restart every proof
// has to be made anew, so that used ones may be forgotten.
type nonces struct{ key [sha256.Size]byte }

func newNonces() nonces {
	var n nonces
	_, _ = rand.Read(n.key[:]) // never fails
	return n
}

// at is the nonce to use at a time.
func (n nonces) at(now time.Time) string { return n.of(now.UnixNano() / int64(nonceLife)) }

// taken reports whether nonce was handed out less than two lives ago.
func (n nonces) taken(nonce string, now time.Time) bool {
	slot := now.UnixNano() / int64(nonceLife)
	this, last := n.of(slot), n.of(slot-1)
	return hmac.Equal([]byte(nonce), []byte(this)) || hmac.Equal([]byte(nonce), []byte(last))
}

func (n nonces) of(slot int64) string {
	h := hmac.New(sha256.New, n.key[:])
	var b [8]byte
	binary.BigEndian.PutUint64(b[:], uint64(slot))
	h.Write(b[:])
	return base64.RawURLEncoding.EncodeToString(h.Sum(nil)[:sha256.Size/2])
}
