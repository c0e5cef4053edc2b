package verifier

import (
	"encoding/json"
	"fmt"

	"otpgate/internal/store"
)

func userKey(realm, name string) string       { return store.Key("user", realm, name) }
func userStateKey(realm, name string) string  { return store.Key("userstate", realm, name) }
func tokenKey(serial string) string           { return store.Key("token", serial) }
func tokenStateKey(serial string) string      { return store.Key("tokenstate", serial) }
func realmStateKey(realm string) string       { return store.Key("realmstate", realm) }
func userTokens(realm, name string) string    { return store.Prefix("usertoken", realm, name) }
func userTokenKey(r, name, ser string) string { return store.Key("usertoken", r, name, ser) }

// userTokenMark is the value of an index record, whose key says it all.
var userTokenMark = []byte{hotVersion}

// getJSON decodes the record at key into out; found is false if there is none.
func getJSON(r store.Reader, key string, out any) (found bool, err error) {
	b, err := r.Get(key)
	if err != nil || b == nil {
		return false, err
	}
	return true, decodeJSON(key, b, out)
}

// decodeJSON decodes the value of the record at key into out.
func decodeJSON(key string, value []byte, out any) error {
	if err := json.Unmarshal(value, out); err != nil {
		return fmt.Errorf("record %q: %w", key, err)
	}
	return nil
}

func putJSON(tx store.Txn, key string, record any) error {
	b, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("record %q: %w", key, err)
	}
	return tx.Put(key, b)
}

// serialsOf lists the serials of a user's tokens, in order.
func serialsOf(r store.Reader, realm, name string) ([]string, error) {
	var serials []string
	prefix := userTokens(realm, name)
	err := r.Scan(prefix, func(key string, _ []byte) error {
		serials = append(serials, key[len(prefix):])
		return nil
	})
	return serials, err
}
