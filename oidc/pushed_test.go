package oidc_test

import (
	"net/http"
	"net/url"
	"strings"
	"testing"
)

func TestPushedRequest(t *testing.T) {
	g := newGate(t)
	a := g.portal.push(nil)
	if a.status != http.StatusCreated || a.field("expires_in") != "90" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s %v", a.status, a.body, a.header)
	}
	secret, ok := strings.CutPrefix(a.field("request_uri"), "urn:ietf:params:oauth:request_uri:")
	if !ok || len(secret) < 43 {
		t.Errorf("request_uri %q", a.field("request_uri"))
	}
	for name, changed := range map[string]map[string]string{
		"scopes in another order":       {"scope": "profile openid"},
		"an unknown parameter":          {"foo": "bar"},
		"acr_values that can be met":    {"acr_values": "urn:other urn:otpgate:acr:otp"},
		"a nonce of 64 characters":      {"nonce": strings.Repeat("n", 64)},
		"prompt=login":                  {"prompt": "login"},
		"max_age":                       {"max_age": "0"},
		"otp_action=verify":             {"otp_action": "verify"},
		"ui_locales that make no sense": {"ui_locales": "  xx-" + strings.Repeat("y", 99) + " en"},
	} {
		if a := g.portal.push(changed); a.status != http.StatusCreated {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestPushedRequestRefused(t *testing.T) {
	g := newGate(t)
	for name, test := range map[string]struct {
		changed map[string]string
		want    string
	}{
		"no response_type":             {map[string]string{"response_type": ""}, "invalid_request"},
		"implicit":                     {map[string]string{"response_type": "id_token"}, "unsupported_response_type"},
		"hybrid":                       {map[string]string{"response_type": "code id_token"}, "unsupported_response_type"},
		"token":                        {map[string]string{"response_type": "token"}, "unsupported_response_type"},
		"fragment":                     {map[string]string{"response_mode": "fragment"}, "invalid_request"},
		"JARM":                         {map[string]string{"response_mode": "jwt"}, "invalid_request"},
		"no client_id":                 {map[string]string{"client_id": ""}, "invalid_request"},
		"no redirect_uri":              {map[string]string{"redirect_uri": ""}, "invalid_request"},
		"another redirect_uri":         {map[string]string{"redirect_uri": "https://evil.example/callback"}, "invalid_request"},
		"longer redirect_uri":          {map[string]string{"redirect_uri": callback + "/.."}, "invalid_request"},
		"redirect_uri with a query":    {map[string]string{"redirect_uri": callback + "?x=1"}, "invalid_request"},
		"redirect_uri in another case": {map[string]string{"redirect_uri": "https://PORTAL.example/callback"}, "invalid_request"},
		"redirect_uri escaped twice":   {map[string]string{"redirect_uri": url.QueryEscape(callback)}, "invalid_request"}, // edge 4
		"redirect_uri escaped in part": {map[string]string{"redirect_uri": strings.Replace(callback, "/c", "/%63", 1)}, "invalid_request"},
		"no openid":                    {map[string]string{"scope": "profile"}, "invalid_scope"}, // edge 8
		"no scope":                     {map[string]string{"scope": ""}, "invalid_scope"},
		"no PKCE":                      {map[string]string{"code_challenge": "", "code_challenge_method": ""}, "invalid_request"},                // edge 5
		"plain PKCE":                   {map[string]string{"code_challenge": codeVerifier, "code_challenge_method": "plain"}, "invalid_request"}, // edge 5
		"PKCE without a method":        {map[string]string{"code_challenge_method": ""}, "invalid_request"},
		"unknown PKCE method":          {map[string]string{"code_challenge_method": "S512"}, "invalid_request"},
		"short challenge":              {map[string]string{"code_challenge": challenge[:42]}, "invalid_request"},
		"padded challenge":             {map[string]string{"code_challenge": challenge + "="}, "invalid_request"},
		"no login_hint":                {map[string]string{"login_hint": ""}, "invalid_request"},
		"long login_hint":              {map[string]string{"login_hint": strings.Repeat("a", 256)}, "invalid_request"},
		"login_hint with a NUL":        {map[string]string{"login_hint": "a\x00b"}, "invalid_request"},
		"login_hint with a line break": {map[string]string{"login_hint": "a\nb"}, "invalid_request"},
		"login_hint that isn't UTF-8":  {map[string]string{"login_hint": "a\xff"}, "invalid_request"},
		"long nonce":                   {map[string]string{"nonce": strings.Repeat("n", 256)}, "invalid_request"},
		"long state":                   {map[string]string{"state": strings.Repeat("s", 513)}, "invalid_request"},
		"state with a line break":      {map[string]string{"state": "a\r\nb"}, "invalid_request"},
		"acr_values that can't be met": {map[string]string{"acr_values": "urn:mfa urn:phr"}, "unmet_authentication_requirements"},
		"prompt=none with another":     {map[string]string{"prompt": "none login"}, "invalid_request"},
		"prompt=consent":               {map[string]string{"prompt": "login consent"}, "consent_required"},
		"prompt=select_account":        {map[string]string{"prompt": "select_account"}, "account_selection_required"},
		"unknown prompt":               {map[string]string{"prompt": "create"}, "invalid_request"},
		"max_age that is no number":    {map[string]string{"max_age": "-1"}, "invalid_request"},
		"endless max_age":              {map[string]string{"max_age": "99999999999"}, "invalid_request"},
		"unknown display":              {map[string]string{"display": "wall"}, "invalid_request"},
		"request object beside others": {map[string]string{"request": "e30.e30."}, "invalid_request"}, // edge 6
		"request_uri":                  {map[string]string{"request_uri": "urn:x"}, "invalid_request"},
		"authorization_details":        {map[string]string{"authorization_details": "[{}]"}, "invalid_authorization_details"},
		"id_token_hint":                {map[string]string{"id_token_hint": "e30.e30."}, "invalid_request"}, // edge 9
		"otp_action=manage":            {map[string]string{"otp_action": "manage"}, "invalid_request"},
		"client_secret":                {map[string]string{"client_secret": "x"}, "invalid_request"},
	} {
		t.Run(name, func(t *testing.T) {
			wantRefused(t, g.portal.push(test.changed), http.StatusBadRequest, test.want)
		})
	}
}

// Edge 8: duplicates, GET and odd bodies pass in the bare library.
func TestFormsAreReadStrictly(t *testing.T) {
	g := newGate(t)
	many := strings.Repeat("&x=", 64)
	for _, path := range []string{"/par", "/token"} {
		form := func() string {
			if path == "/token" {
				return g.portal.tokenForm(g.code(), nil)
			}
			return g.portal.pushForm(nil)
		}
		for name, extra := range map[string]string{
			"duplicate":           "&client_id=portal",
			"duplicate, empty":    "&client_id=",
			"duplicate, unknown":  "&foo=1&foo=2",
			"malformed escape":    "&foo=%zz",
			"semicolon":           ";foo=1",
			"too many parameters": many,
		} {
			t.Run(path+" "+name, func(t *testing.T) {
				wantRefused(t, g.post(g.Client(), path, form()+extra), http.StatusBadRequest, "invalid_request")
			})
		}
		t.Run(path+" too large", func(t *testing.T) {
			wantRefused(t, g.post(g.Client(), path, form()+"&foo="+strings.Repeat("x", 64<<10)), http.StatusRequestEntityTooLarge, "invalid_request")
		})
		t.Run(path+" GET", func(t *testing.T) {
			wantRefused(t, g.get(g.Client(), path+"?"+form()), http.StatusMethodNotAllowed, "invalid_request")
		})
		t.Run(path+" parameters in the URL", func(t *testing.T) {
			wantRefused(t, g.post(g.Client(), path+"?state=other", form()), http.StatusBadRequest, "invalid_request")
		})
		t.Run(path+" JSON", func(t *testing.T) {
			r, err := http.NewRequest(http.MethodPost, g.URL+path, strings.NewReader(form()))
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Content-Type", "application/json")
			wantRefused(t, g.do(g.Client(), r), http.StatusBadRequest, "invalid_request")
		})
	}
}
