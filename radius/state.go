package radius

import (
	"container/list"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"
	"time"

	"golang.org/x/crypto/cryptobyte"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/verifier"
)

// A State (RFC 2865 §5.24) holds how far a log-in has come, so that any node with
// the same key can go on with it, and none has to remember it. It is sealed, bound
// to client and user, and good for stateHold. What is sealed:
//
//	version      1 octet
//	stage        1
//	factor       1 its kind, 1 its verdict, 1 whether it vouches
//	mistakes     1
//	expires      8, milliseconds since 1970
//	owner       16, a digest of user, realm, and the client with what it asks for
//	ticket      16
//	mark         8, of the PIN that was right
//	pin          1 + its octets
//	upstream     1 + its octets
//	zeros        up to stateLength: how long it is must not tell how a first factor was
//
// The value is base64url: gear that takes a State for a string (ocserv by radcli)
// would cut it at an octet of zero.
const (
	stateVersion = 2
	ownerLength  = 16
	stateLength  = maxText/4*3 - maxSealing
	// maxSealing is how many octets sealing may add: a nonce and a tag of AES-GCM,
	// and four to tell keys apart.
	maxSealing = 12 + 16 + 4

	// stateHold is how long people have to answer: two codes of a token of 30 s.
	stateHold = time.Minute
	// maxAnswered bounds how many answered States are remembered, at some 250
	// octets each to 16 MiB: 1,000 answers a second. Beyond that the oldest goes
	// first, and could be answered once more, which the gate counts as it does
	// every try.
	maxAnswered = 1 << 16
)

// maxChallenge bounds the octets of a challenge's attributes: a State, two
// Reply-Messages and one for what a cut before a character leaves, Prompt and
// Session-Timeout.
const maxChallenge = 4*(2+maxText) + 2*6

// Sealer seals what leaves the gateway and comes back.
type Sealer interface {
	// Seal returns plaintext sealed, no more than 32 octets longer, never twice
	// the same.
	Seal(plaintext []byte) []byte
	// Open returns what was sealed, by this node or another; an error unless it
	// comes back as it went.
	Open(sealed []byte) ([]byte, error)
}

// factorKinds is in the order of the octets that stand for them.
func factorKinds() []verifier.FactorKind {
	return []verifier.FactorKind{"", verifier.FactorPIN, verifier.FactorLDAP, verifier.FactorRADIUS}
}

// state is what is sealed.
type state struct {
	progress
	expires time.Time
	owner   [ownerLength]byte
}

// fitsState refuses what a State can't hold of another server's answer.
func (at *progress) fitsState() error {
	if _, err := (&state{progress: *at}).encode(); err != nil {
		return upstreamTooLong
	}
	return nil
}

// seal is the progress as the value of a State.
func (s *Server) seal(c *client, at *progress) ([]byte, error) {
	plaintext, err := (&state{*at, s.Now().Add(stateHold), owner(c, at.who)}).encode()
	if err != nil {
		return nil, fmt.Errorf("%w: encoding a State: %w", internalError, err)
	}
	value := base64.RawURLEncoding.AppendEncode(nil, s.States.Seal(plaintext))
	if len(value) > maxText {
		return nil, fmt.Errorf("%w: a State of %d octets", internalError, len(value))
	}
	return value, nil
}

// reopen returns the log-in that the request's State holds. An answer is taken
// once: to the same one again the gate says what it thinks of it, since gear that
// hears nothing asks another server; any other is refused.
func (s *Server) reopen(r *request, who subject, p *proof) (*progress, error) {
	if r.count(rfc2865.State_Type) > 1 { // RFC 2865 §5.44: 0-1
		return nil, stateAmbiguous
	}
	if !p.isTyped {
		return nil, p.impossible()
	}
	sealed := r.packet.Get(rfc2865.State_Type)
	at, err := s.unseal(sealed, r.client, who)
	if err != nil {
		return nil, err
	}
	if !s.answered.take(sealed, p.typed) {
		return nil, stateReplayed
	}
	return at, nil
}

// unseal returns what a State holds, whoever made up its octets.
func (s *Server) unseal(value []byte, c *client, who subject) (*progress, error) {
	raw, err := base64.RawURLEncoding.Strict().AppendDecode(nil, value)
	if err != nil {
		return nil, stateForged
	}
	plaintext, err := s.States.Open(raw)
	if err != nil {
		return nil, stateForged
	}
	opened, ok := decodeState(plaintext)
	if !ok {
		return nil, stateForged
	}
	if want := owner(c, who); subtle.ConstantTimeCompare(opened.owner[:], want[:]) != 1 {
		return nil, stateForeign
	}
	if !s.Now().Before(opened.expires) {
		return nil, stateExpired
	}
	opened.who = who
	return &opened.progress, nil
}

