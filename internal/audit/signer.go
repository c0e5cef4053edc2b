package audit

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

const (
	// headInterval is the longest that an entry waits for a head over it: how
	// much a thief could cut off unseen. At one head for so long a time, a year
	// of heads is checked in about a minute.
	headInterval = 30 * time.Second
	// headEntries brings a head sooner under load. It also bounds what Open
	// reads back to find the saved head.
	headEntries = 10_000
	// maxDue bounds the heads that wait for the signer. One that finds no room
	// is left out: the next stands for it as well.
	maxDue = 16
)

// Head returns the newest head that was saved; zero if there is none yet.
func (l *Log) Head() Head { return *l.head.Load() }

// signAll is the signer. It works beside the writer, so that a head costs no
// entry any time; with nothing to sign it sleeps.
func (l *Log) signAll() {
	defer close(l.signed)
	var ripe <-chan time.Time
	for {
		select {
		case e := <-l.due:
			l.sign(e)
		case <-l.unsigned:
			switch {
			case l.lastSigned == 0: // a log with entries is never without a head for long
				l.signUpTo(l.end.Load())
			case ripe == nil:
				ripe = time.After(headInterval)
			}
		case <-ripe:
			ripe = nil
			l.signUpTo(l.end.Load())
		case <-l.stopped:
			l.signUpTo(l.end.Load())
			return
		}
	}
}

// signUpTo signs what is due, and e. e was read before: what was due then is no
// newer.
func (l *Log) signUpTo(e *end) {
	for len(l.due) > 0 {
		l.sign(<-l.due)
	}
	l.sign(e)
}

// sign signs the log up to e, unless that is done or can't be any more. A head
// that can't be kept breaks the log: nobody could prove later that it is whole.
func (l *Log) sign(e *end) {
	if e.seq <= l.lastSigned || l.headFault {
		return
	}
	h := signHead(l.key, e.seq, e.hash, l.now())
	if err := l.keep(h); err != nil {
		l.headFault = true
		_ = l.fail(fmt.Errorf("head of entry %d: %w", h.Seq, err)) // Err tells it
		return
	}
	l.lastSigned = h.Seq
	l.head.Store(&h)
}

// keep writes h beside the log and has it saved out of the files' reach.
func (l *Log) keep(h Head) error {
	line, err := json.Marshal(h)
	if err != nil {
		return err
	}
	if _, err := l.heads.Write(append(line, '\n')); err != nil {
		return err
	}
	if err := l.heads.Sync(); err != nil {
		return err
	}
	return l.save(context.Background(), h) // nobody's request: it can't be called off
}
