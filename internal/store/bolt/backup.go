package bolt

import (
	"context"
	"errors"
	"io"

	"go.etcd.io/bbolt"
	bolterrors "go.etcd.io/bbolt/errors"

	"otpgate/internal/store"
)

// Snapshot calls fn with the size and the content of the database file as it is
// at one moment, while everything goes on. What is freed until fn returns can't
// be used again: the file grows, so fn must come to an end. The content ends with
// ctx's error when ctx does.
func (s *Store) Snapshot(ctx context.Context, fn func(size int64, content io.WriterTo) error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if err := s.unusable(); err != nil {
		return err
	}
	err := s.db.View(func(tx *bbolt.Tx) error { return fn(tx.Size(), snapshot{ctx, tx}) })
	if errors.Is(err, bolterrors.ErrDatabaseNotOpen) { // closed since the check above
		return store.ErrClosed
	}
	return err
}

type snapshot struct {
	ctx context.Context
	tx  *bbolt.Tx
}

// WriteTo implements io.WriterTo.
func (s snapshot) WriteTo(w io.Writer) (int64, error) {
	b := &bounded{ctx: s.ctx, w: w}
	n, err := s.tx.WriteTo(b)
	if b.err != nil { // bbolt hands on its words alone
		err = b.err
	}
	return n, err
}

// bounded is a writer for as long as its context lasts. It keeps its error.
type bounded struct {
	ctx context.Context
	w   io.Writer
	err error
}

func (b *bounded) Write(p []byte) (n int, err error) {
	if b.err = b.ctx.Err(); b.err != nil {
		return 0, b.err
	}
	n, b.err = b.w.Write(p)
	return n, b.err
}
