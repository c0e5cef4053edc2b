package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"time"

	"github.com/go-jose/go-jose/v4"
	"golang.org/x/text/language"

	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/internal/pages"
	"otpgate/internal/store/memory"
	"otpgate/oidc"
	"otpgate/radius"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// wire makes the gate and its doors from the configuration: the one place where
// config's values become the other packages' own.
func (g *gateway) wire(ctx context.Context) error {
	gate := &verifier.Verifier{
		Records: g.data.db, Seal: g.data.seal, Audit: g.data.audit,
		Realms: verifierRealms(g.cfg), Now: time.Now, Log: g.log, Metrics: verifier.NewMetrics(g.metrics),
	}
	gate.WatchClock(g.metrics) //nolint:contextcheck // a scrape has none
	g.gate = gate
	if err := gate.FinishBatches(ctx); err != nil {
		return dataError(g.cfg, err)
	}
	g.operator = &admin.Server{Verifier: gate, Audit: g.data.audit, Realms: adminRealms(g.cfg), Log: g.log}
	g.rotation = g.newRotation()
	g.operator.Keys, g.operator.Backups = keys{g.rotation}, g.newBackups()

	if err := g.wireRadius(gate); err != nil {
		return err
	}

	return g.wireOIDC(ctx)
}

// wireOIDC makes the OIDC door and the pages that it leads to.
func (g *gateway) wireOIDC(ctx context.Context) error {
	customer := &pages.Pages{Gate: g.gate, Realms: pageRealms(g.cfg), Portals: pagePortals(g.cfg), Logger: g.log, Now: time.Now}
	provider, err := oidc.New(ctx, oidc.Config{
		Issuer: g.cfg.OIDC.Issuer, MTLSURL: g.mtlsURL(), AddressRate: g.cfg.OIDC.AddressRate,
		Clients: oidcClients(g.cfg), Locales: []language.Tag{language.Japanese, language.English},
		Passing: memory.New(time.Now, len(g.cfg.OIDC.Clients)*oidc.ClientBytes), Records: g.data.db, Seal: g.data.seal,
		CodePage: pages.Address,
		NoRequest: func(w http.ResponseWriter, r *http.Request, status int) {
			kind := pages.Gone
			switch status {
			case http.StatusServiceUnavailable:
				kind = pages.Unavailable
			case http.StatusTooManyRequests:
				kind = pages.TooMany
			}
			customer.Problem(w, r, kind)
		},
		SignedOut: customer.SignedOut,
		PostForm: func(w http.ResponseWriter, r *http.Request, form oidc.Form) {
			customer.PostForm(w, r, pages.Form(form))
		},
		Status: func(ctx context.Context, realm, customer string) (string, error) {
			state, err := g.gate.State(ctx, realm, customer)
			return string(state), err
		},
		KeyRotation: g.cfg.OIDC.KeyRotation, NoteKey: g.noteKey,
		Now: time.Now, Logger: g.log, Metrics: g.metrics,
	})
	if err != nil {
		return dataError(g.cfg, err)
	}
	g.provider, g.operator.SigningKeys = provider, signingKeys{provider}
	customer.Requests = requests{provider}
	mux := http.NewServeMux()
	provider.Mount(mux)
	customer.Mount(mux)
	g.public = mux
	forPortals := http.NewServeMux()
	provider.MountMTLS(forPortals)
	g.mtls = forPortals
	return nil
}

// statesUse names the keys that a RADIUS State is sealed under, and the layout of
// what is sealed.
const statesUse = "otpgate RADIUS State, version 1"

