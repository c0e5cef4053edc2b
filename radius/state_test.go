package radius

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/radius/upstream"
	"otpgate/verifier"
)

// challenged is a State that hanako got at client vpn.
func (h *harness) challenged() []byte {
	h.t.Helper()
	for _, name := range []string{"vpn", "vpn6", "legacy"} {
		h.as(name, ModeChallenge, FirstFactor{PIN: true})
	}
	return h.asks(rightPIN, nil, askCode)
}

func TestStateIsForOneClientAndUser(t *testing.T) {
	inBubble(t, func(h *harness) {
		state := h.challenged()
		for _, c := range h.Clients.byPrefix {
			c.OtherRealms = []string{"retail"}
		}
		request := func(id byte, user string) *packet {
			return newPacket(codec.CodeAccessRequest, id, fmt.Sprint("of", id)).user(user).password(rightCode, secret).add(rfc2865.State_Type, state)
		}
		h.wantReply(vpnV6, request(201, "hanako").signed(secret), codec.CodeAccessReject)
		h.wantReply(legacy, request(202, "hanako").b, codec.CodeAccessReject)
		h.wantReply(vpn, request(203, "taro").signed(secret), codec.CodeAccessReject)
		h.wantReply(vpn, request(204, "hanako@retail").signed(secret), codec.CodeAccessReject)
		h.wantCalls(0)
		h.wantRefused("vpn6", stateForeign, 1)
		h.wantRefused("legacy", stateForeign, 1)
		h.wantRefused("vpn", stateForeign, 2)
		h.wantReply(vpn, request(205, `STAFF\hanako`).signed(secret), codec.CodeAccessAccept) // none of it has used it up
	})
}

// Each octet counts, and there are no more and no fewer.
func TestStateThatWasAltered(t *testing.T) {
	inBubble(t, func(h *harness) {
		state := h.challenged()
		forged := 0
		try := func(altered []byte) {
			t.Helper()
			h.answers(rightCode, altered, codec.CodeAccessReject)
			forged++
		}
		for i := range state {
			altered := bytes.Clone(state)
			altered[i] ^= 1 << (i % 8)
			try(altered)
		}
		try(state[:len(state)-1])
		try(state[1:])
		try(state[:1])
		try(append(bytes.Clone(state), 0))
		try(bytes.Repeat([]byte{0}, 253))
		h.wantRefused("vpn", stateForged, float64(forged))
		h.wantCalls(0)
		h.wantReply(vpn, h.typing(rightCode, state).add(rfc2865.State_Type, state).signed(secret), codec.CodeAccessReject)
		h.wantRefused("vpn", stateAmbiguous, 1)
		h.answers(rightCode, state, codec.CodeAccessAccept)
	})
}

func TestStateIsAnsweredOnce(t *testing.T) {
	inBubble(t, func(h *harness) {
		state := h.challenged()
		h.answers(wrongCode, state, codec.CodeAccessReject)
		h.answers(rightCode, state, codec.CodeAccessReject)
		h.wantCalls(1)
		h.wantRefused("vpn", stateReplayed, 1)
		// The same answer is one that got lost, and came by another server maybe:
		// what that is worth the gate knows.
		state = h.challenged()
		h.answers(rightCode, state, codec.CodeAccessAccept)
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) {
			return verifier.Result{Outcome: verifier.Replayed}, nil
		}
		h.answers(rightCode, state, codec.CodeAccessReject)
		h.wantCalls(3)
		h.wantRefused("vpn", stateReplayed, 1)
	})
}

// A State that nothing was decided on may be answered again, but not otherwise.
func TestUndecidedStateKeepsItsAnswer(t *testing.T) {
	inBubble(t, func(h *harness) {
		state := h.challenged()
		h.gate.verify = func(context.Context, verifier.Attempt) (verifier.Result, error) { return verifier.Result{}, errGate }
		h.wantDrop(vpn, h.typing(rightCode, state).signed(secret), "vpn", noDecision)
		h.gate.verify = nil
		h.answers(wrongCode, state, codec.CodeAccessReject)
		h.wantRefused("vpn", stateReplayed, 1)
		h.answers(rightCode, state, codec.CodeAccessAccept)
	})
}

func TestParallelAnswersToOneState(t *testing.T) {
	inBubble(t, func(h *harness) {
		state := h.challenged()
		release := h.blockGate()
		for code := range 5 {
			h.exchange(vpn, h.typing(fmt.Sprintf("%06d", code), state).signed(secret))
		}
		close(release)
		synctest.Wait()
		h.wantCalls(1)
		h.wantRefused("vpn", stateReplayed, 4)
	})
}

