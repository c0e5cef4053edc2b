package oidc

import (
	"context"
	"encoding/base64"
	"fmt"
	"slices"
	"strings"
	"time"

	"otpgate/verifier"
)

// The limits of a request's parameters.
const (
	maxNonce   = 255 // octets; FAPI 2.0 Security Profile §5.3.2.2 asks for 64
	maxState   = 512 // octets; it goes back in a URL
	maxLocales = 8   // preferences beyond these decide nothing
	maxLocale  = 35  // octets; RFC 5646 §4.4.1
	maxMaxAge  = 10  // digits; three hundred years
)

// localeAlphabet is what language tags are made of (RFC 5646 §2.1).
const localeAlphabet = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-"

// origin is how the parameters of a request have come.
type origin int

const (
	bare   origin = iota // by a browser, and anybody may have put them there
	signed               // by a browser, in a request object of the client
	pushed               // from the client itself
)

// newRequest checks the parameters of an authorization request. What is unknown
// is ignored (RFC 6749 §3.1); what is known and would be lost is refused.
func (p *Provider) newRequest(ctx context.Context, client *Client, form params, from origin) (*request, error) {
	req, wanted, err := readRequest(client, form, from, p.now())
	if err != nil {
		return nil, err
	}
	name, err := p.nameCustomer(ctx, client, form, from)
	if err != nil {
		return nil, err
	}
	req.Customer = name.customer
	if name.subject != name.customer {
		req.Subject = name.subject
	}
	if wanted.IDToken.Subject != nil && len(wanted.IDToken.Subject.named()) > 0 &&
		!slices.Contains(wanted.IDToken.Subject.named(), req.subject()) { // OIDC Core §3.1.2.2
		return nil, refuse(invalidRequest, "claims asks for another sub than the customer's")
	}
	return req, nil
}

// readRequest is newRequest but for whose code is asked for.
func readRequest(client *Client, form params, from origin, now time.Time) (*request, *wantedClaims, error) {
	checks := []func(*Client, params) error{checkUnsupported, checkFlow, checkPKCE, checkContext, checkEchoes}
	for _, check := range checks {
		if err := check(client, form); err != nil {
			return nil, nil, err
		}
	}
	wanted, err := parseClaims(form["claims"])
	if err != nil {
		return nil, nil, err
	}
	acr, err := chooseContext(client, &wanted, strings.Fields(form["acr_values"]))
	if err != nil {
		return nil, nil, err
	}
	if from == bare && form["authorization_details"] != "" {
		return nil, nil, refuse(invalidAuthorizations, "authorization_details must be pushed, or stand in a request object")
	}
	details, err := parseDetails(client.Details, form["authorization_details"])
	if err != nil {
		return nil, nil, err
	}
	return &request{
		replyTo: replyTo{
			RedirectURI: form["redirect_uri"], State: form["state"], FormPost: form["response_mode"] == "form_post",
			Locales: locales(form["ui_locales"]),
		},
		Client:     client.ID,
		IDToken:    form["response_type"] == "id_token",
		Challenge:  form["code_challenge"],
		Nonce:      form["nonce"],
		ACR:        acr,
		Details:    details,
		Silent:     form["prompt"] == "none",
		LoadBefore: now.Add(requestURILife),
	}, &wanted, nil
}

// nameCustomer finds out whose code is asked for, from what a browser can't have
// made up.
func (p *Provider) nameCustomer(ctx context.Context, client *Client, form params, from origin) (customerName, error) {
	hint := form["id_token_hint"]
	switch {
	case hint != "" && len(client.HintIssuers) == 0:
		return customerName{}, refuse(invalidRequest, "name the customer in login_hint: no issuer of an id_token_hint is configured for this client")
	case hint != "" && form["login_hint"] != "" && client.Profile != ProfileEntraEAM: // which may send it, and it is to be ignored
		return customerName{}, refuse(invalidRequest, "name the customer once: in login_hint or by id_token_hint")
	case hint != "":
		return p.namedByHint(ctx, client, hint)
	case from == bare && !client.BareHint:
		return customerName{}, refuse(invalidRequest, "who is asked for must be pushed, signed, or named by an id_token_hint")
	}
	return namedPlainly(form["login_hint"])
}

