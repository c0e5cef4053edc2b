package radius

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"

	"otpgate/radius/dictionary"
	"otpgate/radius/upstream"
	"otpgate/verifier"
)

// fakeDirectory knows one password, everybody's.
type fakeDirectory struct {
	groups []string
	err    error
	block  chan struct{} // if set, Check waits for it

	mu      sync.Mutex
	checked []string // hanako's passwords
	others  int      // checks of others
	fetched []string // whose groups
}

func (d *fakeDirectory) Check(_ context.Context, user, password string) (bool, error) {
	if d.block != nil {
		<-d.block
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if user == "hanako" {
		d.checked = append(d.checked, password)
	} else {
		d.others++
	}
	return password == rightPassword, d.err
}

func (d *fakeDirectory) Groups(_ context.Context, user string) ([]string, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fetched = append(d.fetched, user)
	return d.groups, d.err
}

// fakeUpstream accepts rightPassword, unless answer says otherwise.
type fakeUpstream struct {
	answer    func(q upstream.Question) (upstream.Answer, error)
	questions []upstream.Question
}

func (u *fakeUpstream) Ask(_ context.Context, q upstream.Question) (upstream.Answer, error) {
	u.questions = append(u.questions, q)
	if u.answer != nil {
		return u.answer(q)
	}
	if q.Password == rightPassword {
		return upstream.Answer{Kind: upstream.Accept, Class: [][]byte{[]byte("class of the other")}}, nil
	}
	return upstream.Answer{}, nil
}

var errDown = errors.New("the other server is down")

// as gives a client another mode and first factor.
func (h *harness) as(name string, mode Mode, f FirstFactor) *client {
	h.t.Helper()
	for _, c := range h.Clients.byPrefix {
		if c.Name == name {
			c.Mode, c.FirstFactor = mode, f
			if err := c.checkMode(); err != nil {
				h.t.Fatal(err)
			}
			return c
		}
	}
	h.t.Fatalf("no client %s", name)
	return nil
}

// typing is a new request by PAP from hanako, in answer to a State if there is
// one.
func (h *harness) typing(text string, state []byte) *packet {
	h.sent++
	p := newPacket(codec.CodeAccessRequest, byte(h.sent), fmt.Sprint("typing", h.sent)).user("hanako").password(text, secret)
	if state != nil {
		p.add(rfc2865.State_Type, state)
	}
	return p
}

// types sends it from the client vpn, and returns the reply's attributes.
func (h *harness) types(text string, state []byte, want codec.Code) codec.Attributes {
	h.t.Helper()
	return attributesOfReply(h.t, h.wantReply(vpn, h.typing(text, state).signed(secret), want))
}

func attributesOfReply(t *testing.T, reply []byte) codec.Attributes {
	t.Helper()
	p, err := codec.Parse(reply, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	return p.Attributes
}

// asks types text and returns the State of the challenge, checked.
func (h *harness) asks(text string, state []byte, question string) []byte {
	h.t.Helper()
	got := h.types(text, state, codec.CodeAccessChallenge)
	if q := string(got.Get(rfc2865.ReplyMessage_Type)); q != question {
		h.t.Errorf("asked %q, want %q", q, question)
	}
	sealed := got.Get(rfc2865.State_Type)
	if len(sealed) == 0 || len(sealed) > 253 {
		h.t.Errorf("a State of %d octets", len(sealed))
	}
	return sealed
}

// answers types text in answer to a challenge.
func (h *harness) answers(text string, state []byte, want codec.Code) { h.types(text, state, want) }

func (h *harness) wantRefused(client string, why refusal, n float64) {
	h.t.Helper()
	if got := testutil.ToFloat64(h.Metrics.rejects.WithLabelValues(client, string(why))); got != n {
		h.t.Errorf("%v refused for %s, want %v; log:\n%s", got, why, n, h.logs)
	}
}

const (
	askCode = "Enter your one-time password."
	askNext = "Wait for the next one-time password, and enter it."
)

// factors are the first factors there are, with what is right.
func factors() map[string]struct {
	factor FirstFactor
	right  string
	kind   verifier.FactorKind
} {
	return map[string]struct {
		factor FirstFactor
		right  string
		kind   verifier.FactorKind
	}{
		"pin":    {FirstFactor{PIN: true}, rightPIN, verifier.FactorPIN},
		"ldap":   {FirstFactor{Directory: &fakeDirectory{}}, rightPassword, verifier.FactorLDAP},
		"radius": {FirstFactor{Upstream: &fakeUpstream{}}, rightPassword, verifier.FactorRADIUS},
	}
}

// Both have to be right, in every mode, and the gate is asked once, whatever was.
func TestFirstFactorAndCode(t *testing.T) {
	for kind, f := range factors() {
		for _, factor := range []string{f.right, "wrong", ""} {
			for _, code := range []string{rightCode, wrongCode} {
				for _, mode := range []Mode{ModePasswordOTP, ModeChallenge} {
					t.Run(fmt.Sprint(kind, mode, factor == f.right, len(factor), code == rightCode), func(t *testing.T) {
						inBubble(t, func(h *harness) {
							h.as("vpn", mode, f.factor)
							want := codec.CodeAccessReject
							if factor == f.right && code == rightCode {
								want = codec.CodeAccessAccept
							}
							if mode == ModeChallenge {
								h.types(code, h.asks(factor, nil, askCode), want)
							} else {
								h.types(factor+code, nil, want)
							}
							h.wantFactor(f.kind, factor == f.right, code == rightCode)
						})
					})
				}
			}
		}
	}
}

// wantFactor checks what the gate was told, and that a wrong first factor reaches
// no code.
func (h *harness) wantFactor(kind verifier.FactorKind, right, code bool) {
	h.t.Helper()
	h.wantCalls(1)
	a := h.gate.attempts[0]
	want := verifier.FirstFactor{Kind: kind, Verdict: verifier.FactorWrong}
	if right {
		want.Verdict = verifier.FactorRight
	}
	if right && kind == verifier.FactorPIN {
		want.PIN = rightMark
	}
	if a.FirstFactor != want {
		h.t.Errorf("the gate heard of %+v, want %+v", a.FirstFactor, want)
	}
	if matches := a.Match(rightCode); matches != (right && code) {
		h.t.Errorf("the right code matches: %t", matches)
	}
}

// Nobody can tell from a challenge what became of the first factor.
func TestWrongFirstFactorLooksTheSame(t *testing.T) {
	for kind, f := range factors() {
		t.Run(kind, func(t *testing.T) {
			inBubble(t, func(h *harness) {
				h.as("vpn", ModeChallenge, f.factor)
				shape := func(text string) []byte {
					reply := h.wantReply(vpn, h.typing(text, nil).signed(secret), codec.CodeAccessChallenge)
					clear(reply[1:2])   // the identifier
					clear(reply[4:20])  // both authenticators
					clear(reply[22:38]) //
					if reply[38] != byte(rfc2865.State_Type) {
						t.Fatalf("no State behind the Message-Authenticator: % x", reply[38:])
					}
					clear(reply[40 : 38+int(reply[39])])
					return reply
				}
				right, wrong := shape(f.right), shape("wrong")
				if !bytes.Equal(right, wrong) {
					t.Errorf("right: % x\nwrong: % x", right, wrong)
				}
			})
		})
	}
}

func TestChallengeHasAllItNeeds(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{})
		h.Realms = map[string]Realm{"staff": NewRealm(false, Japanese, attributesOf(t, "Filter-Id=secret net"), nil)}
		p := h.typing("", nil).add(rfc2865.ProxyState_Type, []byte("one")).add(rfc2865.ProxyState_Type, []byte("two"))
		got := attributesOfReply(t, h.wantReply(vpn, p.signed(secret), codec.CodeAccessChallenge))
		var types []codec.Type
		for _, avp := range got {
			types = append(types, avp.Type)
		}
		want := []codec.Type{
			rfc2869.MessageAuthenticator_Type, rfc2865.State_Type, rfc2865.ReplyMessage_Type,
			rfc2869.Prompt_Type, rfc2865.SessionTimeout_Type, rfc2865.ProxyState_Type, rfc2865.ProxyState_Type,
		}
		if !slices.Equal(types, want) {
			t.Errorf("attributes %v, want %v", types, want)
		}
		if q := string(got.Get(rfc2865.ReplyMessage_Type)); q != "ワンタイムパスワードを入力してください。" {
			t.Errorf("asked %q", q)
		}
		if n := binary.BigEndian.Uint32(got.Get(rfc2865.SessionTimeout_Type)); n != 60 {
			t.Errorf("%d s to answer, want 60", n)
		}
		if n := binary.BigEndian.Uint32(got.Get(rfc2869.Prompt_Type)); n != 1 { // RFC 2869 §5.10: Echo
			t.Errorf("Prompt %d, want 1", n)
		}
		h.answers(rightCode, got.Get(rfc2865.State_Type), codec.CodeAccessAccept)
		if n := h.Seen().Clients[1].Challenges; n != 1 {
			t.Errorf("%d challenges seen, want 1", n)
		}
	})
}

