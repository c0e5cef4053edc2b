// Package store is the contract between the gateway and whatever keeps its
// data: two kinds of data, two small interfaces.
//
// Records are durable (users, tokens, counters, keys). An Update is one
// transaction: what its function reads, decides and writes is one step that
// nothing else can come between, and it is on disk when Update returns nil.
//
// Passing things live for minutes (pushed requests, codes, assertion ids).
// They are single-use through Take and Add, bounded in number, and may be lost
// at a restart: every user of Passing must fail closed when a key is gone.
//
// Engines live below this package (bolt); storetest is the contract as a test
// suite that each of them runs. The package owns no key: who writes a record
// names it. Keys are built with Key.
package store

import (
	"context"
	"errors"
	"strings"
	"time"
)

var (
	// ErrStopScan returned by a Scan function, ends the scan without an error.
	ErrStopScan = errors.New("store: stop scan")
	// ErrClosed is returned by every call after Close.
	ErrClosed = errors.New("store: closed")
	// ErrBroken is returned by every call after a failed commit: what is in
	// memory can't be trusted against what is on disk, so the engine stops.
	ErrBroken = errors.New("store: a commit failed, the store has stopped")
	// ErrFull is returned by Passing when its bound on entries is reached.
	ErrFull = errors.New("store: too many passing entries")
	// ErrBadRecord is returned by Txn.Put for what CheckRecord refuses.
	ErrBadRecord = errors.New("store: a record's key or value is empty or too long")
)

// The limits of one record. The longest keys hold two names of people, the
// longest values a set of public keys; a few pages of bbolt hold either.
const (
	MaxKeyBytes   = 1 << 10
	MaxValueBytes = 1 << 20
)

// CheckRecord returns ErrBadRecord unless key and value can be stored. Every
// engine has the same limits, so that data can move from one to another.
func CheckRecord(key string, value []byte) error {
	if key == "" || len(key) > MaxKeyBytes || len(value) == 0 || len(value) > MaxValueBytes {
		return ErrBadRecord
	}
	return nil
}

// Reader reads one consistent state of the records.
type Reader interface {
	// Get returns the value of key, or nil if there is none. The slice is
	// valid until the surrounding function returns and must not be changed.
	Get(key string) ([]byte, error)
	// Scan calls fn for each key that begins with prefix, in byte order. fn
	// must not write to the transaction. An error of fn ends the scan and is
	// returned, except ErrStopScan.
	Scan(prefix string, fn func(key string, value []byte) error) error
}

// Txn is a Reader that sees its own writes.
type Txn interface {
	Reader
	// Put stores value under key. Neither may be empty; value is copied.
	Put(key string, value []byte) error
	// Delete removes key; a key that isn't there is no error.
	Delete(key string) error
}

// Records is the durable part of the store. Safe for concurrent use.
type Records interface {
	// View runs fn on one consistent state.
	View(ctx context.Context, fn func(Reader) error) error
	// Update runs fn and makes its writes durable, all or none. If fn returns
	// an error or panics, nothing of it is kept and Update returns that error
	// (or panics). fn may run more than once and must have no side effect but
	// on its own variables, which it must set afresh in each run. fn must not
	// call Records: it would wait for its own end. ctx bounds the wait for a
	// turn only: once fn has run, Update waits for the disk.
	Update(ctx context.Context, fn func(Txn) error) error
	// Close waits for what is under way and closes the engine.
	Close() error
}

// Passing is the short-lived part of the store. Safe for concurrent use.
type Passing interface {
	// Put stores value for ttl, replacing what is there. ErrFull if bounded out.
	Put(ctx context.Context, key string, value []byte, ttl time.Duration) error
	// Add stores value for ttl unless a live entry is there already; it
	// reports whether it did. Atomic: of parallel Adds one succeeds.
	Add(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error)
	// Get returns a copy of the live value of key, or nil.
	Get(ctx context.Context, key string) ([]byte, error)
	// Take returns the live value of key and removes it, or nil. Atomic: of
	// parallel Takes one gets the value.
	Take(ctx context.Context, key string) ([]byte, error)
}

// keySeparator is a byte that no key part may contain, so that parts from
// people (user names) can't reach into another record.
const keySeparator = "\x00"

// Key joins parts into a record key: Key("user", realm, name). Parts must not
// contain a NUL byte; names are checked where they enter (verifier.CheckName).
func Key(parts ...string) string { return strings.Join(parts, keySeparator) }

// Prefix is the prefix of all keys that have parts before at least one more.
func Prefix(parts ...string) string { return Key(parts...) + keySeparator }

// SplitKey is the inverse of Key.
func SplitKey(key string) []string { return strings.Split(key, keySeparator) }
