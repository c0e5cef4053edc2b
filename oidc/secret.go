package oidc

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
)

// Secret is the digest of a client's shared secret. A plain hash is enough for
// what is random and long (config asks for 32 characters); the secret itself is
// then nowhere in the memory.
type Secret struct{ sum [sha256.Size]byte }

// NewSecret is the digest of a secret.
func NewSecret(secret []byte) Secret { return Secret{sha256.Sum256(secret)} }

// Format hides the digest from every verb of fmt: who knows it can try secrets
// against it.
func (Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, "[secret]") }

// anySecret reports whether shown is one of secrets. It takes as long whichever
// it is, or if it is none.
func anySecret(secrets []Secret, shown string) bool {
	sum := NewSecret([]byte(shown)).sum
	right := 0
	for i := range maxSecrets {
		var have [sha256.Size]byte // that of no secret that anybody could find
		if i < len(secrets) {
			have = secrets[i].sum
		}
		right |= subtle.ConstantTimeCompare(have[:], sum[:])
	}
	return right == 1
}
