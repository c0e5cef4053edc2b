package verifier

import (
	"encoding/base32"
	"net/url"
	"strconv"
	"strings"

	"otpgate/verifier/otp"
)

// URI is the otpauth:// address of a token, for the QR code that an
// authenticator app reads: it holds the key in clear. issuer is the bank's name
// as the app shows it. (pquerna/otp's own writer leaves & unescaped.)
func (t Token) URI(issuer string, key []byte) string {
	noColon := strings.NewReplacer(":", " ").Replace // ':' separates issuer and account in the label
	query := url.Values{
		"secret":    {base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(key)},
		"issuer":    {noColon(issuer)},
		"algorithm": {string(t.Params.Algorithm)},
		"digits":    {strconv.Itoa(t.Params.Digits)},
	}
	if t.Params.Type == otp.HOTP {
		query.Set("counter", "0") // keys are shown only before they are used
	} else {
		query.Set("period", strconv.Itoa(t.Params.Period))
	}
	label := url.PathEscape(noColon(issuer)) + ":" + url.PathEscape(noColon(t.User))
	// Apps don't read + as a space.
	return "otpauth://" + string(t.Params.Type) + "/" + label + "?" + strings.ReplaceAll(query.Encode(), "+", "%20")
}