// With nothing to ask for first, what comes first isn't looked at, and a method
// that can't ask has its code taken at once.
func TestChallengeWithoutFirstFactor(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{})
		for _, first := range []string{"", "anything", rightCode} {
			state := h.asks(first, nil, askCode)
			h.wantCalls(0)
			h.answers(wrongCode, state, codec.CodeAccessReject)
			h.wantCalls(1)
			h.gate.attempts = nil
		}
		h.answers(rightCode, h.asks("", nil, askCode), codec.CodeAccessAccept)
		h.burstOf(vpn, "hanako", "x", try{"CHAP", rightCode}, try{"MS-CHAPv2", rightCode}, try{"CHAP", wrongCode})
		h.wantCalls(4)
		for _, a := range h.gate.attempts {
			if a.FirstFactor != (verifier.FirstFactor{}) {
				t.Errorf("the gate heard of %+v", a.FirstFactor)
			}
		}
	})
}

// Methods that show no text, or can't be asked again, are refused where it takes
// that; nothing is asked of anybody.
func TestMethodThatIsNotPossible(t *testing.T) {
	for _, mode := range []Mode{ModePasswordOTP, ModeChallenge} {
		inBubble(t, func(h *harness) {
			d := &fakeDirectory{}
			c := h.as("vpn", mode, FirstFactor{Directory: d})
			h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 1, "a").user("hanako").chap(rightCode, nil).signed(secret), codec.CodeAccessReject)
			h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 2, "b").user("hanako").msCHAPv2("hanako", rightCode).signed(secret), codec.CodeAccessReject)
			h.wantRefused("vpn", methodNotPossible, 2)
			if log := h.logs.String(); !strings.Contains(log, "by CHAP what was typed doesn't arrive") || !strings.Contains(log, `hanako@staff`) {
				t.Errorf("the log doesn't say what is in the way, and of whom:\n%s", log)
			}
			if n := h.Seen().Clients[1].Refused["method_not_possible"]; n != 2 {
				t.Errorf("%d refusals seen, want 2", n)
			}
			// As EAP-TTLS with PAP within shows it.
			silent := &proof{match: verifier.Typed(rightPassword), typed: rightPassword, isTyped: true}
			at := begin(subject{realm: "staff", user: "hanako"})
			_, err := h.proceed(h.t.Context(), &request{datagram: &datagram{client: c}}, at, silent)
			if (mode == ModeChallenge) != errors.Is(err, methodNotPossible) {
				t.Errorf("mode %d: %v", mode, err)
			}
			if mode == ModeChallenge {
				h.wantCalls(0)
				if d.checked != nil {
					t.Errorf("the directory was asked about %d passwords", len(d.checked))
				}
			}
		})
	}
}

