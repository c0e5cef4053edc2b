package radius

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/verifier"
)

func TestOnlyAcceptedIsAccepted(t *testing.T) {
	var rejects [][]byte
	for i, outcome := range []verifier.Outcome{
		verifier.Accepted, verifier.Wrong, verifier.NextCode, verifier.Replayed, verifier.Locked, verifier.Suspended,
		verifier.NotInService, verifier.NoToken, verifier.NoUser, "", "some outcome of a later version",
	} {
		inBubble(t, func(h *harness) {
			h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
				return verifier.Result{Outcome: outcome, Locked: outcome == verifier.Locked, TriesLeft: i}, nil
			}
			want := codec.CodeAccessReject
			if outcome == verifier.Accepted {
				want = codec.CodeAccessAccept
			}
			// The same request each time, so that only the outcome can differ.
			reply := h.wantReply(vpn, login(7, "same", wrongCode), want)
			if want == codec.CodeAccessReject {
				rejects = append(rejects, reply)
			}
		})
	}
	for _, r := range rejects {
		if !bytes.Equal(r, rejects[0]) {
			t.Errorf("rejects differ, so they tell why:\n%x\n%x", r, rejects[0])
		}
	}
}

func TestAttemptHasWhatTheGateNeeds(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret).
			add(rfc2865.CallingStationID_Type, []byte("203.0.113.7[4500]")).signed(secret)
		h.wantReply(vpnV6, b, codec.CodeAccessAccept)
		h.wantCalls(1)
		a := h.gate.attempts[0]
		if !a.Match(rightCode) || a.Match(wrongCode) {
			t.Error("Match doesn't match the typed code alone")
		}
		a.Match = nil
		if got, want := fmt.Sprint(a), fmt.Sprint(verifier.Attempt{Realm: "staff", User: "hanako", Door: "radius", Client: "vpn6", From: "203.0.113.7", Resends: true}); got != want {
			t.Errorf("attempt %s, want %s", got, want)
		}
	})
}

func TestGateIsGivenNoMoreTimeThanTheClientWaits(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.gate.verify = func(ctx context.Context, _ verifier.Attempt) (verifier.Result, error) {
			<-ctx.Done()
			return verifier.Result{}, ctx.Err()
		}
		start := time.Now()
		h.exchange(vpn, login(1, "a", rightCode))
		for h.drops("vpn", noDecision) == 0 && time.Since(start) < time.Minute {
			time.Sleep(time.Millisecond)
		}
		if took := time.Since(start); took < answerLimit || took > answerLimit+10*time.Millisecond {
			t.Errorf("the gate had %s, want %s", took, answerLimit)
		}
	})
}

func TestResend(t *testing.T) {
	t.Run("after the reply: same octets, no second evaluation", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			b := login(1, "a", rightCode)
			first := h.wantReply(vpn, b, codec.CodeAccessAccept)
			time.Sleep(replyHold - time.Millisecond)
			again := h.wantReply(vpn, append(bytes.Clone(b), 0, 0, 0), codec.CodeAccessAccept) // padding is no difference
			if !bytes.Equal(first, again) {
				t.Errorf("the second reply differs:\n%x\n%x", first, again)
			}
			h.wantCalls(1)
		})
	})
	t.Run("after the hold: dropped", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			b := login(1, "a", rightCode)
			h.wantReply(vpn, b, codec.CodeAccessAccept)
			time.Sleep(replyHold)
			h.wantDrop(vpn, b, "vpn", replayed)
			h.wantCalls(1)
			if n := len(h.cache.entries); n != 0 {
				t.Errorf("%d entries in the cache, want none: the expired one must go", n)
			}
		})
	})
	t.Run("in flight: silence, then one reply", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			release := h.blockGate()
			b := login(1, "a", rightCode)
			h.exchange(vpn, b)
			h.wantDrop(vpn, b, "vpn", duplicate)
			h.wantDrop(vpn, b, "vpn", duplicate)
			close(release)
			synctest.Wait()
			if n := len(h.conn.take()); n != 1 {
				t.Errorf("%d replies, want 1", n)
			}
			h.wantCalls(1)
		})
	})
	t.Run("same authenticator, other octets: dropped", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			b := login(1, "a", wrongCode)
			first := h.wantReply(vpn, b, codec.CodeAccessReject)
			h.wantDrop(vpn, login(1, "a", rightCode), "vpn", duplicateAltered)
			if again := h.wantReply(vpn, b, codec.CodeAccessReject); !bytes.Equal(first, again) {
				t.Error("the altered packet changed the cached reply")
			}
			h.wantCalls(1)
		})
	})
}