func TestStateExpires(t *testing.T) {
	inBubble(t, func(h *harness) {
		first, second := h.challenged(), h.challenged()
		time.Sleep(stateHold - time.Millisecond)
		h.answers(rightCode, first, codec.CodeAccessAccept)
		time.Sleep(time.Millisecond)
		h.answers(rightCode, second, codec.CodeAccessReject)
		h.answers(rightCode, first, codec.CodeAccessReject) // forgotten or not
		time.Sleep(24 * time.Hour)
		h.answers(rightCode, second, codec.CodeAccessReject)
		h.wantRefused("vpn", stateExpired, 3)
		h.wantCalls(1)
	})
}

// Any node with the same key goes on, one that was started meanwhile too; one with
// another key doesn't.
func TestStateOnAnotherNode(t *testing.T) {
	inBubble(t, func(h *harness) {
		state, used := h.challenged(), h.challenged()
		h.answers(rightCode, used, codec.CodeAccessAccept)
		for key, want := range map[string]codec.Code{"of all nodes": codec.CodeAccessAccept, "another": codec.CodeAccessReject} {
			other := &harness{t: t, conn: newMemConn(), gate: newFakeGate(), logs: &logBuffer{}}
			other.Server = newServer(t, other.gate, other.logs)
			other.States = newSealer(key)
			served := make(chan error, 1)
			go func() { served <- other.Serve(other.conn) }()
			other.as("vpn", ModeChallenge, FirstFactor{PIN: true})
			other.sent = 100
			other.answers(rightCode, state, want)
			if want == codec.CodeAccessReject {
				other.wantRefused("vpn", stateForged, 1)
			}
			if err := other.Shutdown(h.t.Context()); err != nil {
				t.Error(err)
			}
			if err := <-served; err != nil {
				t.Error(err)
			}
		}
	})
}

// The same datagram has the same answer, which was lost; nobody is asked twice.
func TestLostChallengeIsResent(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
		first := h.typing(rightPIN, nil).signed(secret)
		reply := h.wantReply(vpn, first, codec.CodeAccessChallenge)
		if again := h.wantReply(vpn, first, codec.CodeAccessChallenge); !bytes.Equal(again, reply) {
			t.Error("another challenge")
		}
		if n := len(h.gate.checked); n != 1 {
			t.Errorf("the PIN was checked %d times, want once", n)
		}
		got := attributesOfReply(t, reply)
		second := h.typing(rightCode, got.Get(rfc2865.State_Type)).signed(secret)
		accept := h.wantReply(vpn, second, codec.CodeAccessAccept)
		if again := h.wantReply(vpn, second, codec.CodeAccessAccept); !bytes.Equal(again, accept) {
			t.Error("another answer")
		}
		h.wantCalls(1)
	})
}

// A State is one of the first factor that it was given for, and settings may
// change meanwhile.
func TestStateOfAnotherServerThatIsGone(t *testing.T) {
	inBubble(t, func(h *harness) {
		old := FirstFactor{Name: "old", Upstream: &fakeUpstream{answer: func(upstream.Question) (upstream.Answer, error) {
			return upstream.Answer{Kind: upstream.Challenge, Message: "?", State: []byte("s")}, nil
		}}}
		h.as("vpn", ModeChallenge, old)
		state := h.asks("x", nil, "?")
		renamed, migrating := old, old
		renamed.Name, migrating.Migrating = "new", true
		for i, changed := range []struct {
			mode Mode
			f    FirstFactor
		}{
			{ModeChallenge, FirstFactor{}},
			{ModeChallenge, FirstFactor{PIN: true}},
			{ModeChallenge, FirstFactor{Name: "old", Directory: &fakeDirectory{}}},
			{ModeChallenge, renamed},
			{ModeChallenge, migrating},
			{ModePasswordOTP, old},
		} {
			h.as("vpn", changed.mode, changed.f)
			h.answers("x", state, codec.CodeAccessReject)
			h.wantRefused("vpn", stateForeign, float64(i+1))
		}
		h.wantCalls(0)
		h.as("vpn", ModeChallenge, old)
		h.asks("x", state, "?")
	})
}

func TestStateKeepsAll(t *testing.T) {
	want := state{
		progress{
			stage:    stageUpstream,
			factor:   verifier.FirstFactor{Kind: verifier.FactorRADIUS, Verdict: verifier.FactorRight, Vouches: true, PIN: rightMark},
			upstream: []byte("upstream"),
			ticket:   verifier.PINTicket{7, 8, 9}, pin: Secret("4711"), mistakes: 2,
		},
		time.UnixMilli(1_800_000_000_123),
		[ownerLength]byte{1, 2, 3},
	}
	b, err := want.encode()
	if err != nil || len(b) != stateLength {
		t.Fatalf("%d octets, %v", len(b), err)
	}
	got, ok := decodeState(b)
	if !ok || !got.equal(want) {
		t.Errorf("%t, %+v, want %+v", ok, got, want)
	}
	for _, bad := range [][]byte{nil, b[:stateLength-1], append(bytes.Clone(b), 0), with(b, 0, 1), with(b, 1, 0), with(b, 1, 99), with(b, 2, 99), with(b, 54, 255)} {
		if _, ok := decodeState(bad); ok {
			t.Errorf("decoded % x", bad)
		}
	}
}

