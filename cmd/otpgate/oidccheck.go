package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"

	"github.com/go-jose/go-jose/v4"

	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/oidc"
)

type oidcCmd struct {
	Check oidcCheckCmd `cmd:"" help:"Tell what a portal must send, with an example of each request, and what about it is weak."`
}

type oidcCheckCmd struct {
	Client string `arg:"" placeholder:"CLIENT" help:"The portal's id in gateway.yaml."`
	daemonFlags
}

// portalCheck is what otpgate oidc check has found.
type portalCheck struct {
	oidc.Guide
	Keys []portalKey `json:"keys,omitempty"`
	// KeysProblem is why the portal's keys can't be had; none of its requests
	// would be taken.
	KeysProblem string `json:"keys_problem,omitempty"`
	// SigningKeys are the running gateway's, of the client's algorithm.
	SigningKeys []admin.SigningKey `json:"signing_keys,omitempty"`
	Running     bool               `json:"running"`
	// GatewayProblem is why a gateway that seems to run couldn't be asked.
	GatewayProblem string          `json:"gateway_problem,omitempty"`
	Weak           []oidc.Weakness `json:"weak"`
}

// portalKey is one of the portal's public keys.
type portalKey struct {
	ID        string `json:"kid,omitempty"`
	Algorithm string `json:"algorithm"`
}

// Run checks the client. What is weak is told, and no reason to fail; keys that
// can't be had are.
func (c oidcCheckCmd) Run(ctx context.Context, term terminal) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	clients := oidcClients(cfg)
	i := slices.IndexFunc(clients, func(client oidc.Client) bool { return client.ID == c.Client })
	if i < 0 {
		return &usageError{fmt.Sprintf("%s has no OIDC client %.70q", c.Config, c.Client), "it has " + clientIDs(clients)}
	}
	var found portalCheck
	keys, err := oidc.ClientKeys(ctx, &clients[i])
	if err != nil {
		found.KeysProblem = err.Error()
	}
	found.Guide = oidc.NewGuide(&clients[i], keys, cfg.OIDC.Issuer, mtlsAddress(cfg), time.Now())
	for j := range keys {
		found.Keys = append(found.Keys, portalKey{keys[j].KeyID, oidc.KeyAlgorithm(&keys[j])})
	}
	found.Weak = append(weakGateway(cfg), oidc.Weaknesses(&clients[i], keys, time.Now())...)
	if err := c.askGateway(ctx, &found, clients[i].IDTokenAlg); err != nil { // who writes a portal may not open its socket
		found.GatewayProblem = err.Error()
	}
	show := found.print
	if c.JSON {
		show = func(w io.Writer) error { return printJSON(w, found) }
	}
	if err := show(term.out); err != nil {
		return err
	}
	if found.KeysProblem != "" {
		return fmt.Errorf("the keys of %s can't be had, so none of its requests would be taken: %s", c.Client, found.KeysProblem)
	}
	return nil
}

// askGateway adds what a running gateway signs by. That there is none is no error.
func (c oidcCheckCmd) askGateway(ctx context.Context, found *portalCheck, alg jose.SignatureAlgorithm) error {
	daemon, err := c.client()
	if err != nil {
		return err
	}
	keys, err := daemon.SigningKeys(ctx)
	switch {
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return nil
	case err != nil:
		return err
	}
	found.Running = true
	for _, key := range keys {
		if key.Algorithm == string(alg) {
			found.SigningKeys = append(found.SigningKeys, key)
		}
	}
	if len(found.SigningKeys) == 0 {
		found.Weak = append(found.Weak, oidc.Weakness{
			Key: "id_token_alg", Problem: "the running gateway has no key for " + string(alg) + ": it was started with another gateway.yaml",
			Remedy: "restart it",
		})
	}
	return nil
}

// weakGateway is what weakens every portal.
func weakGateway(cfg *config.Config) []oidc.Weakness {
	found := []oidc.Weakness{}
	if issuer, err := url.Parse(cfg.OIDC.Issuer); err == nil && issuer.Hostname() == "localhost" {
		found = append(found, oidc.Weakness{
			Key: "oidc.issuer", Problem: "localhost: portals and browsers on other machines don't find the gateway",
			Remedy: "set the address that they will use, before the first portal goes live",
		})
	}
	if cfg.Listen.TLS == nil {
		found = append(found, oidc.Weakness{
			Key: "listen.tls", Problem: "the gateway's certificate is one of its own making, for loopback",
			Remedy: "give it a certificate that the portals and browsers trust",
		})
	}
	if cfg.OIDC.AddressRate == 0 {
		found = append(found, oidc.Weakness{
			Key: "oidc.address_rate", Problem: "0 is no limit on what one address may send", Remedy: "leave it out (1000 a second)",
		})
	}
	return found
}

