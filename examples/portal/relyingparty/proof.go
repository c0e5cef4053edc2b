package relyingparty

import (
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
)

// prover sends the portal's requests with DPoP proofs (RFC 9449): each shows that
// whoever sends it has the key, so that nobody can use a code or an access token
// that was stolen from the portal.
//
// The key lives as long as the process. A portal that runs as several processes
// gives them one key, or the proof at /par binds a code to the one that pushed.
type prover struct {
	key  *ecdsa.PrivateKey
	next http.RoundTripper
	now  func() time.Time

	mu    sync.Mutex // guards nonce
	nonce string     // of the gateway's last answer
}

// newProver returns client with proofs.
func newProver(client *http.Client, now func() time.Time) (*http.Client, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make key for proofs: %w", err)
	}
	proving := *client
	proving.Transport = &prover{key: key, next: cmp.Or(client.Transport, http.DefaultTransport), now: now}
	return &proving, nil
}

// RoundTrip implements http.RoundTripper.
func (p *prover) RoundTrip(r *http.Request) (*http.Response, error) {
	if r.Method != http.MethodPost { // metadata and keys are for everybody
		return p.next.RoundTrip(r)
	}
	proof, err := p.proof(r)
	if err != nil {
		return nil, errors.Join(err, r.Body.Close())
	}
	r = r.Clone(r.Context())
	r.Header.Set("DPoP", proof)
	response, err := p.next.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	if nonce := response.Header.Get("DPoP-Nonce"); nonce != "" {
		p.mu.Lock()
		p.nonce = nonce
		p.mu.Unlock()
	}
	return response, nil
}

// proof is the proof for r (RFC 9449 §4.2).
func (p *prover) proof(r *http.Request) (string, error) {
	signer, err := jose.NewSigner(jose.SigningKey{Algorithm: jose.ES256, Key: p.key},
		(&jose.SignerOptions{EmbedJWK: true}).WithType("dpop+jwt"))
	if err != nil {
		return "", fmt.Errorf("DPoP proof: %w", err)
	}
	p.mu.Lock()
	nonce := p.nonce
	p.mu.Unlock()
	proof, err := jwt.Signed(signer).Claims(struct {
		ID       string `json:"jti"`
		Method   string `json:"htm"`
		URI      string `json:"htu"`
		IssuedAt int64  `json:"iat"`
		Nonce    string `json:"nonce,omitempty"`
	}{rand.Text(), r.Method, r.URL.String(), p.now().Unix(), nonce}).Serialize()
	if err != nil {
		return "", fmt.Errorf("DPoP proof: %w", err)
	}
	return proof, nil
}

// withNonce asks, and asks once more if the gateway wants the nonce of its answer
// in the proof (RFC 9449 §8). ask must make its client assertion anew: the first
// one is used up.
func withNonce[T any](ask func() (T, error)) (T, error) {
	answer, err := ask()
	if wantsNonce(err) {
		return ask()
	}
	return answer, err
}

func wantsNonce(err error) bool {
	const code = "use_dpop_nonce"
	var pushed *refusedError
	var redeemed *oauth2.RetrieveError
	return errors.As(err, &pushed) && pushed.code == code || errors.As(err, &redeemed) && redeemed.ErrorCode == code
}
