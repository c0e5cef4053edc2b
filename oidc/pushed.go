package oidc

import (
	"encoding/base64"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"otpgate/verifier"
)

const requestURIPrefix = "urn:ietf:params:oauth:request_uri:" // RFC 9126 §2.2

// The limits of a pushed request's parameters.
const (
	maxNonce   = 255 // octets; FAPI 2.0 Security Profile §5.3.2.2 asks for 64
	maxState   = 512 // octets; it goes back in a URL
	maxLocales = 8   // preferences beyond these decide nothing
	maxLocale  = 35  // octets; RFC 5646 §4.4.1
)

// localeAlphabet is what language tags are made of (RFC 5646 §2.1).
const localeAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// servePushed is the pushed authorization request endpoint (RFC 9126 §2).
func (p *Provider) servePushed(w http.ResponseWriter, r *http.Request) (*Client, error) {
	form, err := readForm(w, r)
	if err != nil {
		return nil, err
	}
	client, err := p.authenticate(r, form, beginning)
	if err != nil {
		return client, err
	}
	req, err := newRequest(client, form, p.now())
	if err != nil {
		return client, err
	}
	thumbprint, err := p.checkProof(w, r, client, expectedProof{why: beginning})
	if err != nil {
		return client, err
	}
	if req.Key, err = boundKey(form["dpop_jkt"], thumbprint); err != nil {
		return client, err
	}
	secret, err := p.saveRequest(r.Context(), req)
	if err != nil {
		return client, err
	}
	writeJSON(w, http.StatusCreated, struct {
		RequestURI string `json:"request_uri"`
		ExpiresIn  int    `json:"expires_in"` // seconds
	}{requestURIPrefix + secret, int(requestURILife.Seconds())})
	return client, nil
}

// newRequest checks the parameters of an authorization request. What is unknown
// is ignored (RFC 6749 §3.1); what is known and would be lost is refused.
func newRequest(client *Client, form params, now time.Time) (request, error) {
	checks := []func(*Client, params) error{
		checkUnsupported, checkFlow, checkPKCE, checkCustomer, checkContext, checkEchoes,
	}
	for _, check := range checks {
		if err := check(client, form); err != nil {
			return request{}, err
		}
	}
	return request{
		Client:      client.ID,
		RedirectURI: form["redirect_uri"],
		Subject:     form["login_hint"],
		Challenge:   form["code_challenge"],
		State:       form["state"],
		Nonce:       form["nonce"],
		Locales:     locales(form["ui_locales"]),
		PromptNone:  form["prompt"] == "none",
		LoadBefore:  now.Add(requestURILife),
	}, nil
}

// boundKey is the key that the code is bound to: that of the request's proof, or
// the one that it names (RFC 9449 §10, §10.1).
func boundKey(named, proved string) (string, error) {
	switch {
	case named == "":
		return proved, nil
	case len(named) != digestLength:
		return "", refuse(invalidRequest, "dpop_jkt must be a SHA-256 thumbprint")
	case proved != "" && proved != named:
		return "", refuse(invalidDPoPProof, "dpop_jkt isn't the thumbprint of the proof's key")
	}
	return named, nil
}

// checkUnsupported refuses what a portal might rely upon and wouldn't get.
func checkUnsupported(_ *Client, form params) error {
	switch {
	case form["request_uri"] != "":
		return refuse(invalidRequest, "request_uri can't be pushed") // RFC 9126 §2.1
	case form["request"] != "":
		return refuse(requestNotSupported, "request objects are not supported")
	case form["authorization_details"] != "":
		return refuse(invalidAuthorizations, "no type of authorization_details is supported")
	case form["id_token_hint"] != "":
		return refuse(invalidRequest, "name the customer in login_hint, not by id_token_hint")
	case form["otp_action"] != "" && form["otp_action"] != "verify":
		return refuse(invalidRequest, "otp_action must be verify")
	}
	return nil
}

func checkFlow(client *Client, form params) error {
	switch {
	case form["client_id"] != client.ID:
		return refuse(invalidRequest, "client_id is required") // another's fails to authenticate
	case form["response_type"] == "":
		return refuse(invalidRequest, "response_type is required")
	case form["response_type"] != "code":
		return refuse(unsupportedResponse, "response_type must be code")
	case form["response_mode"] != "" && form["response_mode"] != "query":
		return refuse(invalidRequest, "response_mode must be query")
	// Byte for byte, before anything has unescaped it (RFC 9700 §2.1).
	case !slices.Contains(client.RedirectURIs, form["redirect_uri"]):
		return refuse(invalidRequest, "redirect_uri is not one that is configured for this client")
	case !slices.Contains(strings.Fields(form["scope"]), "openid"):
		return refuse(invalidScope, "scope must include openid")
	}
	return nil
}

// checkPKCE: S256 or nothing (RFC 7636 §4.3, RFC 9700 §2.1.1).
func checkPKCE(_ *Client, form params) error {
	if form["code_challenge_method"] != "S256" {
		return refuse(invalidRequest, "code_challenge_method must be S256")
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(form["code_challenge"])
	if err != nil || len(sum) != 32 {
		return refuse(invalidRequest, "code_challenge must be the base64url of a SHA-256")
	}
	return nil
}

// checkCustomer: login_hint becomes sub, so both have the length of a user name
// (OIDC Core §2: at most 255 characters).
func checkCustomer(_ *Client, form params) error {
	if form["login_hint"] == "" {
		return refuse(invalidRequest, "login_hint is required: the customer whose code is asked for")
	}
	if err := verifier.CheckUserName(form["login_hint"]); err != nil {
		return refuse(invalidRequest, "login_hint can't be a customer's name: too long, or with characters that can't be printed").because(err)
	}
	return nil
}

// checkContext: what the portal asks of the authentication. Any max_age and
// prompt=login are met, since every request is a fresh authentication.
func checkContext(client *Client, form params) error {
	acrs := strings.Fields(form["acr_values"])
	if len(acrs) > 0 && !slices.Contains(acrs, client.ACR) {
		return refuse(unmetAuthentication, "this realm meets "+client.ACR+" only")
	}
	switch form["prompt"] {
	case "", "none", "login":
		return nil
	}
	return refuse(invalidRequest, "prompt must be none or login")
}

func checkEchoes(_ *Client, form params) error {
	if n := form["nonce"]; n != "" && !printable(n, maxNonce) {
		return refuse(invalidRequest, fmt.Sprintf("nonce must be at most %d bytes of printable characters", maxNonce))
	}
	if s := form["state"]; s != "" && !printable(s, maxState) {
		return refuse(invalidRequest, fmt.Sprintf("state must be at most %d bytes of printable characters", maxState))
	}
	return nil
}

// locales are the first usable ones of ui_locales. It is a wish: what can't be
// read is passed over (OIDC Core §3.1.2.1).
func locales(wish string) []string {
	var tags []string
	for tag := range strings.FieldsSeq(wish) {
		if len(tag) <= maxLocale && strings.Trim(tag, localeAlphabet) == "" && len(tags) < maxLocales {
			tags = append(tags, tag)
		}
	}
	return tags
}