func TestBurstsKnowNothingOfChallenges(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{})
		state := h.asks("", nil, askCode)
		h.burstOf(vpn, "hanako", "", try{"CHAP", wrongCode})
		h.answers(wrongCode, state, codec.CodeAccessReject) // by PAP: would be the next method of a burst
		h.wantCalls(2)
		h.wantRefused("vpn", sameCode, 0)
	})
	inBubble(t, func(h *harness) {
		d := &fakeDirectory{}
		h.as("vpn", ModePasswordOTP, FirstFactor{Directory: d})
		h.types("wrong"+rightCode, nil, codec.CodeAccessReject)
		h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 200, "ms").user("hanako").msCHAPv2("hanako", "wrong"+rightCode).signed(secret), codec.CodeAccessReject)
		h.wantReply(vpn, newPacket(codec.CodeAccessRequest, 201, "chap").user("hanako").chap("wrong"+rightCode, nil).signed(secret), codec.CodeAccessReject)
		h.wantCalls(1)
		if len(d.checked) != 1 {
			t.Errorf("the directory was asked %d times, want once", len(d.checked))
		}
	})
}

func TestNextCode(t *testing.T) {
	for _, mode := range []Mode{ModePasswordOTP, ModeChallenge} {
		inBubble(t, func(h *harness) {
			h.as("vpn", mode, FirstFactor{PIN: true})
			wanted := func() []byte {
				if mode == ModePasswordOTP {
					return h.asks(rightPIN+farCode, nil, askNext)
				}
				return h.asks(farCode, h.asks(rightPIN, nil, askCode), askNext)
			}
			h.answers(rightCode, wanted(), codec.CodeAccessAccept)
			h.wantCalls(2)
			for _, a := range h.gate.attempts {
				if a.FirstFactor != (verifier.FirstFactor{Kind: verifier.FactorPIN, Verdict: verifier.FactorRight, PIN: rightMark}) {
					t.Errorf("the gate heard of %+v", a.FirstFactor)
				}
			}
			h.answers(wrongCode, wanted(), codec.CodeAccessReject)
			h.answers(farCode, wanted(), codec.CodeAccessReject) // once
			// Whoever hasn't the first factor learns nothing of a code.
			if mode == ModePasswordOTP {
				h.types("0000"+farCode, nil, codec.CodeAccessReject)
			} else {
				h.answers(farCode, h.asks("0000", nil, askCode), codec.CodeAccessReject)
			}
		})
	}
	inBubble(t, func(h *harness) { // with the code alone, it would tell a guesser
		h.types(farCode, nil, codec.CodeAccessReject)
		h.as("vpn", ModeChallenge, FirstFactor{})
		h.answers(farCode, h.asks("", nil, askCode), codec.CodeAccessReject)
		h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
		h.gate.pin = "" // and anything is right
		h.answers(farCode, h.asks("anything", nil, askCode), codec.CodeAccessReject)
	})
}

