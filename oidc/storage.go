package oidc

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/go-jose/go-jose/v4"
	"github.com/zitadel/oidc/v3/pkg/oidc"
	"github.com/zitadel/oidc/v3/pkg/op"
)

// idTokenLife is long enough for an ID token to be fetched and checked.
const idTokenLife = 5 * time.Minute

// storage is the library's view of our data (op.Storage): the signing keys.
type storage struct {
	keys *keeper
	now  func() time.Time
}

var _ op.CanSetUserinfoFromRequest = (*storage)(nil)

// algorithmKey is where a context has the algorithm to sign with: the library
// asks for a key without saying whose token it is for.
type algorithmKey struct{}

func withAlgorithm(ctx context.Context, alg jose.SignatureAlgorithm) context.Context {
	return context.WithValue(ctx, algorithmKey{}, alg)
}

func (s *storage) SigningKey(ctx context.Context) (op.SigningKey, error) {
	alg, _ := ctx.Value(algorithmKey{}).(jose.SignatureAlgorithm)
	key := s.keys.current.Load().signing(alg, s.now())
	if key == nil {
		return nil, fmt.Errorf("oidc: there is no signing key for %q", alg)
	}
	return key, nil
}

// KeySet isn't asked for: the key set is served by this package.
func (s *storage) KeySet(context.Context) ([]op.Key, error) { return nil, errNotOffered }

func (s *storage) SignatureAlgorithms(context.Context) ([]jose.SignatureAlgorithm, error) {
	return s.keys.algorithms, nil
}

// DeleteAuthRequest has nothing to do: the code is gone since it was redeemed.
func (s *storage) DeleteAuthRequest(context.Context, string) error { return nil }

// SetUserinfoFromScopes: the library takes sub from info once it has asked for it.
func (s *storage) SetUserinfoFromScopes(_ context.Context, info *oidc.UserInfo, subject, _ string, _ []string) error {
	info.Subject = subject
	return nil
}

// SetUserinfoFromRequest adds the transaction that was confirmed (as in the token response: RFC 9396 §7).
func (s *storage) SetUserinfoFromRequest(_ context.Context, info *oidc.UserInfo, request op.IDTokenRequest, _ []string) error {
	g, ok := request.(*grant)
	if !ok {
		return errNotOffered
	}
	if g.Details != nil {
		info.AppendClaims("authorization_details", g.Details)
	}
	return nil
}

// CreateAccessToken isn't asked for: access tokens are this package's own.
func (s *storage) CreateAccessToken(context.Context, op.TokenRequest) (id string, expires time.Time, err error) {
	return "", time.Time{}, errNotOffered
}

func (s *storage) Health(context.Context) error { return nil }

// tokenClient is the library's view of a client when it makes tokens.
type tokenClient struct{ *Client }

func (c tokenClient) GetID() string                       { return c.ID }
func (c tokenClient) RedirectURIs() []string              { return c.Client.RedirectURIs }
func (c tokenClient) PostLogoutRedirectURIs() []string    { return nil }
func (c tokenClient) ApplicationType() op.ApplicationType { return op.ApplicationTypeWeb }
func (c tokenClient) AuthMethod() oidc.AuthMethod         { return oidc.AuthMethodPrivateKeyJWT }
func (c tokenClient) ResponseTypes() []oidc.ResponseType {
	return []oidc.ResponseType{oidc.ResponseTypeCode}
}

func (c tokenClient) GrantTypes() []oidc.GrantType         { return []oidc.GrantType{oidc.GrantTypeCode} }
func (c tokenClient) LoginURL(string) string               { return "" }
func (c tokenClient) AccessTokenType() op.AccessTokenType  { return op.AccessTokenTypeBearer }
func (c tokenClient) IDTokenLifetime() time.Duration       { return idTokenLife }
func (c tokenClient) DevMode() bool                        { return false }
func (c tokenClient) IsScopeAllowed(scope string) bool     { return scope == oidc.ScopeOpenID }
func (c tokenClient) IDTokenUserinfoClaimsAssertion() bool { return false }
func (c tokenClient) ClockSkew() time.Duration             { return 0 }

// RestrictAdditionalIdTokenScopes leaves openid: for that the library calls the two
// methods of storage that add to the ID token what it doesn't know.
func (c tokenClient) RestrictAdditionalIdTokenScopes() func([]string) []string { //nolint:revive // the library named it
	return func(scopes []string) []string { return scopes }
}

func (c tokenClient) RestrictAdditionalAccessTokenScopes() func([]string) []string {
	return func([]string) []string { return nil }
}

// errNotOffered is what the library gets for every part of op.Storage that no
// route of ours leads to.
var errNotOffered = errors.New("oidc: not offered")

func (s *storage) CreateAuthRequest(context.Context, *oidc.AuthRequest, string) (op.AuthRequest, error) {
	return nil, errNotOffered
}

func (s *storage) AuthRequestByID(context.Context, string) (op.AuthRequest, error) {
	return nil, errNotOffered
}

func (s *storage) AuthRequestByCode(context.Context, string) (op.AuthRequest, error) {
	return nil, errNotOffered
}

func (s *storage) SaveAuthCode(context.Context, string, string) error { return errNotOffered }

func (s *storage) CreateAccessAndRefreshTokens(context.Context, op.TokenRequest, string) (string, string, time.Time, error) {
	return "", "", time.Time{}, errNotOffered
}

func (s *storage) TokenRequestByRefreshToken(context.Context, string) (op.RefreshTokenRequest, error) {
	return nil, errNotOffered
}

func (s *storage) TerminateSession(context.Context, string, string) error { return errNotOffered }

func (s *storage) RevokeToken(context.Context, string, string, string) *oidc.Error {
	return oidc.ErrServerError().WithParent(errNotOffered)
}

func (s *storage) GetRefreshTokenInfo(context.Context, string, string) (string, string, error) {
	return "", "", errNotOffered
}

func (s *storage) GetClientByClientID(context.Context, string) (op.Client, error) {
	return nil, errNotOffered
}

func (s *storage) AuthorizeClientIDSecret(context.Context, string, string) error {
	return errNotOffered
}

func (s *storage) SetUserinfoFromToken(context.Context, *oidc.UserInfo, string, string, string) error {
	return errNotOffered
}

func (s *storage) SetIntrospectionFromToken(context.Context, *oidc.IntrospectionResponse, string, string, string) error {
	return errNotOffered
}

func (s *storage) GetPrivateClaimsFromScopes(context.Context, string, string, []string) (map[string]any, error) {
	return nil, errNotOffered
}

func (s *storage) GetKeyByIDAndClientID(context.Context, string, string) (*jose.JSONWebKey, error) {
	return nil, errNotOffered
}

func (s *storage) ValidateJWTProfileScopes(context.Context, string, []string) ([]string, error) {
	return nil, errNotOffered
}
