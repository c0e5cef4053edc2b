package oidc

import (
	"context"
	"crypto/sha256"
	"encoding/base64"
	"fmt"
	"net/http"
	"time"

	"otpgate/internal/store"
)

// accessTokenLife is short since nobody is kept signed in here: the token is good
// for asking UserInfo, while the customer is being let in, what the ID token says.
const accessTokenLife = time.Minute

// access is what an access token stands for. The token is 256 random bits, and
// kept as a digest.
type access struct {
	Client   string    `json:"client"`
	Subject  string    `json:"subject"`
	ACR      string    `json:"acr"`
	AMR      []string  `json:"amr"`
	AuthTime time.Time `json:"auth_time"`
	Issued   int64     `json:"issued"`  // unix seconds
	Expires  int64     `json:"expires"` // unix seconds
	Bound    binding   `json:"bound"`
}

// binding is what a sender must have to use a token or a code. Zero: nothing.
type binding struct {
	// Key is the thumbprint of the key of its DPoP proofs (RFC 9449 §6.1, jkt).
	Key string `json:"jkt,omitempty"`
	// Certificate is the SHA-256 of its TLS certificate (RFC 8705 §3.1, x5t#S256).
	Certificate string `json:"x5t#S256,omitempty"`
}

// tokenType is how the token is shown (RFC 6749 §7.1, RFC 9449 §5).
func (b binding) tokenType() string {
	if b.Key != "" {
		return schemeDPoP
	}
	return schemeBearer
}

func accessKey(token string) string { return store.Key("oidc.access", digest(token)) }

// issueAccess keeps the access token that code gives for g, in the place of what was
// reserved for g. It is refused if the code was shown again meanwhile.
func (p *Provider) issueAccess(ctx context.Context, g *grant, token, code string, bound binding) error {
	now := p.now()
	value, err := encode(access{
		Client: g.Client, Subject: g.Subject, ACR: g.ACR, AMR: g.AMR, AuthTime: g.AuthTime,
		Issued: now.Unix(), Expires: now.Add(accessTokenLife).Unix(), Bound: bound,
	})
	if err != nil {
		return err
	}
	key := accessKey(token)
	p.accounts[g.Client].exchange(now, g.Reserved, entrySize(len(value))+entrySize(len(key)), usedCodeLife)
	if err := p.passing.Put(ctx, key, value, accessTokenLife); err != nil {
		return fmt.Errorf("oidc: keep access token: %w", err)
	}
	// After the token is kept: whoever takes the note before this is seen here, and
	// whoever takes it later finds the token.
	note, err := p.passing.Get(ctx, usedCodeKey(code))
	if err != nil {
		return fmt.Errorf("oidc: passing store: %w", err)
	}
	if string(note) == key {
		return nil
	}
	if err := p.revoke(ctx, key); err != nil {
		return err
	}
	return refuseCode("the code was used again at the same time")
}

// loadAccess returns what token stands for; nil if it was never issued, has
// expired or was revoked.
func (p *Provider) loadAccess(ctx context.Context, token string) (*access, error) {
	value, err := p.passing.Get(ctx, accessKey(token))
	return decode[access](value, err)
}

// bind returns what the token that client asks for with r is bound to, and the
// refusal if the client can't show what it has to.
func (p *Provider) bind(w http.ResponseWriter, r *http.Request, client *Client) (binding, error) {
	thumbprint, err := p.checkProof(w, r, client, expectedProof{why: finishing})
	if err != nil {
		return binding{}, err
	}
	bound := binding{Key: thumbprint}
	switch client.SenderConstraint {
	case Unconstrained:
	case ByDPoP:
		if thumbprint == "" {
			p.offerNonce(w)
			return binding{}, refuse(invalidDPoPProof, "a DPoP proof is required (RFC 9449)")
		}
	case ByMTLS:
		if bound.Certificate = presented(r); bound.Certificate == "" {
			return binding{}, refuse(invalidRequest, "a TLS client certificate is required: use the mtls_endpoint_aliases")
		}
	}
	return bound, nil
}

// presented is the SHA-256 of the certificate that r's sender has shown, and holds
// the key of (RFC 8705 §3.1); "" if there is none.
func presented(r *http.Request) string {
	if r.TLS == nil || len(r.TLS.PeerCertificates) == 0 {
		return ""
	}
	sum := sha256.Sum256(r.TLS.PeerCertificates[0].Raw)
	return base64.RawURLEncoding.EncodeToString(sum[:])
}

// revoke ends the access token that is kept under key.
func (p *Provider) revoke(ctx context.Context, key string) error {
	if _, err := p.passing.Take(ctx, key); err != nil {
		return fmt.Errorf("oidc: revoke access token: %w", err)
	}
	return nil
}

// usedCodeLife is how long the note of a used code is kept: as long as the access
// token, which comes after it, and what the way there may take.
const usedCodeLife = accessTokenLife + 10*time.Second

// usedCodeKey is where it is noted which access token a code gives.
func usedCodeKey(code string) string { return store.Key("oidc.used", digest(code)) }

// useCode uses code up and returns its grant, and the access token that it is to
// give; a nil grant if it was never issued, has expired or was used before. The token
// is noted before the code is taken, so that of parallel uses each that comes second
// finds what it has to revoke.
func (p *Provider) useCode(ctx context.Context, code string) (g *grant, token string, err error) {
	live, err := p.passing.Get(ctx, codeKey(code)) // nothing is noted of codes that aren't ours
	if err != nil {
		return nil, "", fmt.Errorf("oidc: passing store: %w", err)
	}
	first := false
	if live != nil {
		token = newSecret()
		if first, err = p.passing.Add(ctx, usedCodeKey(code), []byte(accessKey(token)), usedCodeLife); err != nil {
			return nil, "", fmt.Errorf("oidc: note used code: %w", err)
		}
	}
	if first {
		if g, err = p.takeCode(ctx, code); g != nil || err != nil {
			return g, token, err
		}
	}
	return nil, "", p.revokeReused(ctx, code)
}

// revokeReused ends what a code has given that is shown a second time: one of the
// two has stolen it (RFC 6749 §4.1.2).
func (p *Provider) revokeReused(ctx context.Context, code string) error {
	key, err := p.passing.Take(ctx, usedCodeKey(code))
	if err != nil {
		return fmt.Errorf("oidc: passing store: %w", err)
	}
	if key == nil {
		return nil
	}
	return p.revoke(ctx, string(key))
}
