package directory

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/go-ldap/ldap/v3"
)

// errAccount is that the service account was refused.
var errAccount = fmt.Errorf("%w: the service account was refused; see its name, password and whether it is locked, then restart", errSetup)

// bindAs reports whether the server takes password for the entry dn. If it
// refuses for another reason than the password, why says so.
func (s *server) bindAs(ctx context.Context, dn string, password string) (right bool, why string, err error) {
	request := ldap.NewSimpleBindRequest(dn, password, []ldap.Control{ldap.NewControlBeheraPasswordPolicy()})
	err = s.binds.use(ctx, func(c *connection) error {
		// What this connection was bound as before is gone (RFC 4511 §4.2.1).
		result, err := c.SimpleBind(request)
		if err != nil && !ldap.IsErrorAnyOf(err, refused...) {
			return err
		}
		why = reason(result, err)
		right = err == nil && why == ""
		return nil
	})
	return right && err == nil, why, err
}

// dialAccount returns a connection that is bound as the service account.
func (s *server) dialAccount(ctx context.Context) (*connection, error) {
	c, err := s.dial(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, c.close)
	c.wire.allow(maxAnswer)
	err = c.Bind(s.cfg.Account.DN, string(s.cfg.Account.Password))
	if ldap.IsErrorAnyOf(err, refused...) {
		err = fmt.Errorf("%w: %w", errAccount, explained(err))
	}
	if inTime := stop(); err == nil && !inTime {
		err = ctx.Err()
	}
	if err != nil {
		c.close()
		return nil, err
	}
	return c, nil
}

// refused are the result codes of a bind that are about the account, not about
// the server or the way it was asked. Servers differ in what they say where one
// is locked, or has no password.
var refused = []uint16{
	ldap.LDAPResultInvalidCredentials,
	ldap.LDAPResultConstraintViolation, // 389 Directory Server: too many failures
	ldap.LDAPResultNoSuchObject,
	ldap.LDAPResultInvalidDNSyntax,
	ldap.LDAPResultInappropriateAuthentication, // the entry has no password
	ldap.LDAPResultInsufficientAccessRights,
	ldap.LDAPResultUnwillingToPerform, // 389 Directory Server: made inactive
}

// reason says why a bind was refused, or has to count as refused: empty for a
// wrong password, or none at all.
func reason(result *ldap.SimpleBindResult, err error) string {
	if held := policy(result); held != "" {
		return held
	}
	var answer *ldap.Error
	if !errors.As(err, &answer) {
		return ""
	}
	if answer.ResultCode != ldap.LDAPResultInvalidCredentials {
		return explained(err).Error()
	}
	if code := activeDirectoryCode.FindStringSubmatch(answer.Err.Error()); code != nil {
		return activeDirectory(code[1])
	}
	return ""
}

// policy is what the controls of a password policy say of an account: that of
// draft-behera-ldap-password-policy and its forerunner. A password that has
// to be changed first is accepted by some servers, with nothing allowed but that.
func policy(result *ldap.SimpleBindResult) string {
	if result == nil {
		return ""
	}
	for _, c := range result.Controls {
		switch c := c.(type) {
		case *ldap.ControlBeheraPasswordPolicy:
			if c.Error >= 0 {
				return c.ErrorString
			}
		case *ldap.ControlVChuPasswordMustChange:
			return "the password must be changed"
		}
	}
	return ""
}

// activeDirectoryCode finds the Windows error code that Active Directory puts
// into the message of invalidCredentials.
var activeDirectoryCode = regexp.MustCompile(`AcceptSecurityContext error, data ([0-9a-f]{1,8})\b`)

// activeDirectory is what a code means, if not a wrong name or password (525, 52e).
func activeDirectory(code string) string {
	switch code {
	case "530":
		return "not at this time of day"
	case "531":
		return "not from this machine"
	case "532":
		return "the password has expired"
	case "533":
		return "the account is disabled"
	case "701":
		return "the account has expired"
	case "773":
		return "the password must be changed"
	case "775":
		return "the account is locked"
	}
	return ""
}

// explained is a server's answer in a log: its code's name and, clipped, what
// it says besides.
func explained(err error) error {
	const longest = 200 // octets
	var answer *ldap.Error
	if !errors.As(err, &answer) {
		return err
	}
	text := answer.Err.Error()
	text = strings.ToValidUTF8(text[:min(len(text), longest)], "")
	return fmt.Errorf("%s (%d) %q", ldap.LDAPResultCodeMap[answer.ResultCode], answer.ResultCode, text)
}

// answered reports whether err is an answer of the server, over a connection
// that is still good.
func answered(err error) bool {
	var answer *ldap.Error
	return errors.As(err, &answer) && answer.ResultCode < ldap.ErrorNetwork
}