// wireRadius makes the RADIUS door.
func (g *gateway) wireRadius(gate *verifier.Verifier) (err error) {
	if g.factors, err = newFirstFactors(g.cfg, g.metrics, g.log); err != nil {
		return err
	}
	list, err := radiusClients(g.cfg, g.factors.byName)
	if err != nil {
		return err
	}
	clients, err := radius.NewClients(list)
	if err != nil {
		return &usageError{err.Error(), ""}
	}
	if t := g.cfg.Radius.TLS; t != nil {
		if g.radsec.certificate, g.radsec.roots, err = radiusTLS(t); err != nil {
			return &usageError{"radius.tls: " + err.Error(), ""}
		}
	}
	offered, err := radiusEAP(g.cfg.Radius.EAP)
	if err != nil {
		return &usageError{"radius.eap: " + err.Error(), ""}
	}
	g.radius = &radius.Server{
		Clients: clients, Realms: radiusRealms(g.cfg), Gate: gate, States: g.data.seal.Envelope(statesUse), EAP: offered,
		Log: g.log, Metrics: radius.NewMetrics(g.metrics), Now: time.Now, AccountLog: accountLog{g.data.audit},
	}
	g.operator.Radius = seenRadius{g.radius}
	for _, conn := range g.sockets.udp {
		if at, ok := conn.LocalAddr().(*net.UDPAddr); ok && at.IP.IsUnspecified() {
			g.log.Warn("radius.udp has a wildcard address: on a machine with several, an answer may leave from another address than was asked, and gear drops it; put a line for each address there", "address", at.String())
		}
	}
	return nil
}

// mtlsURL is where portals find listen.https_mtls; "" if there is none.
func (g *gateway) mtlsURL() string {
	if g.sockets.mtls == nil {
		return g.cfg.OIDC.MTLSURL
	}
	return mtlsURL(g.cfg, g.sockets.mtls.Addr().String())
}

// mtlsURL is where portals find a listener at address.
func mtlsURL(cfg *config.Config, address string) string {
	if cfg.OIDC.MTLSURL != "" {
		return cfg.OIDC.MTLSURL
	}
	_, port, _ := net.SplitHostPort(address) // a listener's address has one
	issuer, err := url.Parse(cfg.OIDC.Issuer)
	if err != nil {
		return "" // and then the OIDC door says what is wrong with the issuer
	}
	return "https://" + net.JoinHostPort(issuer.Hostname(), port)
}

// requests lets the pages use the OIDC door, which doesn't know them.
type requests struct{ provider *oidc.Provider }

func (a requests) Pending(r *http.Request, id string) (pages.Request, error) {
	req, err := a.provider.Pending(r, id)
	if err != nil {
		return pages.Request{}, pageError(err)
	}
	shown := pages.Request{
		ID: req.ID, Realm: req.Realm, User: req.User, Client: req.Client, Locales: req.Locales, Expires: req.Expires, Portal: req.Portal,
	}
	for _, d := range req.Details {
		shown.Details = append(shown.Details, pages.Detail(d))
	}
	return shown, nil
}

func (a requests) Accept(w http.ResponseWriter, r *http.Request, id string, result verifier.Result) (string, error) {
	location, err := a.provider.Accept(w, r, id, result)
	return location, pageError(err)
}

func (a requests) Refuse(w http.ResponseWriter, r *http.Request, id string, why pages.Refusal) (string, error) {
	location, err := a.provider.Refuse(w, r, id, oidc.Refusal(why))
	return location, pageError(err)
}

func (a requests) Answered(r *http.Request, id string) (string, error) {
	location, err := a.provider.Answered(r, id)
	return location, pageError(err)
}

func pageError(err error) error {
	switch {
	case errors.Is(err, oidc.ErrNoRequest):
		return pages.ErrNoRequest
	case errors.Is(err, oidc.ErrOtherBrowser):
		return pages.ErrOtherBrowser
	}
	return err
}

func otpParams(c config.OTP) otp.Params {
	p := otp.Params{Type: otp.Type(c.Type), Algorithm: otp.Algorithm(c.Algorithm), Digits: c.Digits}
	if p.Type == otp.TOTP {
		p.Period = c.Period
	}
	return p
}

