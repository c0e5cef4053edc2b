package verifier

import (
	"encoding/json"
	"fmt"

	"otpgate/internal/store"
)

// Resealer renews sealed values: those under the data key that seals now are left
// as they are.
type Resealer interface {
	// Reseal returns what was sealed for the record and purpose, sealed anew.
	// changed is false if there is nothing to do.
	Reseal(recordKey, purpose string, sealed []byte) (again []byte, changed bool, err error)
}

// Renew makes of a record what it is to become. changed is false if that is what
// it is.
type Renew = func(key string, value []byte) (again []byte, changed bool, err error)

// Reseal says how each kind of record of this package that holds sealed values
// is renewed, by the prefix of its keys. A new kind of sealed record is added
// here, or no key that sealed it can ever be retired.
func Reseal(box Resealer) map[string]Renew {
	return map[string]Renew{
		store.Prefix("token"): func(key string, value []byte) ([]byte, bool, error) {
			return resealToken(box, key, value)
		},
		store.Prefix("staged"): func(key string, value []byte) ([]byte, bool, error) {
			return resealStaged(box, key, value)
		},
		store.Prefix("card"): func(key string, value []byte) ([]byte, bool, error) {
			return resealCard(box, key, value)
		},
		store.Prefix("pin"): func(key string, value []byte) ([]byte, bool, error) {
			return resealPIN(box, key, value)
		},
		fingerprintSecretKey(): func(key string, value []byte) ([]byte, bool, error) {
			return box.Reseal(key, purposeFingerprint, value)
		},
	}
}

// resealToken renews a token's key. The record's bytes change once in a
// rotation: a try that looked at them before starts over once (errMoved).
func resealToken(box Resealer, key string, value []byte) (again []byte, changed bool, err error) {
	var t Token
	if err := decodeJSON(key, value, &t); err != nil {
		return nil, false, err
	}
	if len(t.Key) == 0 { // released
		return nil, false, nil
	}
	if t.Key, changed, err = box.Reseal(key, t.keyPurpose(), t.Key); err != nil {
		return nil, false, fmt.Errorf("token %s: %w", t.Serial, err)
	}
	if !changed {
		return nil, false, nil
	}
	again, err = json.Marshal(t)
	return again, true, err
}

// resealStaged renews the key of a token that is being imported.
func resealStaged(box Resealer, key string, value []byte) (again []byte, changed bool, err error) {
	var s stagedToken
	if err := decodeJSON(key, value, &s); err != nil {
		return nil, false, err
	}
	t := &s.Token
	if t.Key, changed, err = box.Reseal(tokenKey(t.Serial), t.keyPurpose(), t.Key); err != nil || !changed {
		return nil, false, err
	}
	again, err = json.Marshal(s)
	return again, true, err
}

// resealPIN renews the seal of a PIN's hash.
func resealPIN(box Resealer, key string, value []byte) (again []byte, changed bool, err error) {
	var p pinRecord
	if err := decodeJSON(key, value, &p); err != nil {
		return nil, false, err
	}
	if p.Hash.Sum, changed, err = box.Reseal(key, purposePIN, p.Hash.Sum); err != nil || !changed {
		return nil, false, err
	}
	again, err = json.Marshal(p)
	return again, true, err
}