func TestNewPIN(t *testing.T) {
	const again = "Enter the same PIN once more."
	const first = "Choose a PIN of 4 to 12 digits, and enter it."
	const differs = "The two PINs are not the same. Choose a PIN of 4 to 12 digits, and enter it."
	const notAllowed = "This PIN is too easy to guess, or has not 4 to 12 digits. Choose another one, and enter it."
	for name, begins := range map[string]func(*harness) []byte{
		"password+otp": func(h *harness) []byte {
			h.as("vpn", ModePasswordOTP, FirstFactor{PIN: true})
			h.types("4711"+rightCode, nil, codec.CodeAccessReject) // there is no PIN that it could be
			h.gate.attempts = nil
			return h.asks(rightCode, nil, first)
		},
		"challenge": func(h *harness) []byte {
			h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
			return h.asks(rightCode, h.asks("anything", nil, askCode), first)
		},
	} {
		for dialogue, test := range map[string]struct {
			typed  []string
			asked  []string
			want   codec.Code
			chosen string
		}{
			"well":          {[]string{"8093", "8093"}, []string{again}, codec.CodeAccessAccept, "8093"},
			"full-width":    {[]string{"\uff18\uff10\uff19\uff13", "8093"}, []string{again}, codec.CodeAccessAccept, "8093"},
			"second go":     {[]string{"8093", "8094", "8093", "8093"}, []string{again, differs, again}, codec.CodeAccessAccept, "8093"},
			"not allowed":   {[]string{"80", "abcd", "8093", "8093"}, []string{notAllowed, notAllowed, again}, codec.CodeAccessAccept, "8093"},
			"differ thrice": {[]string{"8093", "1", "8093", "2", "8093", "3"}, []string{again, differs, again, differs, again}, codec.CodeAccessReject, ""},
			"never allowed": {[]string{"1", "1111", "1234"}, []string{notAllowed, notAllowed}, codec.CodeAccessReject, ""},
			"empty":         {[]string{"", "8093", ""}, []string{notAllowed, again, differs}, 0, ""},
		} {
			t.Run(name+"/"+dialogue, func(t *testing.T) {
				inBubble(t, func(h *harness) {
					h.gate.pin = ""
					state := begins(h)
					for i, question := range test.asked {
						state = h.asks(test.typed[i], state, question)
					}
					if test.want != 0 {
						h.answers(test.typed[len(test.typed)-1], state, test.want)
					}
					h.wantCalls(1) // one code
					if h.gate.pin != test.chosen {
						t.Errorf("the PIN is %q, want %q", h.gate.pin, test.chosen)
					}
					if test.want == codec.CodeAccessReject {
						h.wantRefused("vpn", pinNotChosen, 1)
					}
				})
			})
		}
	}
}

// What has no way to ask lets nobody in without a PIN.
func TestNewPINNeedsAsking(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.gate.pin = ""
		c := h.as("vpn", ModePasswordOTP, FirstFactor{PIN: true})
		silent := &proof{match: verifier.Typed(rightCode), typed: rightCode, isTyped: true}
		v, err := h.proceed(h.t.Context(), &request{datagram: &datagram{client: c}}, begin(subject{realm: "staff", user: "hanako"}), silent)
		if v.kind != rejected || !errors.Is(err, pinNotChosen) {
			t.Errorf("%+v, %v", v, err)
		}
	})
}

func TestPINIsNoSecretToTell(t *testing.T) {
	at := &progress{pin: Secret(rightPIN)}
	if s := fmt.Sprintf("%v %+v %#v", at, at, at); strings.Contains(s, rightPIN) {
		t.Errorf("printed: %s", s)
	}
}

// A challenge passed through, twice, with what each party has to be told.
func TestUpstreamAsksBack(t *testing.T) {
	for _, mode := range []Mode{ModePasswordOTP, ModeChallenge} {
		inBubble(t, func(h *harness) {
			u := &fakeUpstream{answer: func(q upstream.Question) (upstream.Answer, error) {
				switch {
				case q.State == nil && q.Password == rightPassword:
					return upstream.Answer{Kind: upstream.Challenge, Message: "Token code?", Echo: true, State: []byte("s1")}, nil
				case string(q.State) == "s1" && q.Password == "one":
					return upstream.Answer{Kind: upstream.Challenge, Message: "And\x07 the next", State: bytes.Repeat([]byte("s"), 100)}, nil
				case len(q.State) == 100 && q.Password == "two":
					return upstream.Answer{Kind: upstream.Accept, Class: [][]byte{[]byte("c1"), []byte("c2")}}, nil
				}
				return upstream.Answer{}, nil
			}}
			h.as("vpn", mode, FirstFactor{Upstream: u})
			typed := rightPassword
			if mode == ModePasswordOTP {
				typed += wrongCode // is asked for anew
			}
			state := h.asks(typed, nil, "Token code?")
			state = h.asks("one", state, "And the next")
			if got := u.questions[1]; got.User != "hanako" || string(got.State) != "s1" {
				t.Errorf("asked %v about State %q", got, got.State)
			}
			wrong := h.asks("neither", state, askCode)
			h.wantRefused("vpn", stateReplayed, 0)
			h.answers(rightCode, wrong, codec.CodeAccessReject)
			h.types("two", state, codec.CodeAccessReject) // that State was answered
			h.wantRefused("vpn", stateReplayed, 1)

			state = h.asks("two", h.asks("one", h.asks(typed, nil, "Token code?"), "And the next"), askCode)
			h.wantCalls(1)
			h.answers(rightCode, state, codec.CodeAccessAccept)
		})
	}
}

// What a State can't hold is refused before anybody is asked.
func TestStateOfTheOtherServerIsTooLong(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{Upstream: &fakeUpstream{answer: func(upstream.Question) (upstream.Answer, error) {
			return upstream.Answer{Kind: upstream.Challenge, Message: "?", State: make([]byte, 254)}, nil
		}}})
		h.types("x", nil, codec.CodeAccessReject)
		h.wantRefused("vpn", upstreamTooLong, 1)
		h.wantCalls(0)
	})
}