func verifierRealms(cfg *config.Config) map[string]verifier.Realm {
	realms := map[string]verifier.Realm{}
	for _, r := range cfg.Realms {
		realms[r.ID] = verifier.Realm{
			ID:  r.ID,
			OTP: otpParams(r.OTP),
			Lockout: verifier.Lockout{
				Consecutive: r.Lockout.Consecutive, UnlockAfter: r.Lockout.UnlockAfter, UnlockCodes: r.Lockout.UnlockCodes,
				LongRun: r.Lockout.LongRun, RealmAlarm: r.Lockout.RealmAlarm,
			},
			TokensPerUser: r.TokensPerUser, ReissueCooldown: r.ReissueCooldown,
			FailoverGrace: r.FailoverGrace,
			LowerNames:    r.UserNames == lowerNames,
			Card:          cardPolicy(r.Card),
		}
	}
	return realms
}

func cardPolicy(c *config.Card) *verifier.CardPolicy {
	if c == nil {
		return nil
	}
	return &verifier.CardPolicy{
		Layout: verifier.CardLayout{Columns: c.Columns, Rows: c.Rows, Digits: c.DigitsPerCell},
		Asked:  c.Asked, Tries: c.Tries, FallbackMax: c.FallbackMax,
	}
}

func adminRealms(cfg *config.Config) map[string]admin.Realm {
	realms := map[string]admin.Realm{}
	for _, r := range cfg.Realms {
		realms[r.ID] = admin.Realm{Issuer: r.Name.EN}
	}
	return realms
}

func pageRealms(cfg *config.Config) map[string]pages.Realm {
	realms := map[string]pages.Realm{}
	for _, r := range cfg.Realms {
		realms[r.ID] = pages.Realm{
			Name:   map[string]string{"ja": r.Name.JA, "en": r.Name.EN},
			Accent: r.Theme.Accent, Digits: r.OTP.Digits, Details: pageDetails(r.Transactions),
		}
	}
	return realms
}

func pagePortals(cfg *config.Config) map[string]pages.Portal {
	portals := map[string]pages.Portal{}
	for _, c := range cfg.OIDC.Clients {
		portals[c.ID] = pages.Portal{Realm: c.Realm, Home: c.ClientURI}
	}
	return portals
}

func pageDetails(transactions []config.Transaction) map[string]pages.DetailType {
	text := func(n config.Name) map[string]string { return map[string]string{"ja": n.JA, "en": n.EN} }
	types := map[string]pages.DetailType{}
	for _, t := range transactions {
		shown := pages.DetailType{Title: text(t.Title)}
		for _, f := range t.Fields {
			shown.Fields = append(shown.Fields, pages.DetailField{Name: f.Name, Kind: pages.DetailKind(f.Kind), Label: text(f.Label)})
		}
		types[t.Type] = shown
	}
	return types
}

// lowerNames is the value of user_names for lower case.
const lowerNames = "lower"

func radiusRealms(cfg *config.Config) map[string]radius.Realm {
	realms := map[string]radius.Realm{}
	for _, r := range cfg.Realms {
		realms[r.ID] = radius.NewRealm(r.UserNames == lowerNames, radius.Language(r.Language), r.RadiusReply, r.Groups)
	}
	return realms
}

// radiusClients makes the clients that gateway.yaml names. The error is a
// *usageError: a mode or a first factor that isn't there must not become the one
// that asks for the least.
func radiusClients(cfg *config.Config, factors map[string]radius.FirstFactor) ([]radius.Client, error) {
	modes := map[string]radius.Mode{
		config.ModeOTP: radius.ModeOTP, config.ModePasswordOTP: radius.ModePasswordOTP, config.ModeChallenge: radius.ModeChallenge,
	}
	var clients []radius.Client
	for _, c := range cfg.Radius.Clients {
		mode, ok := modes[c.Mode]
		if !ok {
			return nil, &usageError{fmt.Sprintf("radius.clients, %s: there is no mode %q", c.Name, c.Mode), ""}
		}
		factor, ok := factors[c.FirstFactor]
		if !ok {
			return nil, &usageError{fmt.Sprintf("radius.clients, %s: there is no first factor %q", c.Name, c.FirstFactor), ""}
		}
		clients = append(clients, radius.Client{
			Name: c.Name, Prefix: c.Address, Secret: c.Secret.Bytes(), Realm: c.Realm, OtherRealms: c.Realms,
			Latin1: c.Charset == "latin-1", Reply: c.Reply,
			Mode: mode, CodeFirst: c.CodePosition == "first", FirstFactor: factor,
			RequireMessageAuthenticator: c.RequireMessageAuthenticator, Rate: c.Rate, Accounting: c.Accounting,
			Certificate: radiusCertificate(c.Certificate),
		})
	}
	return clients, nil
}

