package config

import (
	"strings"
	"testing"
	"time"
)

const entraYAML = `realms: [{ id: staff, service_id: "1", name: { ja: a, en: a } }]
oidc:
  issuer: https://localhost
  clients:
    - id: entra
      realm: staff
      profile: entra-eam
      redirect_uris: [https://login.microsoftonline.com/common/federation/externalauthprovider]
      hint_issuers:
        - issuer: https://login.microsoftonline.com/T/v2.0
          tenant: T
          audience: A
          customer_claim: oid
          jwks_uri: https://login.microsoftonline.com/T/discovery/v2.0/keys
`

func TestEntraClient(t *testing.T) {
	c, faults := oidcFaults(t, entraYAML)
	if faults != "" || c.Auth != noAuth || c.IDTokenAlg != "RS256" || c.SenderConstraint != "" || c.RequestObject != "" ||
		c.HintIssuers[0].ExpiredFor != 10*time.Minute || c.HintIssuers[0].CustomerClaim != "oid" {
		t.Errorf("%+v; %s", c, faults)
	}
	if c, faults = oidcFaults(t, entraYAML+"      id_token_alg: PS256\n"); faults != "" || c.IDTokenAlg != "PS256" {
		t.Errorf("%+v; %s", c, faults)
	}
	without := func(line string) string { return strings.Replace(entraYAML, line, "", 1) }
	for text, want := range map[string]string{
		entraYAML + "      sender_constraint: dpop\n":                      "sender_constraint: is for portals that ask by themselves",
		entraYAML + "      rate: 5\n":                                      "rate: is for portals that ask by themselves",
		entraYAML + "      bare_login_hint: true\n":                        "bare_login_hint: is for portals that ask by themselves",
		entraYAML + "      request_object: allowed\n":                      "request_object: is for portals that ask by themselves",
		entraYAML + "      auth: private_key_jwt\n      jwks_file: keys\n": "auth: must be none, or left out, with profile entra-eam",
		entraYAML + "      jwks_file: keys\n":                              "jwks_file: is of no use with auth none",
		without("          tenant: T\n"):                                   "hint_issuers[0].tenant: is missing",
		strings.Replace(entraYAML, ".com/common/", ".com/x/", 1):           "redirect_uris[0]: must be Microsoft's with profile entra-eam",
		entraYAML[:strings.Index(entraYAML, "      hint_issuers")]:         "hint_issuers: is missing: the tenant that names its users",
	} {
		if _, faults := oidcFaults(t, text); !strings.Contains(faults, "oidc.clients[0]."+want) || strings.Count(faults, "\n") > 0 {
			t.Errorf("%s:\n%s\nwant %s", text, faults, want)
		}
	}
}

