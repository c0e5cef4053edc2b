// Package bolt keeps the store's records in one bbolt file. It implements
// store.Records.
//
// The file has two buckets: "records" (every key of the contract) and "meta"
// (the schema version). It is created complete or not at all, and opened only
// after every page that can be reached has been checked (check.go): bbolt
// itself asserts by panicking, partly in goroutines of its own, and reads
// through a memory map, where a truncated file ends the process.
//
// Writing. One goroutine owns all write transactions (commit.go). It gives a
// turn in the same bbolt transaction to every Update that waits, commits once,
// and then answers all of them; whoever comes meanwhile shares the next commit.
// There is no timer: a single caller waits for the disk and nothing else. Each
// function runs in its caller's goroutine, on a transaction that can take back
// its own writes (txn.go), so a failing one leaves the others alone.
//
// Snapshot (backup.go) copies the file as it is at one moment, while all goes on.
//
// States: open → broken (a commit failed, every call returns store.ErrBroken,
// Err says why) and open or broken → closed (store.ErrClosed).
//
// The package owns no key and doesn't look into values.
package bolt

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"otpgate/internal/store"
)

// Store is an open database file. Safe for concurrent use.
type Store struct {
	db      *bbolt.DB
	queue   chan *call    // Updates that wait for a turn
	closing chan struct{} // closed by the first Close
	stopped chan struct{} // closed by the committer when it has ended

	broken   atomic.Pointer[error] // set once, by the committer
	close    sync.Once
	closeErr error // written under close
}

var _ store.Records = (*Store)(nil)

// View implements store.Records.
func (s *Store) View(ctx context.Context, fn func(store.Reader) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.unusable(); err != nil {
		return err
	}
	err := s.db.View(func(tx *bbolt.Tx) error { return fn(reader{tx.Bucket(recordsBucket)}) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) { // closed since the check above
		return store.ErrClosed
	}
	return err
}

// Update implements store.Records.
func (s *Store) Update(ctx context.Context, fn func(store.Txn) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.unusable(); err != nil {
		return err
	}
	c := &call{ctx: ctx, turn: make(chan *batch)}
	select {
	case s.queue <- c:
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return s.unusable()
	}
	select {
	case b := <-c.turn:
		err := b.run(fn)
		<-b.done
		if b.err != nil {
			return b.err
		}
		return err
	case <-ctx.Done():
		return ctx.Err()
	case <-s.stopped:
		return s.unusable()
	}
}

// Err returns nil while the store can be used, else why it can't. It is what a
// readiness check asks.
func (s *Store) Err() error { return s.unusable() }

// Close implements store.Records. Updates that have had their turn are
// committed and answered; those still in the queue get store.ErrClosed.
func (s *Store) Close() error {
	s.close.Do(func() {
		close(s.closing)
		<-s.stopped
		if err := s.db.Close(); err != nil {
			s.closeErr = fmt.Errorf("closing the database: %w", err)
		}
	})
	return s.closeErr
}

// unusable returns the error that every call gets from now on, or nil.
func (s *Store) unusable() error {
	if err := s.broken.Load(); err != nil {
		return *err
	}
	select {
	case <-s.closing:
		return store.ErrClosed
	default:
		return nil
	}
}
