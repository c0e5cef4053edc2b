package oidc_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"otpgate/oidc"
)

// payment is a type as a realm describes it.
func payment() oidc.DetailType {
	return oidc.DetailType{Type: "payment", Fields: []oidc.DetailField{
		{Name: "amount", Kind: oidc.DetailAmount, Required: true},
		{Name: "currency", Kind: oidc.DetailCurrency},
		{Name: "payee", Kind: oidc.DetailText, Required: true, MaxLength: 40},
		{Name: "account", Kind: oidc.DetailAccount},
		{Name: "due", Kind: oidc.DetailDate},
	}}
}

func withPayments(c *oidc.Client) { c.Details = []oidc.DetailType{payment()} }

const rightDetails = `[ {"type":"payment", "amount":"1500000", "currency":"JPY", "payee":"株式会社　山田 & Söhne", "account":"0001 234-5678", "due":"2026-11-30"} ]`

func TestDetailsAreConfirmed(t *testing.T) {
	g := newObjectGate(t, asOIDC(withPayments))
	push := map[string]string{"authorization_details": rightDetails}
	browser := g.browser()
	page := g.load(browser, g.portal.requestURI(push))
	var shown oidc.Request
	if err := json.Unmarshal(g.get(browser, page).body, &shown); err != nil {
		t.Fatal(err)
	}
	want := []oidc.Detail{{Type: "payment", Values: map[string]string{
		"amount": "1500000", "currency": "JPY", "payee": "株式会社　山田 & Söhne", "account": "0001 234-5678", "due": "2026-11-30",
	}}}
	if diff := cmp.Diff(want, shown.Details); diff != "" {
		t.Errorf("shown (-want +got):\n%s", diff)
	}
	var asked any
	if err := json.Unmarshal([]byte(rightDetails), &asked); err != nil {
		t.Fatal(err)
	}
	tokens := g.portal.redeem(g.post(browser, page, "").callback(t).Get("code"), nil)
	var answer map[string]any
	if err := json.Unmarshal(tokens.body, &answer); err != nil {
		t.Fatal(err)
	}
	claims := payloadOf(t, tokens.field("id_token"))
	for where, got := range map[string]any{"token response": answer["authorization_details"], "ID token": claims["authorization_details"]} {
		if diff := cmp.Diff(asked, got); diff != "" {
			t.Errorf("%s (-want +got):\n%s", where, diff)
		}
	}
	if claims["sub"] != customer || claims["at_hash"] == nil {
		t.Errorf("claims %v", claims)
	}
	// They are of this request alone.
	if claims, _ := g.pass(authorizePath("portal", g.portal.requestURI(nil))); claims["authorization_details"] != nil {
		t.Errorf("another log-in has %v", claims["authorization_details"])
	}
	// In a request object they are JSON, not text.
	claims, _ = g.pass(objectPath("portal", g.portal.object(map[string]any{"authorization_details": asked})))
	if diff := cmp.Diff(asked, claims["authorization_details"]); diff != "" {
		t.Errorf("signed (-want +got):\n%s", diff)
	}
}

// What only the browser says is no transaction that somebody approves.
func TestDetailsInABrowsersHands(t *testing.T) {
	g := newGate(t, asOIDC(func(c *oidc.Client) { withPayments(c); c.BareHint = true }))
	back := g.get(g.browser(), barePath(map[string]string{"login_hint": customer, "authorization_details": rightDetails})).callback(t)
	if back.Get("error") != "invalid_authorization_details" || back.Has("code") {
		t.Errorf("%v", back)
	}
}

// No code buys another transaction than the one that was shown.
func TestDetailsAtTheTokenEndpoint(t *testing.T) {
	g := newGate(t, asOIDC(withPayments))
	browser := g.browser()
	code := g.post(browser, g.load(browser, g.portal.requestURI(map[string]string{"authorization_details": rightDetails})), "").callback(t).Get("code")
	wantRefused(t, g.portal.redeem(code, map[string]string{"authorization_details": rightDetails}), http.StatusBadRequest, "invalid_authorization_details")
}