// Another server's State fits or doesn't, whatever its length: what fits comes back
// as it was, and ours is as long as any.
func TestStateOfAnyLength(t *testing.T) {
	const longest = 254 // one more than an attribute can hold
	// What is there of each State: with the lengths of PIN and State, 56 octets.
	const room = stateLength - 56
	for n := range longest + 1 {
		at := progress{stage: stageUpstream, upstream: bytes.Repeat([]byte{'x'}, n)}
		at.factor.Kind = verifier.FactorRADIUS
		if err := at.fitsState(); (err == nil) != (n <= room) || err != nil && !errors.Is(err, upstreamTooLong) {
			t.Errorf("a State of %d octets: %v", n, err)
		}
		if n > room {
			continue
		}
		want := state{progress: at, expires: time.UnixMilli(0)}
		b, err := want.encode()
		if err != nil || len(b) != stateLength {
			t.Fatalf("a State of %d octets became %d, %v", n, len(b), err)
		}
		if got, ok := decodeState(b); !ok || !got.equal(want) {
			t.Errorf("a State of %d octets became %+v", n, got)
		}
	}
}

// with is b with another octet.
func with(b []byte, at int, octet byte) []byte {
	b = bytes.Clone(b)
	b[at] = octet
	return b
}

func (st *state) equal(other state) bool {
	return st.stage == other.stage && st.factor == other.factor && bytes.Equal(st.upstream, other.upstream) &&
		st.ticket == other.ticket && bytes.Equal(st.pin, other.pin) &&
		st.mistakes == other.mistakes && st.expires.Equal(other.expires) && st.owner == other.owner
}

// The oldest goes first, and the time of each is over with its State's.
func TestAnsweredStatesAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAnsweredStates(time.Now)
		key := func(i int) codec.Attribute { return codec.Attribute(fmt.Sprint(i)) }
		for i := range maxAnswered + 1 {
			if !a.take(key(i), "x") {
				t.Fatal("not the first answer")
			}
		}
		if len(a.answers) != maxAnswered || a.oldest.Len() != maxAnswered {
			t.Errorf("%d and %d entries, want %d", len(a.answers), a.oldest.Len(), maxAnswered)
		}
		if a.take(key(1), "y") || !a.take(key(1), "x") || !a.take(key(0), "y") {
			t.Error("not the oldest went")
		}
		time.Sleep(stateHold)
		if !a.take(key(1), "z") || len(a.answers) != 1 || a.oldest.Len() != 1 {
			t.Errorf("%d and %d entries after their time", len(a.answers), a.oldest.Len())
		}
	})
}

// FuzzState takes any octets for a State, and for what is in one.
func FuzzState(f *testing.F) {
	who := subject{realm: "staff", user: "hanako"}
	good := state{progress{stage: stageCode, factor: verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorRight}}, time.Now().Add(time.Hour), [ownerLength]byte{}}
	full := state{progress{stage: stagePINAgain, pin: Secret(strings.Repeat("1", 12)), upstream: make([]byte, 80)}, time.Now(), [ownerLength]byte{}}
	for _, st := range []state{good, full} {
		b, err := st.encode()
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b, true)
		f.Add(b, false)
		f.Add(newSealer("of all nodes").Seal(b), false)
	}
	f.Add([]byte{}, true)
	f.Fuzz(func(t *testing.T, b []byte, sealed bool) {
		s := newServer(t, newFakeGate(), &logBuffer{})
		c := s.Clients.lookup(vpn.Addr())
		if st, ok := decodeState(b); ok {
			again, err := st.encode()
			if err != nil {
				t.Fatalf("what was decoded can't be encoded: %v", err)
			}
			if back, ok := decodeState(again); !ok || !back.equal(st) {
				t.Fatalf("%+v became %+v", st, back)
			}
			st.owner = owner(c, who)
			if b, err = st.encode(); err != nil {
				t.Fatal(err)
			}
		}
		value := b
		if sealed {
			value = base64.RawURLEncoding.AppendEncode(nil, s.States.Seal(b))
		}
		at, err := s.unseal(value, c, who)
		switch {
		case err != nil && at != nil, err == nil && !sealed:
			t.Fatalf("%+v, %v", at, err)
		case err == nil && at.stage == stageFirst:
			t.Fatal("a log-in that begins anew")
		}
	})
}
