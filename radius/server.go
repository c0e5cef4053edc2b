// Package radius is the RADIUS door: it takes Access-Requests from network
// gear and answers them by what the gate decides.
//
// One datagram goes this way:
//
//	socket ─► receive ─► queue ─► worker ─► parse ─► integrity ─► reply cache ─► rate ─► method ─► login ─► burst, rate ─► first factor ─► gate ─► reply
//	(udp.go)  client?    full?    stale?    packet.go integrity.go cache.go      limit.go method.go login.go burst.go      firstfactor.go          access.go
//
// and ends in exactly one of two states: replied, or dropped for one reason of
// a closed set (reason.go), which is counted and, rate-limited, logged. A panic
// costs the one packet, or the one TLS connection, that caused it.
//
//   - Integrity comes before the reply cache, so that nobody without the shared
//     secret can change what the cache holds.
//   - The reply cache (RFC 5080 §2.2.2) makes an exchange resend-proof: the same
//     datagram gets the same answer, and the gate is asked once. Once for good:
//     when its answer is gone, or from another port, it is dropped (replay.go).
//   - One method shows the code (pap.go, chap.go, mschap.go): each gives the gate
//     a verifier.Match, and the answer what it has to carry. A method never
//     decides.
//   - A log-in may take more than one step: what its client's mode has people type,
//     another server's questions, the code, a next code, a new PIN (login.go,
//     newpin.go). Between two of them it lives in a State, sealed, bound to client
//     and user, and good at any node (state.go). What people read stands in
//     prompt.go. Every method goes on through Server.proceed.
//   - Whether a first factor is right, a directory, another server or the gate says
//     (firstfactor.go); what that is worth, the gate. However it was, the answer is
//     the same until the gate has decided.
//   - What the door rejects by itself has a reason of a closed set, counted too
//     (refusal.go).
//   - The methods that gear tries one after the other with one wrong code are one
//     failure (burst.go).
//   - What a client, or one user at it, asks too often is dropped before the gate
//     (limit.go): no answer costs a guesser his time-out. What waits for a first
//     factor leaves most workers to the others, and each client some of the rest
//     (room.go).
//   - Accounting goes to the log that cmd hands in, and is answered once it is
//     there, on the same sockets (accounting.go).
//   - What came from each client is told to the operator (seen.go).
//   - No decision, no answer: if the gate fails, the packet is dropped, and the
//     gear asks again or turns to the next server. Over RADIUS/1.1 it is told that
//     it has to (protocolerror.go).
//   - An Access-Reject never says why.
//   - Whom a request names, realm and case and charset, stands in names.go; what an
//     Access-Accept carries beyond the yes in answer.go and radius/dictionary.
//   - A TLS connection (tls.go) is another way in: who its client is, its
//     certificate says (certificate.go); its packets go the same way from the queue
//     on, many at a time, and each answer is written when it is there (stream.go).
//   - EAP (eapdoor.go) is one log-in over many requests, which a session holds
//     together (eapsession.go); what it says is radius/eap's.
//
// What it speaks now: Access-Request by PAP, CHAP, MS-CHAPv2 (RFC 2759, with the
// keys of RFC 3079) and EAP (RFC 3579), Accounting-Request (RFC 2866) and
// Status-Server (RFC 5997), over UDP and over TLS (RFC 6614), there as RADIUS/1.1
// too (RFC 9765). Not over DTLS, and not with pre-shared keys. The library
// layeh.com/radius is the codec: types, codes and encoding. Its server isn't used.
// CHAP and MS-CHAPv2 hide six digits from nobody who can listen between the person
// and the gear, and keys made from them protect nothing by themselves: what they
// are for is gear that speaks nothing else. In a tunnel of EAP nobody can listen.
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

	"otpgate/radius/eap"
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

// Gate decides. An error means that there is no decision; ctx bounds the wait for
// a turn.
type Gate interface {
	// Verify returns its decision when it is on disk.
	Verify(ctx context.Context, a verifier.Attempt) (verifier.Result, error)
	// MayBeVouchedFor says whether another server's word could let the user in, who
	// is known here and has never had a token in service. Verify decides.
	MayBeVouchedFor(ctx context.Context, realm, user string) (bool, error)
	// CodeDigits is how many digits the user's codes have; the same of every user
	// who has none or doesn't exist.
	CodeDigits(ctx context.Context, realm, user string) (int, error)
	// CheckPIN says whether it is the user's PIN, and counts nothing: Verify does.
	CheckPIN(ctx context.Context, realm, user, pin string) (verifier.FirstFactor, error)
	// NoteFirstFactor is told of a first factor whose code is asked for next.
	NoteFirstFactor(ctx context.Context, a verifier.Attempt) error
	// ChoosePIN sets the first PIN of a user, by the ticket that an accepted code
	// has given. The error is a *verifier.Refusal if the PIN isn't allowed.
	ChoosePIN(ctx context.Context, a verifier.Attempt, ticket verifier.PINTicket, pin string) (verifier.Result, error)
}

