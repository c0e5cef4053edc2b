package oidc

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"unicode/utf8"

	"github.com/go-jose/go-jose/v4"
)

// maxBasic bounds the credentials of a Basic header, in bytes of base64: an id and
// a secret of the lengths that config allows, with every byte escaped, are less.
const maxBasic = 6 << 10

// basicChallenge goes with a 401 to whoever tried the Authorization header (RFC
// 6749 §5.2, RFC 7617 §2).
const basicChallenge = `Basic realm="otpgate", charset="UTF-8"`

// credentials are what a request shows of who sends it, nothing of it verified.
type credentials struct {
	client string     // the client_id that is claimed
	method AuthMethod // NoAuth: nothing but, maybe, the connection's certificate

	assertion *assertion
	secret    string
	chain     []*x509.Certificate // of the connection: its first key is the sender's
}

// fromClient reads a form that a client has posted, and says which one has.
func (p *Provider) fromClient(w http.ResponseWriter, r *http.Request, why purpose) (params, *Client, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, nil, err
	}
	client, err := p.authenticate(r, form, why)
	return form, client, err
}

// authenticate returns the client that a request is from. It must have used its
// one configured method and no other. With an error too, if one is claimed: as
// whom it failed, for the log. Outside there is one answer to all failures, so
// that it doesn't tell which part was wrong, nor whether there is such a client.
func (p *Provider) authenticate(r *http.Request, form params, why purpose) (*Client, error) {
	shown, err := readCredentials(r, form)
	client := p.clients[shown.client]
	if err == nil {
		err = p.prove(r.Context(), client, &shown, why)
	}
	if err != nil {
		return client, p.authenticationFailed(r, &shown, err)
	}
	// After it is known who asks: a stranger must not use up a client's rate.
	return client, p.limits.client(client.ID)
}

// notAuthenticated is the one answer to failed authentication.
func notAuthenticated(cause string) *protocolError {
	return refuse(invalidClient, "the client is not authenticated: the gateway's log says why").because(errors.New(cause))
}

// authenticationFailed makes the answer to err.
func (p *Provider) authenticationFailed(r *http.Request, shown *credentials, err error) error {
	e := new(protocolError)
	if !errors.As(err, &e) || e.code != invalidClient {
		return err
	}
	if len(r.Header.Values("Authorization")) > 0 {
		e.challenge = basicChallenge
	}
	if tooMany := p.limits.failure(sourceOf(r), shown.client); tooMany != nil {
		return tooMany.because(err)
	}
	return e
}

// readCredentials reads what r and its form show. With an error it still says who
// is claimed to have sent it, if that can be read.
func readCredentials(r *http.Request, form params) (credentials, error) {
	shown := credentials{client: form["client_id"], method: NoAuth}
	if r.TLS != nil {
		shown.chain = r.TLS.PeerCertificates
	}
	header := r.Header.Values("Authorization")
	var methods []AuthMethod
	if len(header) > 0 {
		methods = append(methods, SecretBasic)
	}
	if form["client_secret"] != "" {
		methods = append(methods, SecretPost)
	}
	if form["client_assertion"] != "" || form["client_assertion_type"] != "" {
		methods = append(methods, PrivateKeyJWT)
	}
	if len(methods) == 0 {
		return shown, nil
	}
	if len(methods) > 1 || len(header) > 1 { // RFC 6749 §2.3
		return shown, refuse(invalidRequest, "a client authenticates by one method in each request")
	}
	shown.method = methods[0]
	var claimed string
	var err error
	switch shown.method {
	case SecretBasic:
		claimed, shown.secret, err = parseBasic(header[0])
	case SecretPost:
		claimed, shown.secret = form["client_id"], form["client_secret"]
	case PrivateKeyJWT:
		if form["client_assertion_type"] != assertionTypeJWT {
			return shown, notAuthenticated("client_assertion_type must be " + assertionTypeJWT)
		}
		if shown.assertion, err = parseAssertion(form["client_assertion"]); err == nil {
			claimed = shown.assertion.claims.Issuer
		}
	case TLSClientAuth, SelfSignedTLS, NoAuth: // the form shows none of them
	}
	if err != nil {
		return shown, notAuthenticated(err.Error())
	}
	if named := form["client_id"]; named != "" && named != claimed {
		return shown, notAuthenticated("client_id names another client than the credentials do")
	}
	shown.client = claimed
	return shown, nil
}

