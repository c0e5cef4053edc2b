package oidc

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"time"

	"github.com/zitadel/oidc/v3/pkg/oidc"

	"otpgate/internal/store"
	"otpgate/verifier"
)

// codeLife is what FAPI 2.0 Security Profile §5.3.2.1 allows at most.
const codeLife = 60 * time.Second

// grant is what an authorization code stands for: this customer has passed, for
// this client, in answer to this request. It is the library's op.AuthRequest.
type grant struct {
	Client      string      `json:"client"`
	RedirectURI string      `json:"redirect_uri"`
	Challenge   string      `json:"challenge"`
	Nonce       string      `json:"nonce,omitempty"`
	Subject     string      `json:"subject"`
	ACR         string      `json:"acr"`
	AMR         []string    `json:"amr"`
	AuthTime    time.Time   `json:"auth_time"`
	Transaction string      `json:"transaction"`   // the one that was accepted
	Key         string      `json:"jkt,omitempty"` // of the DPoP proofs that it wants
	Reserved    reservation `json:"reserved"`      // of the request, on the client's account

	Details json.RawMessage `json:"details,omitempty"` // authorization_details that were shown
}

func newGrant(req *request, client *Client, result verifier.Result, transaction string) *grant {
	return &grant{
		Client:      req.Client,
		RedirectURI: req.RedirectURI,
		Challenge:   req.Challenge,
		Nonce:       req.Nonce,
		Subject:     req.subject(),
		ACR:         req.ACR,
		AMR:         methods(client, result.Carrier),
		AuthTime:    result.At,
		Transaction: transaction,
		Key:         req.Key,
		Reserved:    req.Reserved,
		Details:     req.Details,
	}
}

// methods are the authentication methods that were seen (RFC 8176 §2): what
// holds the key only if that is known, and never the portal's own first factor.
// Microsoft Entra takes one method, and no more.
func methods(client *Client, carrier verifier.Carrier) []string {
	seen := []string{otpMethod}
	if client.Profile == ProfileEntraEAM {
		return seen
	}
	switch carrier {
	case verifier.Hardware:
		return append(seen, "hwk")
	case verifier.Software:
		return append(seen, "swk")
	case verifier.CarrierUnknown:
	}
	return seen
}

func codeKey(code string) string { return store.Key("oidc.code", digest(code)) }

// issueCode keeps g for codeLife and returns the code that redeems it.
func (p *Provider) issueCode(ctx context.Context, g *grant) (code string, err error) {
	value, err := encode(g)
	if err != nil {
		return "", err
	}
	code = newSecret()
	if err := p.passing.Put(ctx, codeKey(code), value, codeLife); err != nil {
		return "", fmt.Errorf("oidc: keep code: %w", err)
	}
	return code, nil
}

// takeCode uses code up and returns its grant, whose reservation is the caller's;
// nil if it was never issued, has expired or was used up before.
func (p *Provider) takeCode(ctx context.Context, code string) (*grant, error) {
	value, err := p.passing.Take(ctx, codeKey(code))
	g, err := decode[grant](value, err)
	if g == nil {
		return nil, err
	}
	if err := p.forgetAnswer(ctx, g.Transaction); err != nil {
		return nil, err
	}
	return g, nil
}

// proves reports whether verifier is what the code challenge was made from
// (RFC 7636 §4.6). The challenge is 43 characters long, so an empty verifier
// proves nothing.
func (g *grant) proves(codeVerifier string) bool {
	if len(codeVerifier) < 43 || len(codeVerifier) > 128 { // RFC 7636 §4.1
		return false
	}
	sum := sha256.Sum256([]byte(codeVerifier))
	challenge := base64.RawURLEncoding.EncodeToString(sum[:])
	return subtle.ConstantTimeCompare([]byte(challenge), []byte(g.Challenge)) == 1
}

// What the library asks of an authorization request when it makes tokens.

func (g *grant) GetID() string                      { return "" } // a grant is a value, taken from the store already
func (g *grant) GetACR() string                     { return g.ACR }
func (g *grant) GetAMR() []string                   { return g.AMR }
func (g *grant) GetAudience() []string              { return []string{g.Client} }
func (g *grant) GetAuthTime() time.Time             { return g.AuthTime }
func (g *grant) GetClientID() string                { return g.Client }
func (g *grant) GetNonce() string                   { return g.Nonce }
func (g *grant) GetRedirectURI() string             { return g.RedirectURI }
func (g *grant) GetResponseType() oidc.ResponseType { return oidc.ResponseTypeCode }
func (g *grant) GetResponseMode() oidc.ResponseMode { return oidc.ResponseModeQuery }
func (g *grant) GetScopes() []string                { return []string{oidc.ScopeOpenID} }
func (g *grant) GetState() string                   { return "" } // went back with the code
func (g *grant) GetSubject() string                 { return g.Subject }
func (g *grant) Done() bool                         { return true }
func (g *grant) GetCodeChallenge() *oidc.CodeChallenge {
	return &oidc.CodeChallenge{Challenge: g.Challenge, Method: oidc.CodeChallengeMethodS256}
}
