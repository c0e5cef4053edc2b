package pskc

import (
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"otpgate/verifier/otp"
)

// The algorithm profiles (RFC 6030 §10.1, and the registry of §12.4).
const (
	profileHOTP = nsPSKC + ":hotp"
	profileTOTP = nsPSKC + ":totp"
	profilePIN  = nsPSKC + ":pin"
)

// maxDriftIntervals bounds TimeDrift: a clock that is off by more than a day of
// minutes is broken.
const maxDriftIntervals = 24 * 60

// isPIN reports whether the package holds a PIN. The server has no use for it:
// a PIN that it would have to check bars the key that it belongs to.
func (p *keyPackage) isPIN() bool { return p.algorithm == profilePIN }

// key is what the package means. Its error is a *KeyError, or a *FileError if
// nothing in the file can be opened.
func (p *keyPackage) key(o *opener) (Key, error) {
	k := Key{Line: p.line, Serial: p.serial, ID: p.id, Manufacturer: p.manufacturer, Model: p.model}
	if k.Serial == "" {
		k.Serial = p.id
	}
	for _, step := range []func(*Key, *opener) error{p.checkKey, p.checkPolicy, p.setDates, p.setParams, p.setData} {
		if err := step(&k, o); err != nil {
			var broken *FileError
			if errors.As(err, &broken) {
				return Key{}, broken
			}
			return Key{}, &KeyError{Line: p.line, Serial: k.Serial, Problem: err.Error()}
		}
	}
	return k, nil
}

func (p *keyPackage) checkKey(k *Key, _ *opener) error {
	switch {
	case p.keys == 0:
		return errors.New("the package holds no key")
	case k.Serial == "":
		return errors.New("neither a SerialNo nor a key Id names the token")
	case p.data["Secret"] == nil:
		return errors.New("the file doesn't hold the secret; keys derived from a master key are not supported")
	}
	return nil
}

// checkPolicy holds to RFC 6030 §5: a key whose policy isn't understood, or
// can't be enforced, must not be used.
func (p *keyPackage) checkPolicy(*Key, *opener) error {
	switch {
	case p.policy.unknown != "":
		return fmt.Errorf("its policy has %.40q, which is not understood: the key may not be used", p.policy.unknown)
	case p.policy.maxNumber:
		return errors.New("its policy bounds the number of uses, which can't be enforced")
	case len(p.policy.usages) > 0 && !slices.Contains(p.policy.usages, "OTP"):
		return errors.New("its policy doesn't allow one-time passwords")
	case p.policy.pinMode != "" && p.policy.pinMode != "Local":
		return fmt.Errorf("its policy wants a PIN checked by the server (%.20s), which is not supported", p.policy.pinMode)
	}
	return nil
}

func (p *keyPackage) setDates(k *Key, _ *opener) error {
	for _, d := range p.dates {
		t, err := time.Parse(time.RFC3339, d.value)
		switch {
		case err != nil:
			return fmt.Errorf("%.40q is no date and time with a zone", d.value)
		case d.end && (k.NotAfter.IsZero() || t.Before(k.NotAfter)):
			k.NotAfter = t.UTC()
		case !d.end && t.After(k.NotBefore):
			k.NotBefore = t.UTC()
		}
	}
	return nil
}

func (p *keyPackage) setParams(k *Key, _ *opener) (err error) {
	switch p.algorithm {
	case profileHOTP:
		k.Params.Type = otp.HOTP
	case profileTOTP:
		k.Params.Type = otp.TOTP
	default:
		return fmt.Errorf("its algorithm %.100q is not supported; HOTP and TOTP are", p.algorithm)
	}
	if k.Params.Algorithm, err = p.hash(); err != nil {
		return err
	}
	r := p.response
	switch {
	case p.challenge:
		return errors.New("it answers challenges, which is not supported")
	case r == nil:
		return errors.New("the file doesn't say how many digits its codes have (ResponseFormat)")
	case r.encoding != "DECIMAL":
		return fmt.Errorf("its codes are written as %.20q; only DECIMAL is supported", r.encoding)
	case r.checkDigits != "" && r.checkDigits != "false" && r.checkDigits != "0":
		return errors.New("its codes end in a check digit, which is not supported")
	}
	digits, err := strconv.ParseUint(r.length, 10, 8)
	if err != nil {
		return fmt.Errorf("its codes have %.20q digits, which is no number", r.length)
	}
	k.Params.Digits = int(digits)
	return nil
}