func TestMigrating(t *testing.T) {
	for _, mode := range []Mode{ModeOTP, ModePasswordOTP, ModeChallenge} {
		t.Run(fmt.Sprint("mode ", mode), func(t *testing.T) {
			inBubble(t, func(h *harness) {
				u := &fakeUpstream{}
				h.as("vpn", mode, FirstFactor{Upstream: u, Migrating: true})
				h.gate.moved = false
				got := h.types(rightPassword, nil, codec.CodeAccessAccept)
				if string(got.Get(rfc2865.Class_Type)) != "class of the other" {
					t.Errorf("Class %q", got.Get(rfc2865.Class_Type))
				}
				if f := h.gate.attempts[0].FirstFactor; !f.Vouches || f.Verdict != verifier.FactorRight || h.gate.attempts[0].Match(rightCode) {
					t.Errorf("the gate heard of %+v", f)
				}
				if mode == ModeChallenge { // as with those who have a token
					h.answers(rightCode, h.asks("wrong", nil, askCode), codec.CodeAccessReject)
				} else {
					h.types("wrong", nil, codec.CodeAccessReject)
				}
				if f := h.gate.attempts[1].FirstFactor; f.Vouches || f.Verdict != verifier.FactorWrong {
					t.Errorf("the gate heard of %+v", f)
				}
				asked := len(u.questions)
				time.Sleep(passwordBurst * passwordEvery)
				h.gate.moved = true
				if mode == ModeChallenge {
					h.asks(rightPassword, nil, askCode) // its code is wanted too
				} else {
					h.types(rightPassword, nil, codec.CodeAccessReject)
				}
				for _, a := range h.gate.attempts[2:] {
					if a.FirstFactor.Vouches {
						t.Errorf("the gate heard of %+v", a.FirstFactor)
					}
				}
				if mode == ModeOTP && len(u.questions) != asked {
					t.Error("the other server was asked about a code")
				}
			})
		})
	}
	inBubble(t, func(h *harness) { // the other server asks, and the gate changes its mind meanwhile
		u := &fakeUpstream{answer: func(q upstream.Question) (upstream.Answer, error) {
			if q.State == nil {
				return upstream.Answer{Kind: upstream.Challenge, Message: "?", State: []byte("s")}, nil
			}
			return upstream.Answer{Kind: upstream.Accept}, nil
		}}
		h.as("vpn", ModeOTP, FirstFactor{Upstream: u, Migrating: true})
		h.gate.moved = false
		h.answers("x", h.asks("first", nil, "?"), codec.CodeAccessAccept)
		state := h.asks("first", nil, "?")
		h.gate.moved = true
		h.answers("x", state, codec.CodeAccessReject)
	})
}

// Nobody can say: then nobody is answered, and gear turns elsewhere; nothing is
// counted, and the same may be typed again.
func TestFirstFactorUnavailable(t *testing.T) {
	inBubble(t, func(h *harness) {
		d := &fakeDirectory{err: errDown}
		h.as("vpn", ModePasswordOTP, FirstFactor{Directory: d})
		h.wantDrop(vpn, h.typing(rightPassword+rightCode, nil).signed(secret), "vpn", firstFactorUnavailable)
		h.wantCalls(0)
		if !strings.Contains(h.logs.String(), errDown.Error()) {
			t.Errorf("the log doesn't say why:\n%s", h.logs)
		}
		d.err = nil
		h.types(rightPassword+rightCode, nil, codec.CodeAccessAccept)
	})
	inBubble(t, func(h *harness) { // for the groups, at the step of the code
		d := &fakeDirectory{}
		h.as("vpn", ModeChallenge, FirstFactor{Directory: d})
		state := h.asks(rightPassword, nil, askCode)
		d.err = errDown
		h.wantDrop(vpn, h.typing(rightCode, state).signed(secret), "vpn", firstFactorUnavailable)
		h.wantCalls(0)
		d.err = nil
		h.answers(rightCode, state, codec.CodeAccessAccept)
	})
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{Upstream: &fakeUpstream{
			answer: func(upstream.Question) (upstream.Answer, error) { return upstream.Answer{}, errDown },
		}})
		h.wantDrop(vpn, h.typing("x", nil).signed(secret), "vpn", firstFactorUnavailable)
		h.wantCalls(0)
	})
}

// A directory that hangs takes no more than its share of the workers.
func TestHangingDirectoryLeavesRoom(t *testing.T) {
	inBubble(t, func(h *harness) {
		d := &fakeDirectory{block: make(chan struct{})}
		h.as("legacy", ModeChallenge, FirstFactor{Directory: d})
		for i := range maxClientWaiting + 3 {
			p := newPacket(codec.CodeAccessRequest, byte(i), fmt.Sprint(i)).user(fmt.Sprint("user", i)).password("x", secret)
			h.conn.in <- sent{netip.AddrPortFrom(legacy.Addr(), uint16(1000+i)), p.b}
		}
		synctest.Wait()
		if n := h.drops("legacy", firstFactorUnavailable); n != 3 {
			t.Errorf("%v dropped, want 3", n)
		}
		h.wantReply(vpn, login(1, "a", rightCode), codec.CodeAccessAccept)
		close(d.block)
		synctest.Wait()
		if n := len(h.conn.take()); n != maxClientWaiting {
			t.Errorf("%d answered, want %d", n, maxClientWaiting)
		}
	})
}

