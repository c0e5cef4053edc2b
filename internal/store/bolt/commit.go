package bolt

import (
	"context"
	"errors"
	"fmt"

	"go.etcd.io/bbolt"

	"otpgate/internal/store"
)

// maxBatch bounds the Updates that share one commit, and with it the time the
// first of them waits for the others' functions: some milliseconds.
const maxBatch = 1024

// errNotUndone ends a batch in which a failed function's writes could not be
// taken back: committing it would keep them.
var errNotUndone = errors.New("a failed function's writes could not be taken back")

// call is one Update that waits for its turn. turn is unbuffered: a batch is
// handed over only to a caller that still waits, so a cancelled one never runs.
type call struct {
	ctx  context.Context
	turn chan *batch
}

// batch is one bbolt write transaction that several calls share, one after the
// other. Who has the turn owns it; back returns it to the committer.
type batch struct {
	records *bbolt.Bucket
	back    chan error // nil, or why the batch can't be committed
	wrote   bool       // there is something to commit

	done chan struct{} // closed when the batch is on disk or has failed
	err  error         // written before done is closed
}

// run calls fn on the batch, in the goroutine of fn's caller: a panic, or
// runtime.Goexit, goes its way there, after what fn wrote has been taken back.
func (b *batch) run(fn func(store.Txn) error) (err error) {
	t := &txn{reader: reader{b.records}}
	kept := false
	defer func() {
		back := errNotUndone // unless the end of this function is reached
		defer func() { b.back <- back }()
		if kept {
			b.wrote = b.wrote || len(t.undo) > 0
		} else if undoErr := t.rollback(); undoErr != nil {
			back = fmt.Errorf("%w: %w", errNotUndone, undoErr)
			return
		}
		back = nil
	}()
	err = fn(t)
	kept = err == nil
	return err
}

// commitAll is the committer: it ends on Close or after a failed commit.
func (s *Store) commitAll() {
	defer close(s.stopped)
	for {
		select {
		case <-s.closing:
			return
		case c := <-s.queue:
			if err := s.commit(c); err != nil {
				return
			}
		}
	}
}

// commit runs first, and whoever else waits by then, in one transaction, and
// answers them when it is on disk. An error breaks the store.
func (s *Store) commit(first *call) (err error) {
	b := &batch{back: make(chan error, 1), done: make(chan struct{})}
	defer func() {
		if err != nil {
			b.err = fmt.Errorf("%w: %w", store.ErrBroken, err)
			s.broken.Store(&b.err)
		}
		close(b.done)
	}()
	tx, err := s.db.Begin(true)
	if err != nil {
		return err
	}
	b.records = tx.Bucket(recordsBucket)
	for c, n := first, 1; c != nil; n++ {
		if err := giveTurn(b, c); err != nil {
			return errors.Join(err, tx.Rollback())
		}
		if c = nil; n < maxBatch {
			c = s.waiting()
		}
	}
	if !b.wrote {
		return tx.Rollback()
	}
	return tx.Commit()
}

// waiting returns the next call in the queue, or nil.
func (s *Store) waiting() *call {
	select {
	case c := <-s.queue:
		return c
	default:
		return nil
	}
}

// giveTurn lets c run on b and waits for its end, unless c no longer waits.
func giveTurn(b *batch, c *call) error {
	select {
	case c.turn <- b:
		return <-b.back
	case <-c.ctx.Done():
		return nil
	}
}
