// Package radius is the RADIUS door: it takes Access-Requests from network
// gear and answers them by what the gate decides.
//
// One datagram goes this way:
//
//	socket ─► receive ─► queue ─► worker ─► parse ─► integrity ─► reply cache ─► method ─► burst ─► gate ─► reply
//	(udp.go)  client?    full?    stale?    packet.go integrity.go cache.go      method.go burst.go access.go
//
// and ends in exactly one of two states: replied, or dropped for one reason of
// a closed set (reason.go), which is counted and, rate-limited, logged. A panic
// costs the one packet that caused it.
//
//   - Integrity comes before the reply cache, so that nobody without the shared
//     secret can change what the cache holds.
//   - The reply cache (RFC 5080 §2.2.2) makes an exchange resend-proof: the same
//     datagram gets the same answer, and the gate is asked once. Once for good:
//     when its answer is gone, or from another port, it is dropped (replay.go).
//   - One method shows the code (pap.go, chap.go, mschap.go): each gives the gate
//     a verifier.Match, and the answer what it has to carry. A method never
//     decides.
//   - The methods that gear tries one after the other with one wrong code are one
//     failure (burst.go).
//   - No decision, no answer: if the gate fails, the packet is dropped, and the
//     gear asks again or turns to the next server.
//   - An Access-Reject never says why.
//
// What it speaks now: Access-Request by PAP, CHAP and MS-CHAPv2 (RFC 2759, with
// the keys of RFC 3079), and Status-Server (RFC 5997), over UDP. The library
// layeh.com/radius is the codec: types, codes and encoding. Its server isn't
// used. CHAP and MS-CHAPv2 hide six digits from nobody who can listen between
// the person and the gear, and keys made from them protect nothing by
// themselves: what they are for is gear that speaks nothing else.
//
// What it does not own: whether a code is right, locks and the audit log (the
// gate); opening sockets, reading secrets from files (cmd, config). A socket on
// a wildcard address answers from the address that the kernel's route picks; on
// a host with several addresses, hand in one socket for each.
package radius

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"sync"
	"time"

	codec "layeh.com/radius"

	"otpgate/verifier"
)

const (
	// workers is how many requests are under way at once. Each may wait for the
	// gate's group commit: at 10 ms per commit, 512 in flight are 51,000
	// requests a second, more than two cores can parse.
	workers = 512
	// queueLength is how many datagrams may wait for a worker: a burst of a
	// tenth of a second at 40,000 a second, in 17 MiB at the most.
	queueLength = 4096
	// queueLimit is how long a datagram may wait for a worker. The shortest
	// patience of gear is 3 s (Palo Alto, NetScaler), and a late Accept counts
	// as a failure there while it uses the code up. One second is left for the
	// gate.
	queueLimit = 2 * time.Second
	// answerLimit is when the gate's turn is given up, counted from arrival.
	answerLimit = 3 * time.Second
)

// Gate decides. Verify returns its decision when it is on disk; an error means
// that there is none. ctx bounds the wait for a turn.
type Gate interface {
	Verify(ctx context.Context, a verifier.Attempt) (verifier.Result, error)
}

// Server is the door. Its exported fields are its dependencies, all required,
// and are not changed once Serve was called. The zero value of the rest is
// ready to use.
type Server struct {
	Clients *Clients
	Gate    Gate
	Log     *slog.Logger
	Metrics *Metrics
	Now     func() time.Time

	mu      sync.Mutex // guards sockets and closing, and the start
	sockets []*socket
	closing bool

	// Set by start, before the first reader, and not changed afterwards.
	queue   chan *datagram
	cache   *replyCache
	bursts  *bursts
	notices *notices
	ctx     context.Context //nolint:containedctx // The parent of every call to the gate; ends when Shutdown runs out of time.
	cancel  context.CancelFunc

	datagrams sync.Pool // of *datagram
	readers   sync.WaitGroup
	workers   sync.WaitGroup
}

// Shutdown stops reading, waits until what was read is answered, and closes the
// sockets. If ctx ends first, the calls to the gate are cancelled, the sockets
// are closed and the error says so. A second call does nothing.
func (s *Server) Shutdown(ctx context.Context) error {
	sockets := s.stopReading()
	if len(sockets) == 0 {
		return nil
	}

	drained := make(chan struct{})
	go func() {
		s.readers.Wait()
		close(s.queue)
		s.workers.Wait()
		close(drained)
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = fmt.Errorf("radius: stopped with requests unanswered: %w", context.Cause(ctx))
	}
	s.cancel()
	for _, sock := range sockets {
		err = errors.Join(err, sock.close())
	}
	return err
}

// stopReading lets no socket be added, ends the readers and returns the sockets
// for the caller to close; none if another call has got them.
func (s *Server) stopReading() []*socket {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	sockets := s.sockets
	s.sockets = nil
	for _, sock := range sockets {
		sock.interrupt()
	}
	return sockets
}

// start makes what all sockets share. The caller holds s.mu.
func (s *Server) start() {
	s.queue = make(chan *datagram, queueLength)
	s.cache = newReplyCache(s.Now)
	s.bursts = newBursts(s.Now)
	s.notices = newNotices(s.Now)
	s.datagrams.New = func() any { return new(datagram) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
	for range workers {
		s.workers.Go(s.work)
	}
}

func (s *Server) work() {
	var req request // reused: its slices grow once
	for d := range s.queue {
		s.handle(&req, d)
		s.datagrams.Put(d)
	}
}

// handle takes one datagram to its end: replied or dropped.
func (s *Server) handle(req *request, d *datagram) {
	reply, err := s.respondSafely(req, d)
	if err == nil {
		if err = d.via.send(reply, d.from); err != nil {
			err = fmt.Errorf("%w: %w", writeFailed, err)
		}
	}
	if err != nil {
		s.drop(d, err)
		return
	}
	s.Metrics.replied(d.client.Name, codec.Code(reply[0]), s.Now().Sub(d.at))
}

// respondSafely is respond with a panic turned into an internalError.
func (s *Server) respondSafely(req *request, d *datagram) (reply []byte, err error) {
	defer func() {
		if v := recover(); v != nil {
			reply, err = nil, fmt.Errorf("%w: panic: %v\n%s", internalError, v, debug.Stack())
		}
	}()
	if s.Now().Sub(d.at) > queueLimit {
		return nil, stale
	}
	return s.respond(req, d)
}
