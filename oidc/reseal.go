package oidc

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
// is renewed, by the prefix of its keys.
func Reseal(box Resealer) map[string]Renew {
	return map[string]Renew{
		store.Prefix(keyRecord): func(key string, value []byte) ([]byte, bool, error) {
			return resealKey(box, key, value)
		},
	}
}

func resealKey(box Resealer, key string, value []byte) (again []byte, changed bool, err error) {
	var k storedKey
	if err := json.Unmarshal(value, &k); err != nil {
		return nil, false, fmt.Errorf("signing key %q: %w", key, err)
	}
	if k.Key, changed, err = box.Reseal(key, keyPurpose, k.Key); err != nil {
		return nil, false, fmt.Errorf("signing key %q: %w", key, err)
	}
	if !changed {
		return nil, false, nil
	}
	again, err = json.Marshal(k)
	return again, true, err
}