func TestNewAuthenticatorPurges(t *testing.T) {
	t.Run("an answered exchange", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			h.wantReply(vpn, login(1, "a", wrongCode), codec.CodeAccessReject)
			h.wantReply(vpn, login(1, "b", rightCode), codec.CodeAccessAccept)
			h.wantCalls(2)
			if n := len(h.cache.entries); n != 1 || h.cache.answered.Len() != 1 {
				t.Errorf("%d entries, %d answered, want 1 and 1", n, h.cache.answered.Len())
			}
		})
	})
	t.Run("an exchange in flight", func(t *testing.T) {
		inBubble(t, func(h *harness) {
			release := h.blockGate()
			old, young := login(1, "a", wrongCode), login(1, "b", rightCode)
			h.exchange(vpn, old)
			h.exchange(vpn, young)
			close(release)
			synctest.Wait()
			replies := h.conn.take()
			if len(replies) != 1 {
				t.Fatalf("%d replies, want the one to the new request", len(replies))
			}
			checkReply(t, replies[0].b, young, codec.CodeAccessAccept)
			if n := h.drops("vpn", superseded); n != 1 {
				t.Errorf("superseded %v, want 1", n)
			}
			h.wantReply(vpn, young, codec.CodeAccessAccept)
			h.wantCalls(2)
		})
	})
}

func TestForgeryDoesNotTouchTheCache(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		h.wantReply(vpn, b, codec.CodeAccessAccept)
		forged := newPacket(codec.CodeAccessRequest, 1, "forged").user("hanako").password(wrongCode, "guess").signed("guess")
		h.wantDrop(vpn, forged, "vpn", authenticatorWrong)
		h.wantReply(vpn, b, codec.CodeAccessAccept)

		// A client without Message-Authenticator: noise for a password.
		legacyLogin := newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").password(rightCode, secret).b
		h.wantReply(legacy, legacyLogin, codec.CodeAccessAccept)
		h.wantDrop(legacy, newPacket(codec.CodeAccessRequest, 1, "forged").user("hanako").password(wrongCode, "guess").b, "legacy", passwordGarbled)
		h.wantReply(legacy, legacyLogin, codec.CodeAccessAccept)
		h.wantCalls(2)
	})
}

// numbered returns requests that are alike but for their Request Authenticator
// and their address.
func numbered(t *testing.T) func(i int) *request {
	raw := login(1, "a", rightCode)
	clients := testClients(t)
	return func(i int) *request {
		b := bytes.Clone(raw)
		binary.BigEndian.PutUint32(b[4:], uint32(i)) // of the Request Authenticator
		var ip [4]byte
		binary.BigEndian.PutUint32(ip[:], uint32(i))
		d := &datagram{from: netip.AddrPortFrom(netip.AddrFrom4(ip), 1), client: clients.lookup(vpn.Addr())}
		d.n = copy(d.buf[:], b)
		req := new(request)
		if err := req.parse(d); err != nil {
			t.Fatal(err)
		}
		return req
	}
}

func TestCachedRepliesAreBoundedByOctets(t *testing.T) {
	c, key := newReplyCache(time.Now), numbered(t)
	large := make([]byte, codec.MaxPacketLength)
	const most = maxReplyOctets / codec.MaxPacketLength
	for i := range most + 100 {
		e, _, err := c.begin(key(i))
		if err != nil || !c.finish(e, large) {
			t.Fatal(i, err)
		}
	}
	if n := c.answered.Len(); n != most || c.octets != most*len(large) {
		t.Errorf("%d replies of %d octets are held, want %d of %d", n, c.octets, most, most*len(large))
	}
	if _, reply, _ := c.begin(key(most + 99)); reply == nil {
		t.Error("the youngest was evicted")
	}
	c.now = func() time.Time { return time.Now().Add(replyHold) }
	if c.expire(); c.octets != 0 || len(c.entries) != 0 {
		t.Errorf("%d octets and %d entries after the hold", c.octets, len(c.entries))
	}
}