func TestGroupsOfTheDirectory(t *testing.T) {
	inBubble(t, func(h *harness) {
		d := &fakeDirectory{groups: []string{"all", "admins", "all"}}
		h.as("vpn", ModeChallenge, FirstFactor{Directory: d})
		h.Realms = map[string]Realm{"staff": NewRealm(false, English, attributesOf(t, "Filter-Id={group}"), map[string]dictionary.Set{
			"admins": attributesOf(t, "Class=admins"), "all": attributesOf(t, "Class=all"), "record": attributesOf(t, "Class=record"),
		})}
		accept := func(record ...string) []string {
			h.member(record...)
			state := h.asks(rightPassword, nil, askCode)
			return carried(t, h.wantReply(vpn, h.typing(rightCode, state).signed(secret), codec.CodeAccessAccept))
		}
		if got, want := accept("record", "admins"), []string{"25=record", "11=record", "11=admins", "11=all"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		if got, want := accept(), []string{"25=all", "11=all", "11=admins"}; !slices.Equal(got, want) {
			t.Errorf("%q, want %q", got, want)
		}
		// For the wrong password too: the time must not tell.
		fetched := len(d.fetched)
		h.answers(rightCode, h.asks("wrong", nil, askCode), codec.CodeAccessReject)
		if len(d.fetched) != fetched+1 || d.fetched[fetched] != "hanako" {
			t.Errorf("groups fetched for %q", d.fetched[fetched:])
		}
	})
}

// However many groups a directory has, an answer holds them, and those that
// matter come first.
func TestGroupsAreBounded(t *testing.T) {
	r := NewRealm(false, English, nil, map[string]dictionary.Set{"vpn": attributesOf(t, "Class=vpn")})
	var many []string
	for i := range 100 {
		many = append(many, fmt.Sprintf("group %02d", i))
	}
	joined := r.join([]string{"record"}, append(many, "with,comma", strings.Repeat("x", 65), "bell\x07", "", "vpn"))
	if len(joined) != verifier.MaxGroups || !slices.Equal(joined[:3], []string{"record", "vpn", "group 00"}) {
		t.Errorf("%q", joined)
	}
	var long []string
	for i := range 10 {
		long = append(long, strings.Repeat(string(rune('a'+i)), 60))
	}
	joined = r.join(nil, append(long, "short"))
	if n := len(strings.Join(joined, ",")); n > verifier.MaxGroupsBytes || len(joined) != 4 || joined[3] != "short" {
		t.Errorf("%d octets: %q", n, joined)
	}
}

// An answer that may not fit is refused before anything is used up, at each step.
func TestDialogueThatDoesNotFit(t *testing.T) {
	inBubble(t, func(h *harness) {
		u := &fakeUpstream{}
		h.as("vpn", ModeChallenge, FirstFactor{Upstream: u})
		full := func(p *packet, proxies int) []byte {
			for range proxies {
				p.add(rfc2865.ProxyState_Type, bytes.Repeat([]byte("p"), 253))
			}
			return p.signed(secret)
		}
		got := attributesOfReply(t, h.wantReply(vpn, full(h.typing(rightPassword, nil), 11), codec.CodeAccessChallenge))
		state := got.Get(rfc2865.State_Type)
		if !isText(state) { // gear that takes it for a string would cut it
			t.Errorf("State: %q", state)
		}
		h.wantReply(vpn, full(h.typing(rightPassword, nil), 12), codec.CodeAccessReject)
		h.wantRefused("vpn", noRoom, 1)
		if len(u.questions) != 1 {
			t.Errorf("the other server was asked %d times, want once", len(u.questions))
		}
		h.wantReply(vpn, full(h.typing(rightCode, state), 12), codec.CodeAccessReject)
		h.wantCalls(0)
		h.wantReply(vpn, full(h.typing(rightCode, state), 10), codec.CodeAccessAccept)
	})
}

// What another server's Class may take counts, before that is known.
func TestPassedThroughHasRoom(t *testing.T) {
	inBubble(t, func(h *harness) {
		reply := attributesOf(t, "Filter-Id="+strings.Repeat("x", 253), "Reply-Message="+strings.Repeat("x", 253), "Framed-Pool="+strings.Repeat("x", 253))
		h.answering(reply, Realm{})
		class := bytes.Repeat([]byte("c"), maxText)
		h.as("vpn", ModeOTP, FirstFactor{Upstream: accepting(class, class), Migrating: true})
		h.gate.moved = false
		for proxies, want := range map[int]codec.Code{10: codec.CodeAccessAccept, 11: codec.CodeAccessReject} {
			p := h.typing("x", nil)
			for range proxies {
				p.add(rfc2865.ProxyState_Type, bytes.Repeat([]byte("p"), 253))
			}
			h.wantReply(vpn, p.signed(secret), want)
		}
		h.wantCalls(1)
		h.wantRefused("vpn", noRoom, 1)
	})
}

// accepting is another server that accepts whatever is typed.
func accepting(classes ...[]byte) *fakeUpstream {
	return &fakeUpstream{answer: func(q upstream.Question) (upstream.Answer, error) {
		if q.Password == "wrong" {
			return upstream.Answer{}, nil
		}
		return upstream.Answer{Kind: upstream.Accept, Class: classes}, nil
	}}
}

// Another server's Class is for those whom it lets in; it takes nothing from what
// gateway.yaml says, keeps nobody out, and tells nothing of a password.
func TestClassOfTheOtherServer(t *testing.T) {
	classes := func(attributes codec.Attributes) (found []string) {
		for _, avp := range attributes {
			if avp.Type == rfc2865.Class_Type {
				found = append(found, string(avp.Attribute))
			}
		}
		return found
	}
	one, long := []byte("one"), bytes.Repeat([]byte("l"), maxText)
	inBubble(t, func(h *harness) {
		c := h.as("vpn", ModeOTP, FirstFactor{Upstream: accepting(one, long, long, one), Migrating: true})
		h.gate.moved = false
		for range 2 {
			if got := classes(h.types("x", nil, codec.CodeAccessAccept)); !slices.Equal(got, []string{"one", string(long)}) {
				t.Errorf("%d are passed on: %q", len(got), got)
			}
		}
		if n := strings.Count(h.logs.String(), "too long to be passed on"); n != 1 {
			t.Errorf("logged %d times, want once", n)
		}
		c.Reply = attributesOf(t, "Class=ours")
		if got := classes(h.types("x", nil, codec.CodeAccessAccept)); !slices.Equal(got, []string{"ours"}) {
			t.Errorf("%q are passed on", got)
		}
	})
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{Upstream: accepting(long, long, long)})
		h.answers(rightCode, h.asks("wrong", nil, askCode), codec.CodeAccessReject)
		if got := classes(h.types(rightCode, h.asks("right", nil, askCode), codec.CodeAccessAccept)); got != nil {
			t.Errorf("%q are passed on with a code of ours", got)
		}
	})
}