// parseBasic reads an Authorization header of the Basic scheme, whose two parts
// are form-urlencoded (RFC 6749 §2.3.1). Errors repeat nothing of it.
func parseBasic(header string) (id, secret string, err error) {
	scheme, encoded, _ := strings.Cut(header, " ")
	if !strings.EqualFold(scheme, "Basic") {
		return "", "", errors.New("the Authorization header is of another scheme than Basic")
	}
	if len(encoded) > maxBasic {
		return "", "", errors.New("the Authorization header is too long")
	}
	pair, err := base64.StdEncoding.Strict().DecodeString(encoded)
	if err != nil {
		return "", "", errors.New("the Authorization header isn't base64")
	}
	first, second, found := strings.Cut(string(pair), ":")
	id, errID := url.QueryUnescape(first)
	secret, errSecret := url.QueryUnescape(second)
	switch {
	case !found || errID != nil || errSecret != nil || !utf8.ValidString(secret):
		return "", "", errors.New("the Authorization header isn't client_id:client_secret, each form-urlencoded (RFC 6749 §2.3.1)")
	case !printable(id, maxClientID):
		return "", "", errors.New("the Authorization header names no client")
	}
	return id, secret, nil
}

// prove reports why shown doesn't prove that client has sent the request; client
// is nil if there is none of that name. An assertion or a secret then costs as much
// as if there were.
func (p *Provider) prove(ctx context.Context, client *Client, shown *credentials, why purpose) error {
	method := shown.method
	if method == NoAuth && client != nil && client.Auth.mutualTLS() {
		method = client.Auth
	}
	known := client
	if known == nil || known.Auth != method {
		known = &Client{}
	}
	var err error
	switch method {
	case PrivateKeyJWT:
		err = p.proveByAssertion(ctx, known, shown.assertion, why)
	case SecretBasic, SecretPost:
		err = known.proveBySecret(shown.secret)
	case TLSClientAuth, SelfSignedTLS:
		err = p.proveByCertificate(ctx, known, shown.chain)
	default:
		return notAuthenticated("the request shows no credentials")
	}
	switch {
	case err == nil:
		return nil
	case client == nil:
		return notAuthenticated("there is no client of that name")
	case known != client:
		return notAuthenticated("the client's method is " + string(client.Auth) + ", and " + string(method) + " was used")
	}
	return err
}

func (c *Client) proveBySecret(secret string) error {
	if !anySecret(c.Secrets, secret) {
		return notAuthenticated("the secret is wrong")
	}
	return nil
}

// proveByCertificate: TLS has shown that the sender has the key of chain[0] (RFC
// 8705 §2).
func (p *Provider) proveByCertificate(ctx context.Context, client *Client, chain []*x509.Certificate) error {
	if len(chain) == 0 {
		return notAuthenticated("no certificate was shown: the client must use the mtls_endpoint_aliases")
	}
	if client.Auth == TLSClientAuth {
		if err := client.Certificate.verify(chain, p.now()); err != nil {
			return notAuthenticated(err.Error())
		}
		return nil
	}
	// Its own set says for how long a certificate is good, whatever the
	// certificate says (RFC 8705 §2.2).
	keys, err := p.clientKeys(ctx, client, func(key *jose.JSONWebKey) bool { return isOf(key, chain[0]) })
	if err != nil {
		return notAuthenticated(err.Error())
	}
	if len(keys) == 0 {
		return notAuthenticated("the certificate isn't in the client's key set")
	}
	return nil
}

// isOf reports whether key is that of cert, and was published with it: as a whole
// (x5c) or by its SHA-256 (x5t#S256).
func isOf(key *jose.JSONWebKey, cert *x509.Certificate) bool {
	public, ok := key.Key.(interface{ Equal(x crypto.PublicKey) bool })
	if !ok || !public.Equal(cert.PublicKey) {
		return false
	}
	if len(key.Certificates) > 0 {
		return bytes.Equal(key.Certificates[0].Raw, cert.Raw)
	}
	sum := sha256.Sum256(cert.Raw)
	return bytes.Equal(key.CertificateThumbprintSHA256, sum[:])
}
