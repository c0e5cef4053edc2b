package oidc

import (
	"encoding/json"
	"fmt"
	"net/http"
	"slices"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"golang.org/x/text/language"
)

// discovery is the provider's metadata (OpenID Connect Discovery 1.0 §3) with
// what RFC 9126 §5, RFC 9207 §3, RFC 9396 §10, RFC 9449 §5.1, RFC 8705 §3.3 and §5
// and OpenID Connect Prompt Create 1.0 §4.2 (prompt_values_supported) add.
type discovery struct {
	oidc.DiscoveryConfiguration
	PushedRequestEndpoint string       `json:"pushed_authorization_request_endpoint"`
	RequirePushedRequests bool         `json:"require_pushed_authorization_requests"`
	DPoPAlgorithms        []string     `json:"dpop_signing_alg_values_supported"`
	StatusEndpoint        string       `json:"otpgate_status_endpoint"` // ours: see serveStatus
	Prompts               []string     `json:"prompt_values_supported"`
	DetailTypes           []string     `json:"authorization_details_types_supported,omitempty"`
	IssInResponse         bool         `json:"authorization_response_iss_parameter_supported"`
	CertificateBound      bool         `json:"tls_client_certificate_bound_access_tokens,omitempty"`
	MTLS                  *mtlsAliases `json:"mtls_endpoint_aliases,omitempty"`
}

// mtlsAliases are the endpoints that ask for a certificate (RFC 8705 §5).
type mtlsAliases struct {
	PushedRequestEndpoint string `json:"pushed_authorization_request_endpoint"`
	TokenEndpoint         string `json:"token_endpoint"`
	UserinfoEndpoint      string `json:"userinfo_endpoint"`
	IntrospectionEndpoint string `json:"introspection_endpoint"`
	RevocationEndpoint    string `json:"revocation_endpoint"`
	StatusEndpoint        string `json:"otpgate_status_endpoint"`
}

// discoveryDocument lists what is offered. It is written out here, not derived
// from the library's own document: that one advertises what the library could
// do, and a later version may be able to do more.
func (p *Provider) discoveryDocument(locales []language.Tag) ([]byte, error) {
	responseTypes, grantTypes := []string{string(oidc.ResponseTypeCode)}, []oidc.GrantType{oidc.GrantTypeCode}
	if p.any(func(c *Client) bool { return c.Profile == ProfileEntraEAM }) {
		responseTypes, grantTypes = append(responseTypes, string(oidc.ResponseTypeIDTokenOnly)), append(grantTypes, oidc.GrantTypeImplicit)
	}
	document, err := json.Marshal(discovery{
		DiscoveryConfiguration: oidc.DiscoveryConfiguration{
			Issuer:                           p.issuer,
			AuthorizationEndpoint:            p.issuer + "/authorize",
			TokenEndpoint:                    p.issuer + "/token",
			JwksURI:                          p.issuer + "/jwks.json",
			UserinfoEndpoint:                 p.issuer + "/userinfo",
			IntrospectionEndpoint:            p.issuer + "/introspect",
			RevocationEndpoint:               p.issuer + "/revoke",
			EndSessionEndpoint:               p.issuer + "/end_session",
			ScopesSupported:                  []string{oidc.ScopeOpenID},
			ResponseTypesSupported:           responseTypes,
			ResponseModesSupported:           []string{string(oidc.ResponseModeQuery), string(oidc.ResponseModeFormPost)},
			GrantTypesSupported:              grantTypes,
			ACRValuesSupported:               p.acrs(),
			SubjectTypesSupported:            []string{"public"},
			IDTokenSigningAlgValuesSupported: algorithmNames(p.keys.algorithms),

			TokenEndpointAuthMethodsSupported:                  p.authMethods(),
			TokenEndpointAuthSigningAlgValuesSupported:         algorithmNames(assertionAlgorithms()),
			IntrospectionEndpointAuthMethodsSupported:          p.authMethods(),
			IntrospectionEndpointAuthSigningAlgValuesSupported: algorithmNames(assertionAlgorithms()),
			RevocationEndpointAuthMethodsSupported:             p.authMethods(),
			RevocationEndpointAuthSigningAlgValuesSupported:    algorithmNames(assertionAlgorithms()),

			ClaimsSupported:               []string{"iss", "sub", "aud", "exp", "iat", "auth_time", "nonce", "acr", "amr"},
			CodeChallengeMethodsSupported: []oidc.CodeChallengeMethod{oidc.CodeChallengeMethodS256},
			UILocalesSupported:            locales,

			ClaimsParameterSupported:               true,
			RequestParameterSupported:              p.any(func(c *Client) bool { return c.RequestObject != NoObjects }),
			RequestObjectSigningAlgValuesSupported: algorithmNames(assertionAlgorithms()),
		},
		PushedRequestEndpoint: p.issuer + "/par",
		RequirePushedRequests: !p.any(func(c *Client) bool { return c.Profile != ProfileFAPI2 }),
		Prompts:               []string{"none", "login"},
		DetailTypes:           p.detailTypes(),
		DPoPAlgorithms:        algorithmNames(assertionAlgorithms()),
		StatusEndpoint:        p.issuer + "/status",
		IssInResponse:         true,
		CertificateBound:      p.mtls != "",
		MTLS:                  p.mtlsAliases(),
	})
	if err != nil {
		return nil, fmt.Errorf("oidc: discovery document: %w", err)
	}
	return document, nil
}

