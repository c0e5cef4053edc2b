package verifier

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"fmt"

	"otpgate/internal/store"
)

// A token's key may come only once: two tokens with one key show the same codes,
// and each would be accepted twice. So every key leaves a fingerprint, an HMAC
// under a secret of this database, which outlives the token. HMAC pads a key with
// zeros (RFC 2104 §2), so zeros at its end make no other key.

const purposeFingerprint = "fingerprint secret"

func fingerprintSecretKey() string   { return store.Key("fingerprintsecret") }
func fingerprintKey(f string) string { return store.Key("fingerprint", f) }

// fingerprinter returns the function that makes fingerprints. The first call
// makes the secret.
func (v *Verifier) fingerprinter(ctx context.Context) (func(key []byte) string, error) {
	var sealed []byte
	at := fingerprintSecretKey()
	err := v.Records.View(ctx, func(r store.Reader) error {
		b, err := r.Get(at)
		sealed = append(sealed[:0], b...)
		return err
	})
	if err == nil && len(sealed) == 0 {
		var secret [sha256.Size]byte
		_, _ = rand.Read(secret[:])
		fresh := v.Seal.Seal(at, purposeFingerprint, secret[:])
		err = v.Records.Update(ctx, func(tx store.Txn) error {
			b, err := tx.Get(at)
			if err != nil {
				return err
			}
			if b == nil { // nobody else has made it meanwhile
				b = fresh
			}
			sealed = append(sealed[:0], b...)
			return tx.Put(at, sealed)
		})
	}
	if err != nil {
		return nil, err
	}
	secret, err := v.Seal.Open(at, purposeFingerprint, sealed)
	if err != nil {
		return nil, fmt.Errorf("fingerprint secret: %w", err)
	}
	return func(key []byte) string {
		mac := hmac.New(sha256.New, secret)
		mac.Write(bytes.TrimRight(key, "\x00"))
		return base64.RawStdEncoding.EncodeToString(mac.Sum(nil)[:16])
	}, nil
}

// claimKey takes a key, by its fingerprint, for the token with serial. A
// *Refusal if another has or had it.
func claimKey(tx store.Txn, fingerprint, serial string) error {
	b, err := tx.Get(fingerprintKey(fingerprint))
	if err != nil {
		return err
	}
	if b != nil {
		return refuse("every token needs a key of its own: take a new one", "the secret is, or was, that of token %s", b)
	}
	return tx.Put(fingerprintKey(fingerprint), []byte(serial))
}
