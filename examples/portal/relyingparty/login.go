package relyingparty

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"syscall"
	"time"

	"github.com/coreos/go-oidc/v3/oidc"
	"github.com/go-jose/go-jose/v4"
	"github.com/go-jose/go-jose/v4/jwt"
	"golang.org/x/oauth2"
)

const (
	assertionTypeJWT = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer" // RFC 7523 §2.2
	// assertionLife is long enough for clocks that differ a little.
	assertionLife = time.Minute
	// maxLoginForm and maxAnswer bound what is read from a browser and from
	// the gateway; both are a hundred times what they need.
	maxLoginForm = 16 << 10
	maxAnswer    = 64 << 10
)

// loginPage is what the log-in page shows.
type loginPage struct {
	Number   string // as typed before
	Wrong    bool
	Accounts map[string]string
}

func (p *Portal) showLogin(w http.ResponseWriter, r *http.Request) {
	if _, in := p.sessions.get(p.cookie(r, sessionCookie)); in {
		http.Redirect(w, r, "/account", http.StatusSeeOther)
		return
	}
	p.render(w, r, http.StatusOK, "login", loginPage{Accounts: p.Accounts})
}

// postLogin checks the first factor and, only then, opens a request at the
// gateway for exactly this customer.
func (p *Portal) postLogin(w http.ResponseWriter, r *http.Request) {
	r.Body = http.MaxBytesReader(w, r.Body, maxLoginForm)
	number, password := strings.TrimSpace(r.PostFormValue("number")), r.PostFormValue("password")
	if !p.knows(number, password) {
		p.render(w, r, http.StatusUnauthorized, "login", loginPage{Number: number, Wrong: true, Accounts: p.Accounts})
		return
	}
	l := login{
		customer: number, begun: p.Now(),
		state: rand.Text(), nonce: rand.Text(), verifier: oauth2.GenerateVerifier(),
	}
	location, err := p.push(r.Context(), l, p.language(r))
	if err != nil {
		p.Logger.ErrorContext(r.Context(), "the gateway took no request", "error", err)
		p.problem(w, r, noGateway)
		return
	}
	name, ok := p.pending.put(l)
	if !ok {
		p.problem(w, r, noGateway)
		return
	}
	p.setCookie(w, loginCookie, name, loginLife)
	http.Redirect(w, r, location, http.StatusSeeOther)
}

// knows compares in constant time, and does so for unknown numbers too.
func (p *Portal) knows(number, password string) bool {
	want, known := p.Accounts[number]
	return subtle.ConstantTimeCompare([]byte(want), []byte(password)) == 1 && known
}

// push pushes the request for l (RFC 9126) and returns where to send the
// browser. The customer's name goes to the gateway over this connection and is
// never in the browser's hands.
func (p *Portal) push(ctx context.Context, l login, language string) (location string, err error) {
	ctx = oidc.ClientContext(ctx, p.HTTP)
	gateway, err := p.discover(ctx)
	if err != nil {
		return "", err
	}
	endpoint, err := pushEndpoint(gateway)
	if err != nil {
		return "", err
	}
	request, err := url.Parse(p.client(gateway).AuthCodeURL(l.state,
		oidc.Nonce(l.nonce),
		oauth2.S256ChallengeOption(l.verifier),
		oauth2.SetAuthURLParam("login_hint", l.customer),
		oauth2.SetAuthURLParam("acr_values", p.ACR),
		oauth2.SetAuthURLParam("ui_locales", language)))
	if err != nil {
		return "", fmt.Errorf("authorization endpoint: %w", err)
	}
	requestURI, err := withNonce(func() (string, error) { return p.postPush(ctx, endpoint, request.Query()) })
	if err != nil {
		return "", err
	}
	request.RawQuery = url.Values{"client_id": {p.ClientID}, "request_uri": {requestURI}}.Encode()
	return request.String(), nil
}