// owner is a digest of whose log-in it is, and of what the client asks people for:
// what one first factor said is worth nothing once gateway.yaml names another.
func owner(c *client, who subject) [ownerLength]byte {
	f := c.FirstFactor
	b := []byte{byte(c.Mode), 0}
	if f.Migrating {
		b[1] = 1
	}
	for _, name := range []string{c.Name, who.realm, who.user, string(f.kind()), f.Name} {
		b = append(binary.BigEndian.AppendUint64(b, uint64(len(name))), name...)
	}
	sum := sha256.Sum256(b)
	return [ownerLength]byte(sum[:])
}

func (st *state) encode() ([]byte, error) {
	b := cryptobyte.NewBuilder(make([]byte, 0, stateLength))
	b.AddUint8(stateVersion)
	b.AddUint8(uint8(st.stage))
	b.AddUint8(uint8(slices.Index(factorKinds(), st.factor.Kind)))
	b.AddUint8(uint8(st.factor.Verdict))
	vouches := uint8(0)
	if st.factor.Vouches {
		vouches = 1
	}
	b.AddUint8(vouches)
	b.AddUint8(uint8(st.mistakes))
	b.AddUint64(uint64(st.expires.UnixMilli()))
	b.AddBytes(st.owner[:])
	b.AddBytes(st.ticket[:])
	b.AddBytes(st.factor.PIN[:])
	addBytes(b, st.pin)
	addBytes(b, st.upstream)
	encoded, err := b.Bytes()
	if err != nil {
		return nil, err
	}
	if len(encoded) > stateLength {
		return nil, fmt.Errorf("%d octets, which is more than the %d of a State", len(encoded), stateLength)
	}
	return append(encoded, make([]byte, stateLength-len(encoded))...), nil
}

func addBytes(b *cryptobyte.Builder, value []byte) {
	b.AddUint8LengthPrefixed(func(b *cryptobyte.Builder) { b.AddBytes(value) })
}

// decodeState is the reverse of encode; ok is false for what that can't have made.
func decodeState(plaintext []byte) (st state, ok bool) {
	in := cryptobyte.String(plaintext)
	var version, stageOf, kind, verdict, vouches, mistakes uint8
	var millis uint64
	var mark verifier.PINMark
	var pin, upstream cryptobyte.String
	kinds := factorKinds()
	if len(plaintext) != stateLength || !in.ReadUint8(&version) || version != stateVersion ||
		!in.ReadUint8(&stageOf) || stage(stageOf) == stageFirst || stage(stageOf) > stagePINAgain ||
		!in.ReadUint8(&kind) || int(kind) >= len(kinds) || !in.ReadUint8(&verdict) || !in.ReadUint8(&vouches) ||
		!in.ReadUint8(&mistakes) || !in.ReadUint64(&millis) || !in.CopyBytes(st.owner[:]) || !in.CopyBytes(st.ticket[:]) ||
		!in.CopyBytes(mark[:]) || !in.ReadUint8LengthPrefixed(&pin) || !in.ReadUint8LengthPrefixed(&upstream) {
		return st, false
	}
	st.stage, st.mistakes, st.expires = stage(stageOf), int(mistakes), time.UnixMilli(int64(millis))
	st.factor = verifier.FirstFactor{Kind: kinds[kind], Verdict: verifier.FactorVerdict(verdict), Vouches: vouches == 1, PIN: mark}
	st.pin, st.upstream = Secret(pin), upstream
	return st, true
}

// answeredStates remembers what States were answered with, for as long as they
// could be answered anew.
type answeredStates struct {
	now func() time.Time

	mu      sync.Mutex // guards the rest
	answers map[digest]*list.Element
	oldest  *list.List // of answeredState
}

// digest is half of a SHA-256.
type digest [sha256.Size / 2]byte

type answeredState struct {
	state, answer digest
	forgotten     time.Time
}

func newAnsweredStates(now func() time.Time) *answeredStates {
	return &answeredStates{now: now, answers: make(map[digest]*list.Element), oldest: list.New()}
}

// take reports whether typed may be the State's answer: the first, or the same as
// that.
func (a *answeredStates) take(state codec.Attribute, typed string) bool {
	key, answer := digestOf(state, ""), digestOf(state, typed)
	a.mu.Lock()
	defer a.mu.Unlock()
	now := a.now()
	for place := a.oldest.Front(); place != nil && !now.Before(place.Value.(answeredState).forgotten); place = a.oldest.Front() {
		a.remove(place)
	}
	if place := a.answers[key]; place != nil {
		return place.Value.(answeredState).answer == answer
	}
	if len(a.answers) >= maxAnswered {
		a.remove(a.oldest.Front())
	}
	a.answers[key] = a.oldest.PushBack(answeredState{key, answer, now.Add(stateHold)})
	return true
}

// remove takes an entry out. The caller holds a.mu.
func (a *answeredStates) remove(place *list.Element) {
	delete(a.answers, place.Value.(answeredState).state)
	a.oldest.Remove(place)
}

func digestOf(state []byte, typed string) digest {
	h := sha256.New()
	h.Write(state)
	h.Write([]byte(typed))
	var sum [sha256.Size]byte
	return digest(h.Sum(sum[:0])[:len(digest{})])
}
