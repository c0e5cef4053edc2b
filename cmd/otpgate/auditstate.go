package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"otpgate/config"
	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
)

// The record of the audit log's signing key and newest head, sealed together: so
// nobody who can write to the files, the database's included, can make an older
// head of the two, or have the head forgotten and keep the key.
const (
	auditKind    = "audit"
	auditPurpose = "audit-log"
)

func auditRecordKey() string { return store.Key(auditKind, "log") }

// auditState keeps what the audit log needs kept out of its own files.
type auditState struct {
	records store.Records
	seal    verifier.Sealer
	secret  auditSecret // the newest head in it is the log's to know
}

// auditSecret is what is sealed.
type auditSecret struct {
	Seed []byte     `json:"seed"` // of the Ed25519 key (RFC 8032 §5.1.5)
	Head audit.Head `json:"head"` // newest; zero before the first
}

// storedAudit is the record.
type storedAudit struct {
	V      int    `json:"v"` // layout version, 1
	Sealed []byte `json:"sealed"`
}

// errNoAuditState means that the database has no such record. Whoever can write to
// it can take the record out, and the log away with it: then a new key would vouch
// for an empty log as if nothing had been.
var errNoAuditState = fmt.Errorf("audit log: %w: its signing key and newest head aren't in the database", audit.ErrTampered)

// readAuditState reads the audit log's key and newest head; errNoAuditState if they
// aren't there.
func readAuditState(ctx context.Context, records store.Records, box verifier.Sealer) (*auditState, error) {
	s := &auditState{records: records, seal: box}
	err := records.View(ctx, func(r store.Reader) error {
		value, err := r.Get(auditRecordKey())
		if err != nil {
			return err
		}
		if value == nil {
			return errNoAuditState
		}
		s.secret, err = s.decode(value)
		return err
	})
	switch {
	case errors.Is(err, errNoAuditState):
		return nil, err
	case err != nil:
		return nil, fmt.Errorf("the audit log's key: %w", err)
	}
	return s, nil
}

// newAuditState makes a key. It is in the database with the first head that is
// saved.
func newAuditState(records store.Records, box verifier.Sealer) *auditState {
	seed := make([]byte, ed25519.SeedSize)
	rand.Read(seed) // never fails: the program ends instead
	return &auditState{records: records, seal: box, secret: auditSecret{Seed: seed}}
}

// openAudit opens the audit log, and refuses one that has lost what its saved
// head stands for. Only with a new database, or with one of the first version, a
// key is made for it.
func openAudit(ctx context.Context, cfg *config.Config, records store.Records, box verifier.Sealer) (*audit.Log, error) {
	s, err := readAuditState(ctx, records, box)
	if errors.Is(err, errNoAuditState) {
		if err := mayBegin(ctx, auditDir(cfg), records); err != nil {
			return nil, err
		}
		s = newAuditState(records, box)
		err = s.save(ctx, audit.Head{})
	}
	if err != nil {
		return nil, err
	}
	return s.open(cfg, s.secret.Head)
}

// mayBegin returns errNoAuditState unless a log's key may be made: nobody has
// written to the database yet, or the first version alone has, which signed
// nothing.
func mayBegin(ctx context.Context, dir string, records store.Records) error {
	return records.View(ctx, func(r store.Reader) error {
		alone, err := seal.Alone(r)
		if err != nil || alone {
			return err
		}
		used, err := verifier.Used(r)
		if err != nil {
			return err
		}
		unsigned, err := audit.Unsigned(dir)
		if err == nil && (used || !unsigned) {
			err = errNoAuditState
		}
		return err
	})
}

// open opens the audit log; saved is the head that it must hold.
func (s *auditState) open(cfg *config.Config, saved audit.Head) (*audit.Log, error) {
	return audit.Open(auditDir(cfg), audit.Options{Now: time.Now, Key: s.key(), Saved: saved, Save: s.save})
}

func (s *auditState) key() ed25519.PrivateKey { return ed25519.NewKeyFromSeed(s.secret.Seed) }

// save keeps h as the newest head.
func (s *auditState) save(ctx context.Context, h audit.Head) error {
	value, err := s.encode(auditSecret{Seed: s.secret.Seed, Head: h})
	if err != nil {
		return err
	}
	return s.records.Update(ctx, func(tx store.Txn) error { return tx.Put(auditRecordKey(), value) })
}

func (s *auditState) encode(secret auditSecret) ([]byte, error) {
	plain, err := json.Marshal(secret)
	if err != nil {
		return nil, err
	}
	defer clear(plain)
	return json.Marshal(storedAudit{V: 1, Sealed: s.seal.Seal(auditRecordKey(), auditPurpose, plain)})
}

func (s *auditState) decode(value []byte) (secret auditSecret, err error) {
	stored, err := decodeStoredAudit(value)
	if err != nil {
		return secret, err
	}
	plain, err := s.seal.Open(auditRecordKey(), auditPurpose, stored.Sealed)
	if err != nil {
		return secret, err
	}
	defer clear(plain)
	if err := json.Unmarshal(plain, &secret); err != nil {
		return secret, err
	}
	if len(secret.Seed) != ed25519.SeedSize {
		return secret, fmt.Errorf("it has %d bytes", len(secret.Seed))
	}
	return secret, nil
}

func decodeStoredAudit(value []byte) (stored storedAudit, err error) {
	if err = json.Unmarshal(value, &stored); err == nil && stored.V != 1 {
		err = fmt.Errorf("its layout %d isn't one this program reads", stored.V)
	}
	return stored, err
}

// resealAudit renews the record for a rotation of data keys.
func resealAudit(box resealer) map[string]seal.Reseal {
	return map[string]seal.Reseal{
		store.Prefix(auditKind): func(key string, value []byte) (again []byte, changed bool, err error) {
			stored, err := decodeStoredAudit(value)
			if err == nil {
				stored.Sealed, changed, err = box.Reseal(key, auditPurpose, stored.Sealed)
			}
			if err != nil {
				return nil, false, fmt.Errorf("the audit log's key: %w", err)
			}
			if !changed {
				return nil, false, nil
			}
			again, err = json.Marshal(stored)
			return again, true, err
		},
	}
}