func (p *Portal) postPush(ctx context.Context, endpoint string, form url.Values) (requestURI string, err error) {
	assertion, err := p.assertion()
	if err != nil {
		return "", err
	}
	form.Set("client_assertion_type", assertionTypeJWT)
	form.Set("client_assertion", assertion)
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, endpoint, strings.NewReader(form.Encode()))
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	r.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	response, err := p.HTTP.Do(r)
	if err != nil {
		return "", fmt.Errorf("push: %w", err)
	}
	defer response.Body.Close()
	var answer struct {
		RequestURI  string `json:"request_uri"`
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if err := json.NewDecoder(io.LimitReader(response.Body, maxAnswer)).Decode(&answer); err != nil {
		return "", fmt.Errorf("push: answer %s: %w", response.Status, err)
	}
	if response.StatusCode != http.StatusCreated || answer.RequestURI == "" {
		return "", fmt.Errorf("push: %s: %w", response.Status, &refusedError{answer.Error, answer.Description})
	}
	return answer.RequestURI, nil
}

// Reach asks the gateway for its metadata, so that a wrong address or an unknown
// certificate is seen before the first customer. Its error says what to look at.
func (p *Portal) Reach(ctx context.Context) error {
	_, err := p.discover(oidc.ClientContext(ctx, p.HTTP))
	var unknown x509.UnknownAuthorityError
	switch {
	case err == nil:
		return nil
	case errors.As(err, &unknown):
		return fmt.Errorf("%w; -ca names the file with its certificate, if it has signed its own: data/tls.crt", err)
	case errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("%w; does it run, and is -issuer what gateway.yaml has as oidc.issuer?", err)
	}
	return fmt.Errorf("%w; -issuer must be what gateway.yaml has as oidc.issuer", err)
}

// discover reads the gateway's metadata, once.
func (p *Portal) discover(ctx context.Context) (*oidc.Provider, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.gateway == nil {
		gateway, err := oidc.NewProvider(ctx, p.Issuer)
		if err != nil {
			return nil, fmt.Errorf("discovery: %w", err)
		}
		p.gateway = gateway
	}
	return p.gateway, nil
}

// client is this portal as an OAuth client of gateway.
func (p *Portal) client(gateway *oidc.Provider) *oauth2.Config {
	endpoint := gateway.Endpoint()
	endpoint.AuthStyle = oauth2.AuthStyleInParams
	return &oauth2.Config{
		ClientID: p.ClientID, Endpoint: endpoint, RedirectURL: p.URL + "/callback", Scopes: []string{oidc.ScopeOpenID},
	}
}

// pushEndpoint is where the gateway takes pushed requests (RFC 9126 §5).
func pushEndpoint(gateway *oidc.Provider) (string, error) {
	var metadata struct {
		Endpoint string `json:"pushed_authorization_request_endpoint"`
	}
	if err := gateway.Claims(&metadata); err != nil {
		return "", fmt.Errorf("discovery: %w", err)
	}
	if metadata.Endpoint == "" {
		return "", errors.New("discovery: the gateway takes no pushed requests")
	}
	return metadata.Endpoint, nil
}

// assertion authenticates the portal (private_key_jwt, RFC 7523 §2.2): for this
// gateway, for a minute, for one use.
func (p *Portal) assertion() (string, error) {
	signer, err := jose.NewSigner(
		jose.SigningKey{Algorithm: jose.ES256, Key: jose.JSONWebKey{Key: p.Key, KeyID: p.keyID}},
		(&jose.SignerOptions{}).WithType("JWT"))
	if err != nil {
		return "", fmt.Errorf("client assertion: %w", err)
	}
	now := p.Now()
	assertion, err := jwt.Signed(signer).Claims(jwt.Claims{
		Issuer: p.ClientID, Subject: p.ClientID, Audience: jwt.Audience{p.Issuer}, // one: written as a string
		ID: rand.Text(), IssuedAt: jwt.NewNumericDate(now), Expiry: jwt.NewNumericDate(now.Add(assertionLife)),
	}).Serialize()
	if err != nil {
		return "", fmt.Errorf("client assertion: %w", err)
	}
	return assertion, nil
}