// Server is the door. Its exported fields are its dependencies, all required,
// and are not changed once Serve was called. The zero value of the rest is
// ready to use.
type Server struct {
	Clients *Clients
	Realms  map[string]Realm // by id; one that isn't there adds nothing
	Gate    Gate
	States  Sealer
	// EAP is what is offered by EAP. nil: nothing, and who asks by it is refused.
	EAP     *eap.Config
	Log     *slog.Logger
	Metrics *Metrics
	// AccountLog keeps the accounting of the clients that have it.
	AccountLog AccountLog
	Now        func() time.Time

	mu        sync.Mutex // guards endpoints and closing, and the start
	endpoints map[endpoint]struct{}
	closing   bool

	// Set by prepare, before the first reader, and not changed afterwards.
	queue    chan *datagram
	cache    *replyCache
	accounts *replyCache // of Accounting-Requests, so that they push out none of the others
	bursts   *bursts
	users    *userLimits // of what the gate is asked
	checks   *userLimits // of passwords that others check
	answered *answeredStates
	waiting  *room // for a directory or another server
	hashing  *room // for a PIN's hash
	eap      *eapSessions
	notices  *notices
	conns    *connections
	ctx      context.Context //nolint:containedctx // The parent of every call to the gate; ends when Shutdown runs out of time.
	cancel   context.CancelFunc

	unknown    strangers
	turnedAway turnedAway
	datagrams  sync.Pool // of *datagram
	readers    sync.WaitGroup
	workers    sync.WaitGroup
}

// Shutdown stops reading, waits until what was read is answered, and closes the
// sockets and connections. If ctx ends first, the calls to the gate are
// cancelled, all is closed and the error says so. A second call does nothing.
func (s *Server) Shutdown(ctx context.Context) error {
	endpoints := s.stopReading()
	if len(endpoints) == 0 {
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
	s.eap.close()
	for e := range endpoints {
		err = errors.Join(err, e.close())
	}
	return err
}

// stopReading lets nothing be added, ends the readers and returns what the
// caller has to close; nothing if another call has got it.
func (s *Server) stopReading() map[endpoint]struct{} {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closing = true
	endpoints := s.endpoints
	s.endpoints = nil
	for e := range endpoints {
		e.interrupt()
	}
	return endpoints
}

func (s *Server) isClosing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closing
}

// open adds an endpoint, whose reader the caller is, and starts the workers with
// the first one. It reports false after Shutdown.
func (s *Server) open(e endpoint) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closing {
		return false
	}
	if s.queue == nil {
		s.start()
	}
	s.endpoints[e] = struct{}{}
	s.readers.Add(1)
	return true
}

// start makes what all endpoints share, and starts the workers. The caller holds
// s.mu.
func (s *Server) start() {
	s.prepare()
	for range workers {
		s.workers.Go(s.work)
	}
}

// prepare makes what handling a datagram takes.
func (s *Server) prepare() {
	s.endpoints = make(map[endpoint]struct{})
	s.queue = make(chan *datagram, queueLength)
	s.cache = newReplyCache(s.Now)
	s.accounts = newReplyCache(s.Now)
	s.bursts = newBursts(s.Now)
	s.users = newUserLimits(s.Now, userBurst, userEvery)
	s.checks = newUserLimits(s.Now, passwordBurst, passwordEvery)
	s.answered = newAnsweredStates(s.Now)
	s.waiting = newRoom(maxWaiting, maxClientWaiting)
	s.hashing = newRoom(maxHashing, maxClientHashing)
	s.unknown.begin(s.Now())
	s.eap = newEAPSessions(s.Now, s.Metrics)
	s.notices = newNotices(s.Now)
	s.conns = newConnections()
	s.datagrams.New = func() any { return new(datagram) }
	s.ctx, s.cancel = context.WithCancel(context.Background())
}

// enqueue hands the datagram to the workers. It must not block, or the kernel
// drops packets without telling.
func (s *Server) enqueue(d *datagram) error {
	select {
	case s.queue <- d:
		return nil
	default:
		return queueFull
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
	d.client.tally.replied(codec.Code(d.buf[0]), codec.Code(reply[0]))
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
