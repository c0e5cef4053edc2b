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

// issueAccess keeps a new access token for g, and that code has given it, in the
// place of what was reserved for g.
func (p *Provider) issueAccess(ctx context.Context, g *grant, code string, bound binding) (token string, err error) {
	now := p.now()
	value, err := encode(access{
		Client: g.Client, Subject: g.Subject, ACR: g.ACR, AMR: g.AMR, AuthTime: g.AuthTime,
		Issued: now.Unix(), Expires: now.Add(accessTokenLife).Unix(), Bound: bound,
	})
	if err != nil {
		return "", err
	}
	token = newSecret()
	key := accessKey(token)
	p.accounts[g.Client].exchange(now, g.Reserved, entrySize(len(value))+entrySize(len(key)), accessTokenLife)
	if err := p.passing.Put(ctx, key, value, accessTokenLife); err != nil {
		return "", fmt.Errorf("oidc: keep access token: %w", err)
	}
	if err := p.passing.Put(ctx, usedCodeKey(code), []byte(key), accessTokenLife); err != nil {
		return "", fmt.Errorf("oidc: remember code: %w", err)
	}
	return token, nil
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

// usedCodeKey is where it is kept which access token a code has given, for as long
// as that lives.
func usedCodeKey(code string) string { return store.Key("oidc.used", digest(code)) }

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