func TestCacheIsBounded(t *testing.T) {
	now := time.Unix(0, 0)
	c, key := newReplyCache(func() time.Time { return now }), numbered(t)
	inFlight, _, _ := c.begin(key(-1))
	for i := range maxExchanges + 10 {
		e, reply, err := c.begin(key(i))
		if err != nil || reply != nil {
			t.Fatalf("exchange %d: reply %x, error %v", i, reply, err)
		}
		c.finish(e, []byte{1})
	}
	if n := len(c.entries); n > maxExchanges || n != c.answered.Len()+1 {
		t.Errorf("%d entries, %d answered, want at most %d in all", n, c.answered.Len(), maxExchanges)
	}
	if _, _, err := c.begin(key(-1)); !errors.Is(err, duplicate) {
		t.Errorf("the entry in flight was evicted: %v", err)
	}
	if !c.finish(inFlight, []byte{2}) {
		t.Error("the entry in flight can't be finished")
	}
	if _, reply, _ := c.begin(key(maxExchanges + 9)); reply == nil {
		t.Error("the youngest entry was evicted")
	}
	if e, _, _ := c.begin(key(0)); e == nil {
		t.Error("the oldest entry was kept")
	}
	if n := len(c.evaluated.known); n != maxRemembered+1 {
		t.Errorf("%d packets are remembered, want %d and the one in flight", n, maxRemembered)
	}
	now = now.Add(replyHold)
	_, _, _ = c.begin(key(1))
	if n := len(c.entries); n != 2 { // that of key(0), in flight, and the new one
		t.Errorf("%d entries after the hold, want 2", n)
	}
}

func TestNoDecisionIsNoAnswer(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		for _, outcome := range []verifier.Outcome{verifier.Wrong, verifier.Accepted} {
			h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
				return verifier.Result{Outcome: outcome}, errGate
			}
			h.wantDrop(vpn, b, "vpn", noDecision)
		}
		if !strings.Contains(h.logs.String(), errGate.Error()) {
			t.Errorf("the log doesn't say why:\n%s", h.logs)
		}
		h.gate.verify = nil
		h.wantReply(vpn, b, codec.CodeAccessAccept)
		h.wantCalls(3)
	})
}

func TestPanicCostsOnePacket(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) { panic("boom") }
		for range workers + 1 { // no worker is lost by it
			h.wantDrop(vpn, b, "vpn", internalError)
			time.Sleep(time.Second) // it is one user
		}
		if !strings.Contains(h.logs.String(), "boom") || !strings.Contains(h.logs.String(), "server_test.go") {
			t.Errorf("the log doesn't say where:\n%s", h.logs)
		}
		h.gate.verify = nil
		h.wantReply(vpn, b, codec.CodeAccessAccept)
	})
}

func TestUnsentReplyCanBeHadAgain(t *testing.T) {
	inBubble(t, func(h *harness) {
		b := login(1, "a", rightCode)
		h.conn.writeErr = errors.New("no buffer space available")
		h.wantDrop(vpn, b, "vpn", writeFailed)
		h.conn.writeErr = nil
		h.wantReply(vpn, b, codec.CodeAccessAccept)
		h.wantCalls(1)
	})
}

// blockGate makes the gate wait until the channel is closed.
func (h *harness) blockGate() chan struct{} {
	release := make(chan struct{})
	h.gate.verify = func(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
		<-release
		if a.Match(rightCode) {
			return verifier.Result{Outcome: verifier.Accepted}, nil
		}
		return verifier.Result{Outcome: verifier.Wrong}, nil
	}
	return release
}

// flood sends n requests, each of another user.
func (h *harness) flood(n int) {
	for i := range n {
		h.conn.in <- sent{netip.AddrPortFrom(vpn.Addr(), uint16(10000+i)), loginOf(fmt.Sprint("flood", i), 1)}
	}
	synctest.Wait()
}

func TestStaleIsNotEvaluated(t *testing.T) {
	inBubble(t, func(h *harness) {
		release := h.blockGate()
		h.flood(workers + 3)
		time.Sleep(queueLimit + time.Millisecond)
		close(release)
		synctest.Wait()
		if n := len(h.conn.take()); n != workers {
			t.Errorf("%d replies, want %d", n, workers)
		}
		h.wantCalls(workers)
		if n := h.drops("vpn", stale); n != 3 {
			t.Errorf("stale %v, want 3", n)
		}
	})
}

func TestWaitingIsEvaluatedInTime(t *testing.T) {
	inBubble(t, func(h *harness) {
		release := h.blockGate()
		h.flood(workers + 3)
		time.Sleep(queueLimit)
		close(release)
		synctest.Wait()
		if n := len(h.conn.take()); n != workers+3 {
			t.Errorf("%d replies, want %d", n, workers+3)
		}
	})
}