// Whoever guesses passwords, and never goes on to the code, is seen.
func TestFirstStepIsNoted(t *testing.T) {
	for kind, f := range factors() {
		inBubble(t, func(h *harness) {
			h.as("vpn", ModeChallenge, f.factor)
			right := h.asks(f.right, nil, askCode)
			h.asks("wrong", nil, askCode)
			if len(h.gate.noted) != 2 || h.gate.noted[0].FirstFactor.Verdict != verifier.FactorRight || h.gate.noted[1].FirstFactor.Verdict != verifier.FactorWrong {
				t.Errorf("%s: noted %+v", kind, h.gate.noted)
			}
			if a := h.gate.noted[1]; a.User != "hanako" || a.Client != "vpn" || a.FirstFactor.Kind != f.kind || a.FactorNoted {
				t.Errorf("%s: noted %+v", kind, a)
			}
			h.answers(rightCode, right, codec.CodeAccessAccept)
			if !h.gate.attempts[0].FactorNoted || len(h.gate.noted) != 2 {
				t.Errorf("%s: the gate doesn't hear that it was noted, or does twice", kind)
			}
			h.gate.noteErr = errGate
			for _, typed := range []string{f.right, "wrong"} {
				h.wantDrop(vpn, h.typing(typed, nil).signed(secret), "vpn", noDecision)
			}
			h.as("vpn", ModePasswordOTP, f.factor) // where the gate hears of both at once
			time.Sleep(passwordEvery)
			h.types("wrong"+rightCode, nil, codec.CodeAccessReject)
			if h.gate.attempts[1].FactorNoted {
				t.Errorf("%s: counted nowhere", kind)
			}
		})
	}
}

// People type with Japanese keyboards, and the code may stand first.
func TestPasswordAndCodeInOneField(t *testing.T) {
	const wide = "\uff11\uff12\uff13\uff14\uff15\uff16" // rightCode
	for typed, test := range map[string]struct {
		first bool
		asked []string // passwords, of the directory
		want  codec.Code
	}{
		rightPassword + rightCode: {false, []string{rightPassword}, codec.CodeAccessAccept},
		rightPassword + wide:      {false, []string{rightPassword}, codec.CodeAccessAccept},
		rightCode + rightPassword: {true, []string{rightPassword}, codec.CodeAccessAccept},
		wide + rightPassword:      {true, []string{rightPassword}, codec.CodeAccessAccept},
		// The wrong order, a password or a code alone, half a code, and none.
		wide + "secret":          {false, nil, codec.CodeAccessReject},
		"secret" + rightCode:     {true, nil, codec.CodeAccessReject},
		"secret":                 {false, nil, codec.CodeAccessReject},
		rightCode:                {false, nil, codec.CodeAccessReject},
		rightCode[:5]:            {true, nil, codec.CodeAccessReject},
		rightPassword + "x12345": {false, nil, codec.CodeAccessReject},
	} {
		inBubble(t, func(h *harness) {
			d := &fakeDirectory{}
			h.as("vpn", ModePasswordOTP, FirstFactor{Directory: d}).CodeFirst = test.first
			h.types(typed, nil, test.want)
			h.wantFactor(verifier.FactorLDAP, test.want == codec.CodeAccessAccept, true)
			if !slices.Equal(d.checked, test.asked) {
				t.Errorf("%q: the directory was asked about %q, want %q", typed, d.checked, test.asked)
			}
		})
	}
	inBubble(t, func(h *harness) { // as many digits as the user's token has
		h.gate.digits = 8
		d := &fakeDirectory{}
		h.as("vpn", ModePasswordOTP, FirstFactor{Directory: d})
		h.types(rightPassword+"78"+rightCode, nil, codec.CodeAccessReject)
		if !slices.Equal(d.checked, []string{rightPassword}) {
			t.Errorf("the directory was asked about %q", d.checked)
		}
		h.types("", nil, codec.CodeAccessReject)
		h.wantRefused("vpn", emptyPassword, 1)
	})
}