func TestRequestsOfClients(t *testing.T) {
	const hint = `{ issuer: "https://i.example", audience: a, jwks_file: keys }`
	for client, want := range map[string]string{
		`jwks_file: keys`: "allowed",
		`jwks_file: keys, request_object: required`:                                                                                     "required",
		`auth: tls_client_auth, certificate: { ca_file: ca, san_dns: p }`:                                                               "",
		`auth: tls_client_auth, certificate: { ca_file: ca, san_dns: p }, request_object: allowed, jwks_file: keys`:                     "allowed",
		`profile: oidc, auth: client_secret_post, secrets: [{ file: secret }], request_object: required, jwks_uri: https://p.example/k`: "required",
		`jwks_file: keys, hint_issuers: [` + hint + `]`:                                                                                 "allowed",
		`jwks_file: keys, profile: oidc, bare_login_hint: true`:                                                                         "allowed",
	} {
		c, faults := oidcFaults(t, oidcClient(client))
		if faults != "" || c.RequestObject != want {
			t.Errorf("%s: %q, want %q; %s", client, c.RequestObject, want, faults)
		}
		for _, i := range c.HintIssuers {
			if i.CustomerClaim != "sub" || i.ExpiredFor != 0 || len(i.JWKS.Keys) != 1 {
				t.Errorf("%s: %+v", client, i)
			}
		}
	}
	for client, want := range map[string]string{
		`jwks_file: keys, bare_login_hint: true`:                                                                          `bare_login_hint: isn't allowed with profile fapi2`,
		`jwks_file: keys, profile: oidc, bare_login_hint: true, request_object: required`:                                 `bare_login_hint: is of no use where request_object is required`,
		`profile: oidc, auth: client_secret_post, secrets: [{ file: secret }], request_object: required`:                  `jwks_file: is missing: give it, the file of the portal's public keys`,
		`jwks_file: keys, request_object: never`:                                                                          `request_object: must be required or allowed, not "never"`,
		`jwks_file: keys, hint_issuers: [` + hint + `, ` + hint + `]`:                                                     `hint_issuers[1].issuer: "https://i.example" is taken by`,
		`jwks_file: keys, hint_issuers: [{ issuer: "https://i.example", audience: a }]`:                                   `hint_issuers[0].jwks_file: is missing: give it, the file of the issuer's public keys`,
		`jwks_file: keys, hint_issuers: [{ issuer: "https://i.example", audience: a, jwks_uri: "http://x/" }]`:            `hint_issuers[0].jwks_uri: must be an https address`,
		`jwks_file: keys, hint_issuers: [{ issuer: "https://i.example", audience: a, jwks_file: none }]`:                  `hint_issuers[0].jwks_file: none can't be read`,
		`jwks_file: keys, hint_issuers: [{ issuer: "https://i.example", jwks_file: keys }]`:                               `hint_issuers[0].audience: is missing`,
		`jwks_file: keys, hint_issuers: [{ issuer: "https://i.example", audience: a, jwks_file: keys, expired_for: 2h }]`: `hint_issuers[0].expired_for: must be from 0s to 1h`,
	} {
		if _, faults := oidcFaults(t, oidcClient(client)); !strings.Contains(faults, "oidc.clients[0]."+want) || strings.Count(faults, "\n") > 0 {
			t.Errorf("%s:\n%s\nwant %s", client, faults, want)
		}
	}
}

func TestTransactions(t *testing.T) {
	const yaml = `realms:
  - id: retail
    service_id: "1"
    name: { ja: a, en: a }
    transactions:
      - type: payment
        title: { ja: 振込, en: Transfer }
        fields:
          - { name: amount, kind: amount, label: { ja: 金額, en: Amount }, required: true }
          - { name: currency, kind: currency, label: { ja: 通貨, en: Currency } }
          - { name: payee, kind: text, label: { ja: 受取人, en: Payee }, max_length: 40 }
oidc: { issuer: "https://localhost" }
`
	c, faults := parse([]byte(yaml), "f")
	if faults.Error() != "" {
		t.Fatal(faults)
	}
	if f := c.Realms[0].Transactions[0].Fields; !f[0].Required || f[1].Required || f[2].MaxLength != 40 || f[2].Label.JA != "受取人" {
		t.Errorf("%+v", f)
	}
	for change, want := range map[[2]string]string{
		{"name: payee", "name: amount"}:           `fields[2].name: "amount" is taken by`,
		{"name: payee", "name: type"}:             `fields[2].name: type is the transaction's own`,
		{"kind: text", "kind: html"}:              `fields[2].kind: must be text, amount, currency, account or date, not "html"`,
		{"kind: text", "kind: account"}:           `fields[2].max_length: is for texts`,
		{"kind: amount", "kind: currency"}:        `fields[1].kind: is currency a second time`,
		{"kind: currency", "kind: account"}:       `fields: have an amount and no currency`,
		{"max_length: 40", "max_length: 400"}:     `fields[2].max_length: must be from 1 to 140`,
		{"type: payment", "type: <b>"}:            `type: must be letters, digits`,
		{"{ ja: 受取人, en: Payee }", "{ ja: 受取人 }"}: `fields[2].label.en: is missing`,
	} {
		if _, faults := parse([]byte(strings.Replace(yaml, change[0], change[1], 1)), "f"); !strings.Contains(faults.Error(), "realms[0].transactions[0]."+want) {
			t.Errorf("%v: %s\nwant %s", change, faults, want)
		}
	}
}