// hash is the hash that the suite names. Without a suite it is SHA-1 by
// definition (RFC 4226 §5.2, RFC 6238 §1.2); an unknown one is never taken for
// that.
func (p *keyPackage) hash() (otp.Algorithm, error) {
	if p.suites == 0 {
		return otp.SHA1, nil
	}
	if p.suites > 1 {
		return "", errors.New("its suite is given twice, as a text and as an attribute")
	}
	plain := strings.ReplaceAll(strings.ToUpper(p.suite), "-", "")
	switch strings.TrimPrefix(plain, "HMAC") {
	case "SHA1":
		return otp.SHA1, nil
	case "SHA256":
		return otp.SHA256, nil
	case "SHA512":
		return otp.SHA512, nil
	}
	return "", fmt.Errorf("its suite %.60q is not supported; HMAC-SHA1, HMAC-SHA256 and HMAC-SHA512 are", p.suite)
}

func (p *keyPackage) setData(k *Key, o *opener) (err error) {
	if k.Secret, err = o.openSecret(p.data["Secret"]); err != nil {
		return fmt.Errorf("its secret: %w", err)
	}
	if k.Params.Type == otp.HOTP {
		k.First, err = p.integer(o, "Counter", 64)
	} else {
		err = p.setTime(k, o)
	}
	if err != nil {
		return err
	}
	if k.First < 0 {
		return errors.New("its counter is negative")
	}
	return k.Params.Check()
}

func (p *keyPackage) setTime(k *Key, o *opener) (err error) {
	if p.data["TimeInterval"] == nil {
		return errors.New("the file doesn't say how long a code lasts (TimeInterval)")
	}
	period, err := p.integer(o, "TimeInterval", 32)
	if err != nil {
		return err
	}
	if k.First, err = p.integer(o, "Time", 32); err != nil {
		return err
	}
	drift, err := p.integer(o, "TimeDrift", 32)
	if err != nil {
		return err
	}
	k.Params.Period = int(period)
	if drift < -maxDriftIntervals || drift > maxDriftIntervals {
		return fmt.Errorf("its clock is off by %d intervals, more than %d", drift, maxDriftIntervals)
	}
	k.Drift = time.Duration(drift*period) * time.Second
	return nil
}

// integer is the datum of that name as a number, 0 if it isn't there.
func (p *keyPackage) integer(o *opener, datum string, bits int) (int64, error) {
	v := p.data[datum]
	if v == nil {
		return 0, nil
	}
	b, err := o.open(v, func(s string) ([]byte, error) { return []byte(s), nil })
	if err != nil {
		return 0, fmt.Errorf("its %s: %w", datum, err)
	}
	if n, err := strconv.ParseInt(string(b), 10, bits); err == nil {
		return n, nil
	}
	// The RFC doesn't say how a number becomes the octets that are encrypted.
	// Writers take its decimal digits, or its two's complement.
	if v.encrypted != nil && len(b) == bits/8 {
		if bits == 64 {
			return int64(binary.BigEndian.Uint64(b)), nil
		}
		return int64(int32(binary.BigEndian.Uint32(b))), nil
	}
	return 0, fmt.Errorf("its %s is no number of %d bits", datum, bits)
}

// decodeBase64 reads base64 with white space between, as XML files have it
// (xs:base64Binary).
func decodeBase64(s string) ([]byte, error) {
	b, err := base64.StdEncoding.Strict().DecodeString(strings.Join(strings.Fields(s), ""))
	if err != nil {
		return nil, errors.New("the value is no base64")
	}
	return b, nil
}