// namedPlainly: login_hint becomes sub, so both have the length of a user name
// (OIDC Core §2: at most 255 characters).
func namedPlainly(loginHint string) (customerName, error) {
	if loginHint == "" {
		return customerName{}, refuse(invalidRequest, "login_hint is required: the customer whose code is asked for")
	}
	if err := verifier.CheckUserName(loginHint); err != nil {
		return customerName{}, refuse(invalidRequest, "login_hint can't be a customer's name: too long, or with characters that can't be printed").because(err)
	}
	return customerName{customer: loginHint, subject: loginHint}, nil
}

// checkUnsupported refuses what a portal might rely upon and wouldn't get.
func checkUnsupported(_ *Client, form params) error {
	switch {
	case form["request_uri"] != "":
		return refuse(invalidRequest, "request_uri can't be pushed") // RFC 9126 §2.1
	case form["otp_action"] != "" && form["otp_action"] != "verify":
		return refuse(invalidRequest, "otp_action must be verify")
	}
	return nil
}

func checkFlow(client *Client, form params) error {
	responseType, modes := "code", []string{"", "query", "form_post"}
	if client.Profile == ProfileEntraEAM { // which has no back channel to redeem a code at
		responseType, modes = "id_token", []string{"form_post"}
	}
	switch {
	case form["client_id"] != client.ID:
		return refuse(invalidRequest, "client_id is required, and is the client's own") // another's fails to authenticate
	case form["response_type"] == "":
		return refuse(invalidRequest, "response_type is required")
	case form["response_type"] != responseType:
		return refuse(unsupportedResponse, "response_type must be "+responseType)
	case !slices.Contains(modes, form["response_mode"]):
		return refuse(invalidRequest, "response_mode must be "+strings.Join(modes[len(modes)/2:], " or "))
	// Byte for byte, before anything has unescaped it (RFC 9700 §2.1).
	case !slices.Contains(client.RedirectURIs, form["redirect_uri"]):
		return refuse(invalidRequest, "redirect_uri is not one that is configured for this client")
	case !slices.Contains(strings.Fields(form["scope"]), "openid"):
		return refuse(invalidScope, "scope must include openid")
	case responseType == "id_token" && form["nonce"] == "": // OIDC Core §3.2.2.1
		return refuse(invalidRequest, "nonce is required")
	}
	return nil
}

// checkPKCE: S256 or nothing (RFC 7636 §4.3, RFC 9700 §2.1.1).
func checkPKCE(client *Client, form params) error {
	if client.Profile == ProfileEntraEAM { // there is no code to protect
		return nil
	}
	if form["code_challenge_method"] != "S256" {
		return refuse(invalidRequest, "code_challenge_method must be S256")
	}
	sum, err := base64.RawURLEncoding.Strict().DecodeString(form["code_challenge"])
	if err != nil || len(sum) != 32 {
		return refuse(invalidRequest, "code_challenge must be the base64url of a SHA-256")
	}
	return nil
}

// checkContext: what the portal asks of the authentication (OIDC Core §3.1.2.1).
// Any max_age and prompt=login are met, since every request is a fresh
// authentication; the page fits every display.
func checkContext(_ *Client, form params) error {
	if age := form["max_age"]; len(age) > maxMaxAge || strings.Trim(age, "0123456789") != "" {
		return refuse(invalidRequest, "max_age must be a number of seconds")
	}
	if d := form["display"]; d != "" && !slices.Contains([]string{"page", "popup", "touch", "wap"}, d) {
		return refuse(invalidRequest, "display must be page, popup, touch or wap")
	}
	prompts := strings.Fields(form["prompt"])
	for _, prompt := range prompts {
		switch prompt {
		case "login":
		case "none":
			if len(prompts) > 1 {
				return refuse(invalidRequest, "prompt has none and another")
			}
		case "consent":
			return refuse(consentRequired, "nothing is asked here but a one-time password")
		case "select_account":
			return refuse(accountRequired, "the portal says who the customer is")
		default:
			return refuse(invalidRequest, "prompt must be none or login")
		}
	}
	return nil
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