func radiusCertificate(c *config.ClientCertificate) *radius.Certificate {
	if c == nil {
		return nil
	}
	return &radius.Certificate{SubjectCN: c.SubjectCN, DNSName: c.SANDNS, SHA256: c.SHA256}
}

func oidcClients(cfg *config.Config) []oidc.Client {
	details := map[string][]oidc.DetailType{}
	for _, r := range cfg.Realms {
		details[r.ID] = oidcDetails(r.Transactions)
	}
	var clients []oidc.Client
	for _, c := range cfg.OIDC.Clients {
		client := oidc.Client{
			ID: c.ID, Realm: c.Realm, ACR: oidc.DefaultACR,
			Profile: oidc.Profile(c.Profile), Auth: oidc.AuthMethod(c.Auth),
			RedirectURIs: c.RedirectURIs, PostLogoutRedirectURIs: c.PostLogoutRedirectURIs,
			Keys:        oidc.KeySource{Set: c.JWKS, URI: c.JWKSURI, CAs: c.JWKSCAs},
			Certificate: oidcCertificate(c.Certificate),
			IDTokenAlg:  jose.SignatureAlgorithm(c.IDTokenAlg), SenderConstraint: oidc.SenderConstraint(c.SenderConstraint),
			RequestObject: oidc.ObjectUse(c.RequestObject), HintIssuers: hintIssuers(c.HintIssuers), BareHint: c.BareLoginHint,
			Rate: c.Rate,
		}
		if client.Profile != oidc.ProfileEntraEAM { // which asks for log-ins alone
			client.Details = details[c.Realm]
		}
		for _, s := range c.Secrets {
			client.Secrets = append(client.Secrets, oidc.NewSecret(s.Secret.Bytes()))
		}
		clients = append(clients, client)
	}
	return clients
}

func hintIssuers(issuers []config.OIDCHintIssuer) []oidc.HintIssuer {
	var converted []oidc.HintIssuer
	for _, i := range issuers {
		converted = append(converted, oidc.HintIssuer{
			Issuer: i.Issuer, Audience: i.Audience, Tenant: i.Tenant, Claim: i.CustomerClaim, ExpiredFor: i.ExpiredFor,
			Keys: oidc.KeySource{Set: i.JWKS, URI: i.JWKSURI, CAs: i.JWKSCAs},
		})
	}
	return converted
}

func oidcDetails(transactions []config.Transaction) []oidc.DetailType {
	var types []oidc.DetailType
	for _, t := range transactions {
		asked := oidc.DetailType{Type: t.Type}
		for _, f := range t.Fields {
			field := oidc.DetailField{Name: f.Name, Kind: oidc.DetailKind(f.Kind), Required: f.Required}
			if field.Kind == oidc.DetailText {
				field.MaxLength = f.MaxLength
			}
			asked.Fields = append(asked.Fields, field)
		}
		types = append(types, asked)
	}
	return types
}

func oidcCertificate(c *config.OIDCCertificate) oidc.Certificate {
	if c == nil {
		return oidc.Certificate{}
	}
	return oidc.Certificate{
		CAs: c.CAs, SubjectDN: c.SubjectDN, SANDNS: c.SANDNS, SANURI: c.SANURI, SANIP: c.IP, SANEmail: c.SANEmail,
	}
}
