package oidc

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	josejson "github.com/go-jose/go-jose/v4/json"
)

// maxClaims is several times the claims that Microsoft Entra asks for, in bytes.
const maxClaims = 4 << 10

// wantedClaims is what is read of the claims parameter (OIDC Core §5.5): of the ID
// token, what is decided by the request. Others are voluntary here: what is known
// of a customer stands in the ID token in any case.
type wantedClaims struct {
	IDToken struct {
		ACR     *wantedClaim `json:"acr"`
		AMR     *wantedClaim `json:"amr"`
		Subject *wantedClaim `json:"sub"`
	} `json:"id_token"`
}

// wantedClaim is what is asked of one claim (OIDC Core §5.5.1).
type wantedClaim struct {
	Essential bool     `json:"essential"`
	Value     string   `json:"value"`
	Values    []string `json:"values"`
}

// parseClaims reads a claims parameter; "" asks for nothing.
func parseClaims(raw string) (wantedClaims, error) {
	var wanted wantedClaims
	if raw == "" {
		return wanted, nil
	}
	err := func() error {
		if len(raw) > maxClaims {
			return fmt.Errorf("longer than %d bytes", maxClaims)
		}
		if err := checkJSON([]byte(raw)); err != nil {
			return err
		}
		if !strings.HasPrefix(strings.TrimLeft(raw, " \t\r\n"), "{") { // null would read as nothing
			return errors.New("not a JSON object")
		}
		return josejson.Unmarshal([]byte(raw), &wanted)
	}()
	if err != nil {
		return wantedClaims{}, refuse(invalidRequest, "claims must be a JSON object as OpenID Connect Core §5.5 has it").because(err)
	}
	return wanted, nil
}

// named are the values that are asked for; none: any will do.
func (c *wantedClaim) named() []string {
	if c == nil {
		return nil
	}
	if c.Value != "" {
		return append([]string{c.Value}, c.Values...)
	}
	return c.Values
}

// excludes reports whether c insists on others than value (OIDC Core §5.5.1.1).
func (c *wantedClaim) excludes(value string) bool {
	return c != nil && c.Essential && len(c.named()) > 0 && !slices.Contains(c.named(), value)
}

// entraACRs are Microsoft Entra's names of contexts that a possession is enough
// for, the plainest first.
func entraACRs() []string {
	return []string{"possession", "possessionorinherence", "knowledgeorpossession", "knowledgeorpossessionorinherence"}
}

// otpMethod is the authentication method that is seen here (RFC 8176 §2).
const otpMethod = "otp"

// chooseContext returns the acr that the ID token will have; or the refusal, if
// what the client insists on can't be met (RFC 9470 §5). acr_values count as that:
// a client that names none of ours would take less than it has asked for.
func chooseContext(client *Client, wanted *wantedClaims, acrValues []string) (string, error) {
	if wanted.IDToken.AMR.excludes(otpMethod) {
		return "", refuse(unmetAuthentication, "the method is "+otpMethod+", and no other")
	}
	met := []string{client.ACR}
	if client.Profile == ProfileEntraEAM {
		met = entraACRs()
	}
	asked := wanted.IDToken.ACR
	possible := slices.DeleteFunc(slices.Clone(met), func(acr string) bool {
		return asked.excludes(acr) || len(acrValues) > 0 && !slices.Contains(acrValues, acr)
	})
	if len(possible) == 0 {
		return "", refuse(unmetAuthentication, "this realm meets "+strings.Join(met, ", ")+" only")
	}
	for _, acr := range asked.named() {
		if slices.Contains(possible, acr) {
			return acr, nil
		}
	}
	return possible[0], nil
}