// mtlsAddress is where portals show certificates; "" if nowhere.
func mtlsAddress(cfg *config.Config) string {
	if cfg.Listen.HTTPSMTLS == "" {
		return ""
	}
	return mtlsURL(cfg, cfg.Listen.HTTPSMTLS)
}

func clientIDs(clients []oidc.Client) string {
	if len(clients) == 0 {
		return "none yet"
	}
	ids := make([]string, len(clients))
	for i := range clients {
		ids[i] = clients[i].ID
	}
	return strings.Join(ids, ", ")
}

// print is for people: who it is, where it asks, its requests as examples, and
// what is weak.
func (p *portalCheck) print(w io.Writer) error {
	fmt.Fprintf(w, "%s: profile %s, realm %s; authenticates by %s\n\n", p.Client, p.Profile, p.Realm, p.Auth)
	fmt.Fprintf(w, "Issuer  %s\nAll of the addresses stand in  %s/.well-known/openid-configuration\n", p.Issuer, p.Issuer)
	t := &table{Writer: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	for _, e := range p.Endpoints {
		if err := t.row("  %s\t%s", e.Name, e.URL); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	p.printKeys(w)
	if p.Push != nil {
		if err := p.printRequests(w); err != nil {
			return err
		}
	}
	if err := printParameters(w, "The ID token, or let nobody in", p.IDToken); err != nil {
		return err
	}
	return p.printWeak(w)
}

func (p *portalCheck) printKeys(w io.Writer) {
	for _, k := range p.Keys {
		fmt.Fprintf(w, "\nThe portal's key  %s  %s", k.Algorithm, orDash(k.ID))
	}
	for _, k := range p.SigningKeys {
		fmt.Fprintf(w, "\nThe gateway's key  %s  %s  %s", k.Algorithm, k.ID, k.State)
	}
	switch {
	case p.GatewayProblem != "":
		fmt.Fprintf(w, "\nThe running gateway couldn't be asked for its signing keys: %s", p.GatewayProblem)
	case !p.Running:
		fmt.Fprint(w, "\nNo gateway is running here, so its signing keys aren't shown.")
	}
	fmt.Fprintln(w)
}

func (p *portalCheck) printRequests(w io.Writer) error {
	fmt.Fprintf(w, "\nEach request shows who sends it by %s.\n", p.Credentials)
	if p.Assertion != nil {
		if err := printJWT(w, p.Assertion, "client_assertion"); err != nil {
			return err
		}
	}
	if p.Object != nil {
		if err := printJWT(w, p.Object, "request, at the push"); err != nil {
			return err
		}
	}
	if p.Proof != nil {
		title := "DPoP header at /token, by a key of the portal's choice; on use_dpop_nonce send again with the nonce of that answer"
		if err := printJWT(w, p.Proof, title); err != nil {
			return err
		}
	}
	for _, step := range []struct {
		title, endpoint string
		parameters      []oidc.Parameter
	}{
		{"1. Push: POST, as a form", "pushed_authorization_request_endpoint", p.Push},
		{"2. Send the browser: GET", "authorization_endpoint", p.Authorize},
		{"3. Redeem the code: POST, as a form", "token_endpoint", p.Redeem},
	} {
		if err := printParameters(w, step.title+" "+p.address(step.endpoint), step.parameters); err != nil {
			return err
		}
	}
	return nil
}

func printJWT(w io.Writer, example *oidc.ExampleJWT, title string) error {
	fmt.Fprintf(w, "\n%s\n", title)
	for _, part := range []map[string]any{example.Header, example.Claims} {
		text, err := json.Marshal(part)
		if err != nil {
			return err
		}
		fmt.Fprintf(w, "  %s\n", text)
	}
	return nil
}

func (p *portalCheck) address(endpoint string) string {
	for _, e := range p.Endpoints {
		if e.Name == endpoint {
			return e.URL
		}
	}
	return ""
}

func printParameters(w io.Writer, title string, parameters []oidc.Parameter) error {
	fmt.Fprintf(w, "\n%s\n", title)
	t := &table{Writer: tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)}
	for _, p := range parameters {
		line := fmt.Sprintf("  %s\t%s", p.Name, p.Value)
		if p.Note != "" {
			line += "\t" + p.Note
		}
		if err := t.row("%s", line); err != nil {
			return err
		}
	}
	return t.Flush()
}

func (p *portalCheck) printWeak(w io.Writer) error {
	if len(p.Weak) == 0 {
		_, err := fmt.Fprintln(w, "\nNothing about it is weak.")
		return err
	}
	fmt.Fprintln(w, "\nWeak")
	for _, weak := range p.Weak {
		if _, err := fmt.Fprintf(w, "  %s: %s.\n    %s.\n", weak.Key, weak.Problem, weak.Remedy); err != nil {
			return err
		}
	}
	return nil
}