func TestLatin1Client(t *testing.T) {
	inBubble(t, func(h *harness) {
		const password = "Käse2026"
		u := &fakeUpstream{answer: func(q upstream.Question) (upstream.Answer, error) {
			if q.Password == password {
				return upstream.Answer{Kind: upstream.Challenge, Message: "Schlüssel 大?", State: []byte("s")}, nil
			}
			return upstream.Answer{}, nil
		}}
		c := h.as("vpn", ModeChallenge, FirstFactor{Upstream: u})
		c.Latin1 = true
		h.Realms = map[string]Realm{"staff": NewRealm(false, Japanese, nil, nil)}
		state := h.asks("K\xe4se2026", nil, "Schl\xfcssel ??")
		h.asks("x", state, askCode) // which has no Japanese

		// Without a Message-Authenticator, the password has to be text of that charset.
		h.as("legacy", ModeChallenge, FirstFactor{Upstream: u}).Latin1 = true
		request := func(id byte, password string) []byte {
			return newPacket(codec.CodeAccessRequest, id, password).user("hanako").password(password, secret).b
		}
		h.wantReply(legacy, request(201, "K\xe4se2026"), codec.CodeAccessChallenge)
		h.wantDrop(legacy, request(202, "K\x84se2026"), "legacy", passwordGarbled)
	})
}

func TestChallengeOverRADIUS11(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		for c := range h.Clients.all {
			c.Mode, c.FirstFactor = ModeChallenge, FirstFactor{PIN: true}
		}
		conn := h.dial11()
		ask := func(token uint32, typed string) *packet {
			return v11(codec.CodeAccessRequest, token).user("hanako").add(rfc2865.UserPassword_Type, []byte(typed))
		}
		for i, pin := range []string{rightPIN, "0000"} {
			got := ask11(t, conn, ask(uint32(2*i+1), pin), codec.CodeAccessChallenge)
			want := codec.CodeAccessReject
			if pin == rightPIN {
				want = codec.CodeAccessAccept
			}
			ask11(t, conn, ask(uint32(2*i+2), rightCode).add(rfc2865.State_Type, got.Get(rfc2865.State_Type)), want)
		}
	})
}

// Who speaks RADIUS/1.1 is told to ask elsewhere.
func TestFirstFactorUnavailableOverRADIUS11(t *testing.T) {
	overTLSInBubble(t, func(h *tlsHarness) {
		for c := range h.Clients.all {
			c.Mode, c.FirstFactor = ModeChallenge, FirstFactor{Directory: &fakeDirectory{err: errDown}}
		}
		ask11(t, h.dial11(), v11(codec.CodeAccessRequest, 1).user("hanako").add(rfc2865.UserPassword_Type, []byte("x")), codeProtocolError)
		h.wantCalls(0)
	})
}

func TestModeAndFirstFactorFit(t *testing.T) {
	d, u := &fakeDirectory{}, &fakeUpstream{}
	for _, test := range []struct {
		mode Mode
		f    FirstFactor
		ok   bool
	}{
		{ModeOTP, FirstFactor{}, true},
		{ModeOTP, FirstFactor{Upstream: u, Migrating: true}, true},
		{ModeOTP, FirstFactor{Upstream: u}, false},
		{ModeOTP, FirstFactor{PIN: true}, false},
		{ModePasswordOTP, FirstFactor{}, false},
		{ModePasswordOTP, FirstFactor{Directory: d}, true},
		{ModeChallenge, FirstFactor{}, true},
		{ModeChallenge, FirstFactor{PIN: true, Directory: d}, false},
		{ModeChallenge, FirstFactor{Directory: d, Migrating: true}, false},
	} {
		_, err := NewClients([]Client{{
			Name: "vpn", Prefix: netip.MustParsePrefix("192.0.2.0/24"), Secret: Secret(secret), Realm: "staff", Mode: test.mode, FirstFactor: test.f,
		}})
		if (err == nil) != test.ok {
			t.Errorf("mode %d with %+v: %v", test.mode, test.f, err)
		}
	}
}

// A person who takes a minute for each step is asked anew each time.
func TestEachStepHasItsTime(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.as("vpn", ModeChallenge, FirstFactor{PIN: true})
		state := h.asks(rightPIN, nil, askCode)
		time.Sleep(stateHold - time.Millisecond)
		state = h.asks(farCode, state, askNext)
		time.Sleep(stateHold - time.Millisecond)
		h.answers(rightCode, state, codec.CodeAccessAccept)
	})
}
