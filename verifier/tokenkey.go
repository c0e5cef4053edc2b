package verifier

import (
	"fmt"
	"strconv"

	"otpgate/internal/store"
)

// tokenVersion is the layout of new Token records. In the first one the sealed
// key was bound to the serial alone.
const tokenVersion = 2

// keyPurpose is what a token's key is sealed for: this token, as its record
// stands. Whoever can write to the database but has no master key can't give a
// token to somebody else or change how its codes are made: the key won't open.
func (t *Token) keyPurpose() string {
	if t.V == 1 {
		return "token key"
	}
	return store.Key("token key", t.Realm, t.User, string(t.Params.Type), string(t.Params.Algorithm),
		strconv.Itoa(t.Params.Digits), strconv.Itoa(t.Params.Period))
}

// sealKey seals key into t. Whatever keyPurpose names must be set before, and
// sealed anew when it changes.
func (v *Verifier) sealKey(t *Token, key []byte) {
	t.V = tokenVersion
	t.Key = v.Seal.Seal(tokenKey(t.Serial), t.keyPurpose(), key)
}

// openKey returns t's key in clear, for codes that can be made with it.
func (v *Verifier) openKey(t *Token) ([]byte, error) {
	if err := t.Params.Check(); err != nil { // a damaged record
		return nil, fmt.Errorf("token %s: %w", t.Serial, err)
	}
	key, err := v.Seal.Open(tokenKey(t.Serial), t.keyPurpose(), t.Key)
	if err != nil {
		return nil, fmt.Errorf("token %s: %w", t.Serial, err)
	}
	return key, nil
}
