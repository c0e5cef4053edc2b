package oidc

import (
	"testing"
	"time"

	"github.com/zitadel/oidc/v3/pkg/op"
)

type plainSeal struct{}

func (plainSeal) Seal(_, _ string, plaintext []byte) []byte { return plaintext }
func (plainSeal) Open(_, _ string, sealed []byte) ([]byte, error) {
	return append([]byte(nil), sealed...), nil
}

// What the signature of an ID token costs.
func BenchmarkSign(b *testing.B) {
	for _, alg := range signingAlgorithms() {
		b.Run(string(alg), func(b *testing.B) {
			recordKey, record, err := newKey("https://localhost", plainSeal{}, alg, time.Now(), time.Now())
			if err != nil {
				b.Fatal(err)
			}
			key, err := record.open(plainSeal{}, recordKey)
			if err != nil {
				b.Fatal(err)
			}
			signer, err := op.SignerFromKey(key)
			if err != nil {
				b.Fatal(err)
			}
			payload := make([]byte, 400)
			for b.Loop() {
				if _, err := signer.Sign(payload); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