func TestDetailsRefused(t *testing.T) {
	g := newGate(t, asOIDC(withPayments))
	one := func(members string) string {
		if !strings.Contains(members, `"currency"`) {
			members = `"currency":"JPY",` + members
		}
		return `[{"type":"payment",` + members + `}]`
	}
	right := `{"type":"payment","amount":"1","currency":"JPY","payee":"x"}`
	payee := func(text string) string { return one(`"amount":"1","payee":"` + text + `"`) }
	for name, details := range map[string]string{
		"no list":                    right,
		"nothing":                    `[]`,
		"null":                       `null`,
		"a null in it":               `[null]`,
		"text":                       `"payment"`,
		"no type":                    `[{"amount":"1","currency":"JPY","payee":"x"}]`,
		"an unknown type":            `[{"type":"transfer","amount":"1","currency":"JPY","payee":"x"}]`,
		"a type in another case":     `[{"type":"Payment","amount":"1","currency":"JPY","payee":"x"}]`,
		"an unknown field":           one(`"amount":"1","payee":"x","note":"y"`),
		"a standard field":           one(`"amount":"1","payee":"x","actions":"pay"`),
		"a list as a field":          one(`"amount":"1","payee":["x"]`),
		"a null as a field":          one(`"amount":"1","payee":"x","due":null`),
		"a field that is missing":    one(`"amount":"1"`),
		"a field twice":              one(`"amount":"1","amount":"9999999","payee":"x"`),
		"an amount as a number":      one(`"amount":1,"payee":"x"`),
		"a negative amount":          one(`"amount":"-1","payee":"x"`),
		"an amount with commas":      one(`"amount":"1,000","payee":"x"`),
		"an amount with zeros":       one(`"amount":"0001","payee":"x"`),
		"an amount in full width":    one(`"amount":"１","payee":"x"`),
		"an amount with an exponent": one(`"amount":"1e9","payee":"x"`),
		"an endless amount":          one(`"amount":"` + strings.Repeat("9", 16) + `","payee":"x"`),
		"a tenth of a yen":           one(`"amount":"1.5","currency":"JPY","payee":"x"`),
		"an amount in nothing":       `[{"type":"payment","amount":"1","payee":"x"}]`,
		"one of two in nothing":      "[" + right + `,{"type":"payment","amount":"1","payee":"x"}]`,
		"no currency":                one(`"amount":"1","currency":"AAA","payee":"x"`),
		"a currency in small":        one(`"amount":"1","currency":"jpy","payee":"x"`),
		"no date":                    one(`"amount":"1","payee":"x","due":"2026-02-30"`),
		"a date as written":          one(`"amount":"1","payee":"x","due":"30.11.2026"`),
		"an account with a script":   one(`"amount":"1","payee":"x","account":"<b>"`),
		"an endless account":         one(`"amount":"1","payee":"x","account":"` + strings.Repeat("1", 35) + `"`),
		"an endless text":            payee(strings.Repeat("x", 41)),
		"an empty text":              payee(""),
		"a line break":               payee(`x\ny`),
		"a tab":                      payee(`x\ty`),
		"a line separator":           payee("x\u2028y"),
		"a right-to-left override":   payee("x\u202ey"),
		"a right-to-left mark":       payee("x\u200fy"),
		"an isolate":                 payee("x\u2066y"),
		"a zero-width space":         payee("x\u200by"),
		"a byte order mark":          payee("x\ufeffy"),
		"a Hangul filler":            payee("x\u3164y"),
		"a Braille blank":            payee("x\u2800y"),
		"a no-break space":           payee("x\u00a0y"),
		"a row of spaces":            payee("x" + strings.Repeat(" ", 30) + "y"),
		"a space at the end":         payee("x "),
		"a tower of marks":           payee("x" + strings.Repeat("\u0301", 10)),
		"a mark on nothing":          payee("\u0301x"),
		"private letters":            payee("x\ue000"),
		"half a character":           payee(`x\ud800`),
		"too many":                   "[" + strings.Repeat(right+",", 4) + right + "]",
		"too long":                   one(`"amount":"1","payee":"x"`) + strings.Repeat(" ", 4<<10),
		"nested":                     strings.Repeat("[", 2000) + strings.Repeat("]", 2000),
		"not UTF-8":                  payee("x\xff"),
	} {
		t.Run(name, func(t *testing.T) {
			a := g.portal.push(map[string]string{"authorization_details": details})
			want := "invalid_authorization_details"
			if name == "not UTF-8" {
				want = "invalid_request"
			}
			wantRefused(t, a, http.StatusBadRequest, want)
		})
	}
	if strings.Contains(g.log.String(), "9999999") {
		t.Error("the log has what was asked for")
	}
	wantRefused(t, g.other.push(map[string]string{"authorization_details": rightDetails}), http.StatusBadRequest, "invalid_authorization_details")
	for name, details := range map[string]string{
		"without what it may lack": one(`"amount":"0","payee":"x"`),
		"cents":                    one(`"amount":"1234.50","currency":"USD","payee":"x"`),
		"accents":                  payee("Zoe\u0308 Ng\u1ecdc が"),
		"four":                     "[" + strings.Repeat(right+",", 3) + right + "]",
	} {
		if a := g.portal.push(map[string]string{"authorization_details": details}); a.status != http.StatusCreated {
			t.Errorf("%s: %d %s", name, a.status, a.body)
		}
	}
}

func TestDetailTypesAreChecked(t *testing.T) {
	for name, change := range map[string]func(*oidc.DetailType){
		"no name":         func(d *oidc.DetailType) { d.Type = "" },
		"no fields":       func(d *oidc.DetailType) { d.Fields = nil },
		"a field type":    func(d *oidc.DetailType) { d.Fields[0].Name = "type" },
		"a field twice":   func(d *oidc.DetailType) { d.Fields[1].Name = d.Fields[0].Name },
		"unknown kind":    func(d *oidc.DetailType) { d.Fields[0].Kind = "html" },
		"endless text":    func(d *oidc.DetailType) { d.Fields[2].MaxLength = 1000 },
		"boundless text":  func(d *oidc.DetailType) { d.Fields[2].MaxLength = 0 },
		"bounded amount":  func(d *oidc.DetailType) { d.Fields[0].MaxLength = 5 },
		"two currencies":  func(d *oidc.DetailType) { d.Fields[4].Kind = oidc.DetailCurrency },
		"no currency":     func(d *oidc.DetailType) { d.Fields[1].Kind = oidc.DetailDate },
		"too many fields": func(d *oidc.DetailType) { d.Fields = make([]oidc.DetailField, 13) },
	} {
		g := newGate(t)
		g.records.Close()
		client := g.portal.client()
		d := payment()
		change(&d)
		client.Details = []oidc.DetailType{d}
		if _, err := g.newProvider(client); err == nil || !strings.Contains(err.Error(), "details: ") {
			t.Errorf("%s is taken, or blames something else: %v", name, err)
		}
	}
}