func algorithmNames(algorithms []jose.SignatureAlgorithm) []string {
	names := make([]string, len(algorithms))
	for i, alg := range algorithms {
		names[i] = string(alg)
	}
	return names
}

func (p *Provider) mtlsAliases() *mtlsAliases {
	if p.mtls == "" {
		return nil
	}
	return &mtlsAliases{
		PushedRequestEndpoint: p.mtls + "/par", TokenEndpoint: p.mtls + "/token", UserinfoEndpoint: p.mtls + "/userinfo",
		IntrospectionEndpoint: p.mtls + "/introspect", RevocationEndpoint: p.mtls + "/revoke", StatusEndpoint: p.mtls + "/status",
	}
}

// authMethods are those that clients have, and private_key_jwt, which any may
// have; sorted.
func (p *Provider) authMethods() []oidc.AuthMethod {
	methods := []oidc.AuthMethod{oidc.AuthMethodPrivateKeyJWT}
	for _, c := range p.clients {
		if c.Auth != NoAuth { // theirs is no back channel
			methods = append(methods, oidc.AuthMethod(c.Auth))
		}
	}
	slices.Sort(methods)
	return slices.Compact(methods)
}

// any reports whether one of the clients is such.
func (p *Provider) any(such func(*Client) bool) bool {
	for _, c := range p.clients {
		if such(c) {
			return true
		}
	}
	return false
}

// detailTypes are the types of authorization_details of all clients, sorted.
func (p *Provider) detailTypes() []string {
	var types []string
	for _, c := range p.clients {
		for _, t := range c.Details {
			types = append(types, t.Type)
		}
	}
	slices.Sort(types)
	return slices.Compact(types)
}

// acrs are the authentication contexts of all realms, sorted.
func (p *Provider) acrs() []string {
	acrs := make([]string, 0, len(p.clients))
	for _, c := range p.clients {
		if c.Profile == ProfileEntraEAM {
			acrs = append(acrs, entraACRs()...)
		} else {
			acrs = append(acrs, c.ACR)
		}
	}
	slices.Sort(acrs)
	return slices.Compact(acrs)
}

func (p *Provider) serveDiscovery(w http.ResponseWriter, r *http.Request) (*Client, error) {
	if err := readOnly(w, r); err != nil {
		return nil, err
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(p.discovery) //nolint:errcheck // the client has gone; there is no one to tell
	return nil, nil
}

// readOnly refuses methods other than GET and HEAD.
func readOnly(w http.ResponseWriter, r *http.Request) error {
	if r.Method == http.MethodGet || r.Method == http.MethodHead {
		return nil
	}
	w.Header().Set("Allow", "GET, HEAD")
	return &protocolError{status: http.StatusMethodNotAllowed, code: invalidRequest, description: "use GET"}
}
