package pages

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/chromedp"
)

// payment is a type of transaction of the bench's realm.
func payment() DetailType {
	label := func(ja, en string) map[string]string { return map[string]string{"ja": ja, "en": en} }
	return DetailType{
		Title: label("振込", "Transfer"),
		Fields: []DetailField{
			{Name: "amount", Kind: DetailAmount, Label: label("金額", "Amount")},
			{Name: "currency", Kind: DetailCurrency, Label: label("通貨", "Currency")},
			{Name: "payee", Kind: DetailText, Label: label("受取人", "Payee")},
			{Name: "account", Kind: DetailAccount, Label: label("口座番号", "Account")},
			{Name: "due", Kind: DetailDate, Label: map[string]string{"ja": "振込指定日"}},
		},
	}
}

func TestTransactionStandsAboveTheCode(t *testing.T) {
	b := newBench(t)
	b.request.Details = []Detail{{Type: "payment", Values: map[string]string{
		"amount": "1234567", "currency": "JPY", "payee": `<b>山田</b> & "Co"`, "due": "2026-11-03",
	}}}
	for lang, want := range map[string][]string{
		"ja": {"お取引内容の確認", "振込", "金額", "1,234,567円", "受取人", "&lt;b&gt;山田&lt;/b&gt;", "2026年11月3日", "見本信用組合へご連絡", "この内容で承認する"},
		"en": {"Check and approve", "Transfer", "Amount", "JPY\u00a01,234,567", "3 November 2026", "振込指定日", "Approve"},
	} {
		page := b.get("/otp/r1?lang=" + lang).Body.String()
		before, _, found := strings.Cut(page, `id="code"`)
		if !found {
			t.Fatalf("no code page: %s", page)
		}
		for _, text := range want[:len(want)-1] { // the last one is the button
			if !strings.Contains(before, text) {
				t.Errorf("%s: %q isn't above the code:\n%s", lang, text, before)
			}
		}
		if strings.Contains(page, "autofocus") { // on a phone it would scroll the transaction away
			t.Errorf("%s: the code has the focus at once", lang)
		}
		if !strings.Contains(page, want[len(want)-1]) || strings.Contains(page, "通貨") || strings.Contains(page, "口座番号") {
			t.Errorf("%s: the button, or a line that there is nothing for: %s", lang, page)
		}
	}
	if page := b.post("/otp/r1?lang=en", "1").Header().Get("Location"); !strings.Contains(b.get(page).Body.String(), "1,234,567") {
		t.Error("after a slip it isn't shown")
	}
}

// What can't be shown as a whole must not be approved.
func TestTransactionThatCanNotBeShown(t *testing.T) {
	for name, detail := range map[string]Detail{
		"an unknown type":      {Type: "loan", Values: map[string]string{"payee": "A"}},
		"an unknown field":     {Type: "payment", Values: map[string]string{"amount": "1", "currency": "JPY", "note": "x"}},
		"an amount in nothing": {Type: "payment", Values: map[string]string{"amount": "1", "payee": "A"}},
	} {
		b := newBench(t)
		b.request.Details = []Detail{detail}
		if a := b.get("/otp/r1"); a.Code != http.StatusServiceUnavailable || strings.Contains(a.Body.String(), `id="code"`) {
			t.Errorf("%s: %d", name, a.Code)
		}
	}
}

func TestAmounts(t *testing.T) {
	for _, test := range []struct{ value, currency, lang, want string }{
		{"0", "JPY", "ja", "0円"},
		{"999", "JPY", "ja", "999円"},
		{"1000", "JPY", "en", "JPY\u00a01,000"},
		{"123456789012345", "JPY", "ja", "123,456,789,012,345円"},
		{"1234.50", "USD", "ja", "USD\u00a01,234.50"},
	} {
		if got := amount(test.value, test.currency, test.lang); got != test.want {
			t.Errorf("%+v: %q", test, got)
		}
	}
}

func TestPostForm(t *testing.T) {
	p := &Pages{Realms: map[string]Realm{"retail": {Name: map[string]string{"ja": "見本信用組合"}}}}
	a := httptest.NewRecorder()
	p.PostForm(a, httptest.NewRequest(http.MethodGet, "/authorize/response/x", nil), Form{
		Realm: "retail", Locales: []string{"en"}, Action: `https://bank.example/"cb`, Fields: url.Values{"code": {"the-code"}, "state": {`a"<b`}},
	})
	page := a.Body.String()
	for _, part := range []string{
		`action="https://bank.example/%22cb"`, `name="state" value="a&#34;&lt;b"`, `name="code" value="the-code"`, `<html lang="en">`,
		`<script>document.forms[0].submit()</script>`, "見本信用組合",
	} {
		if !strings.Contains(page, part) {
			t.Errorf("no %s in\n%s", part, page)
		}
	}
	csp := a.Header().Get("Content-Security-Policy")
	if !strings.Contains(csp, "default-src 'none'") || !strings.Contains(csp, "script-src 'sha256-") || strings.Contains(csp, "unsafe") ||
		a.Header().Get("Cache-Control") != "no-store" || a.Header().Get("Referrer-Policy") != "strict-origin" {
		t.Errorf("headers %v", a.Header())
	}
}

// With scripts the browser goes on by itself, and the one script is allowed; without
// there is the button.
func TestBrowserPostsTheForm(t *testing.T) {
	for _, scripts := range []bool{true, false} {
		br := browse(t)
		posted := make(chan url.Values, 1)
		bank := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.Method == http.MethodPost && r.URL.Path == "/back" && r.ParseForm() == nil {
				posted <- r.PostForm
			}
			_, _ = io.WriteString(w, "<!DOCTYPE html><title>portal</title>")
		}))
		t.Cleanup(bank.Close)
		br.bench.mux.HandleFunc("GET /form", func(w http.ResponseWriter, r *http.Request) {
			p := &Pages{Realms: map[string]Realm{}}
			p.PostForm(w, r, Form{Locales: []string{"en"}, Action: bank.URL + "/back", Fields: url.Values{"code": {"the-code"}, "state": {`a"<b`}}})
		})
		if scripts {
			br.do(command(emulation.SetScriptExecutionDisabled, emulation.SetScriptExecutionDisabledParams{Value: false}))
			br.do(chromedp.Navigate(br.url + "/form"))
		} else {
			br.do(chromedp.Navigate(br.url + "/form"))
			br.submit(chromedp.Click(chromedp.CSS("button.primary")))
		}
		select {
		case form := <-posted:
			if form.Get("code") != "the-code" || form.Get("state") != `a"<b` {
				t.Errorf("posted %v", form)
			}
		case <-br.ctx.Done():
			t.Errorf("with scripts %t: nothing was posted", scripts)
		}
	}
}

// A customer reads what is confirmed before anything else; after a slip he goes on
// where he was.
func TestConfirmationTakesTheFocusAfterASlip(t *testing.T) {
	b := newBench(t)
	b.request.Details = []Detail{{Type: "payment", Values: map[string]string{"amount": "1", "currency": "JPY", "payee": "A"}}}
	if page := b.get("/otp/r1"); strings.Contains(page.Body.String(), "autofocus") {
		t.Error("the field has the focus before the payment was read")
	}
	if page := b.try("/otp/r1", "1"); !strings.Contains(page.Body.String(), "autofocus") {
		t.Error("after a slip the field hasn't the focus")
	}
}
