package oidc

import (
	"slices"
	"strings"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// KeyState is how far a signing key has come in its life:
//
//	next ──► signing ──► retired ──► (gone)
//
// It follows from the records and the time alone: a key signs from its time on,
// until a later one of its algorithm does; then it is published until the last
// ID token that it signed has expired.
type KeyState string

// The states of a signing key.
const (
	KeyNext    KeyState = "next"    // published, so that relying parties have it when it signs
	KeySigning KeyState = "signing" // signs
	KeyRetired KeyState = "retired" // published for what it has signed
	keyGone    KeyState = "gone"    // to be removed
)

// keyring is the signing keys at one time. Immutable.
type keyring struct {
	keys []*signingKey // by algorithm, then by when they sign, oldest first
}

func newKeyring(keys []*signingKey) *keyring {
	slices.SortFunc(keys, func(a, b *signingKey) int {
		if a.algorithm != b.algorithm {
			return strings.Compare(string(a.algorithm), string(b.algorithm))
		}
		if !a.signs.Equal(b.signs) {
			return a.signs.Compare(b.signs)
		}
		return strings.Compare(a.id, b.id)
	})
	return &keyring{keys}
}

// of are the keys of alg, the oldest first.
func (r *keyring) of(alg jose.SignatureAlgorithm) []*signingKey {
	first, _ := slices.BinarySearchFunc(r.keys, alg, func(k *signingKey, alg jose.SignatureAlgorithm) int {
		return strings.Compare(string(k.algorithm), string(alg))
	})
	last := first
	for last < len(r.keys) && r.keys[last].algorithm == alg {
		last++
	}
	return r.keys[first:last]
}

// signing is the key of alg that signs now; nil if there is none of alg. Where our
// clock was set back, to before the first one was to sign, that one does.
func (r *keyring) signing(alg jose.SignatureAlgorithm, now time.Time) *signingKey {
	var found *signingKey
	for _, k := range r.of(alg) {
		if found == nil || !k.signs.After(now) {
			found = k
		}
	}
	return found
}

// state is that of k at now.
func (r *keyring) state(k *signingKey, now time.Time) KeyState {
	signing := r.signing(k.algorithm, now)
	switch {
	case k == signing:
		return KeySigning
	case k.signs.After(signing.signs):
		return KeyNext
	case now.Before(r.successor(k).signs.Add(keepRetired)):
		return KeyRetired
	}
	return keyGone
}

// successor is the key of the same algorithm that signs after k; nil if k is the
// last.
func (r *keyring) successor(k *signingKey) *signingKey {
	of := r.of(k.algorithm)
	if i := slices.Index(of, k) + 1; i < len(of) {
		return of[i]
	}
	return nil
}