func TestOverflowIsDropped(t *testing.T) {
	inBubble(t, func(h *harness) {
		release := h.blockGate()
		h.flood(workers) // all are busy now, so that the queue's length is exact
		for i := range queueLength + 5 {
			h.conn.in <- sent{netip.AddrPortFrom(vpn.Addr(), uint16(10000+i)), loginOf(fmt.Sprint(i), 2)}
		}
		synctest.Wait()
		if n := h.drops("vpn", queueFull); n != 5 {
			t.Errorf("queue_full %v, want 5", n)
		}
		close(release)
		synctest.Wait()
		if n := len(h.conn.take()); n != workers+queueLength {
			t.Errorf("%d replies, want %d", n, workers+queueLength)
		}
	})
}

func TestShutdownFinishesWhatItRead(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, conn: newMemConn(), gate: newFakeGate(), logs: &logBuffer{}}
		h.Server = newServer(t, h.gate, h.logs)
		other := newMemConn()
		served, stopped := make(chan error, 2), make(chan error, 1)
		go func() { served <- h.Serve(h.conn) }()
		go func() { served <- h.Serve(other) }()
		release := h.blockGate()
		h.flood(workers + 10) // 10 of them in the queue

		go func() { stopped <- h.Shutdown(t.Context()) }()
		synctest.Wait()
		for range 2 {
			if err := <-served; err != nil {
				t.Errorf("Serve: %v", err)
			}
		}
		select {
		case err := <-stopped:
			t.Fatalf("Shutdown returned with requests under way: %v", err)
		default:
		}
		h.conn.in <- sent{vpn, login(9, "late", rightCode)}
		close(release)
		if err := <-stopped; err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if n := len(h.conn.take()); n != workers+10 {
			t.Errorf("%d replies, want %d", n, workers+10)
		}
		if !h.conn.closed || !other.closed {
			t.Error("a socket is still open")
		}
		h.checkBooks()
		if err := h.Shutdown(t.Context()); err != nil {
			t.Errorf("second Shutdown: %v", err)
		}
		late := newMemConn()
		if err := h.Serve(late); err != nil || !late.closed {
			t.Errorf("Serve after Shutdown: %v, closed %v", err, late.closed)
		}
	})
}

// lateConn is a socket whose last Read was about to return when it was
// interrupted.
type lateConn struct {
	*memConn
	last chan sent
}

func (c lateConn) ReadFromUDPAddrPort(b []byte) (int, netip.AddrPort, error) {
	<-c.interrupted
	select {
	case p := <-c.last:
		time.Sleep(time.Second)
		return copy(b, p.b), p.addr, nil
	default:
		return 0, netip.AddrPort{}, os.ErrDeadlineExceeded
	}
}

func TestShutdownWaitsForReaders(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newFakeGate(), &logBuffer{})
		conn := lateConn{newMemConn(), make(chan sent, 1)}
		conn.last <- sent{vpn, login(1, "a", rightCode)}
		go func() { _ = s.Serve(conn) }()
		synctest.Wait()
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if n := len(conn.take()); n != 1 {
			t.Errorf("%d replies, want 1: it was read", n)
		}
	})
}

func TestShutdownOutOfTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := &harness{t: t, conn: newMemConn(), gate: newFakeGate(), logs: &logBuffer{}}
		h.Server = newServer(t, h.gate, h.logs)
		cancelled := make(chan struct{})
		h.gate.verify = func(ctx context.Context, _ verifier.Attempt) (verifier.Result, error) {
			<-ctx.Done()
			close(cancelled)
			return verifier.Result{}, ctx.Err()
		}
		go func() { _ = h.Serve(h.conn) }()
		h.exchange(vpn, login(1, "a", rightCode))
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		start := time.Now()
		if err := h.Shutdown(ctx); !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != time.Second {
			t.Errorf("Shutdown: %v after %s, want deadline exceeded after 1s", err, time.Since(start))
		}
		<-cancelled
		if !h.conn.closed {
			t.Error("the socket is still open")
		}
		synctest.Wait()
		if n := len(h.conn.take()); n != 0 {
			t.Errorf("%d replies without a decision", n)
		}
	})
}

func TestShutdownBeforeServe(t *testing.T) {
	s := newServer(t, newFakeGate(), &logBuffer{})
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestBrokenSocketEndsServe(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, newFakeGate(), &logBuffer{})
		conn := newMemConn()
		conn.readErr = errors.New("bad file descriptor")
		start := time.Now()
		err := s.Serve(conn)
		if !errors.Is(err, conn.readErr) || !strings.Contains(err.Error(), ":1812") {
			t.Errorf("Serve: %v, want the cause and the address", err)
		}
		if took := time.Since(start); took == 0 || took > 2*time.Second {
			t.Errorf("gave up after %s", took)
		}
		if !conn.closed {
			t.Error("the socket is still open")
		}
		if err := s.Shutdown(t.Context()); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
	})
}
