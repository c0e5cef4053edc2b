package upstream

import (
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/md5"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/prometheus/client_golang/prometheus/testutil"
	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

const password = "horse battery 9"

var hanako = Question{User: "hanako", Password: password, NASIdentifier: "vpn-1", CallingStationID: "203.0.113.9"}

// always answers each request with the code.
func always(code codec.Code, attributes ...attribute) func([]byte, func([]byte)) {
	return func(request []byte, reply func([]byte)) { reply(signed(code, request, attributes...)) }
}

func silent([]byte, func([]byte)) {}

// after is a server that takes its time.
func after(d time.Duration, serve func([]byte, func([]byte))) func([]byte, func([]byte)) {
	return func(request []byte, reply func([]byte)) {
		time.Sleep(d)
		serve(request, reply)
	}
}

// What a server gets is read here with the codec's own code.
func TestRequest(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = always(codec.CodeAccessReject)
		c := newClient(t, n, first)
		for _, q := range []Question{hanako, {User: "Tarō", State: routed(0, []byte("a state"))}, hanako} {
			if _, err := c.Ask(t.Context(), q); err != nil {
				t.Fatal(err)
			}
		}
		got := n.take()
		if len(got) != 3 {
			t.Fatalf("%d requests, want 3", len(got))
		}
		if bytes.Equal(got[0].b[4:20], got[2].b[4:20]) {
			t.Error("two requests have one authenticator")
		}
		for i, want := range []map[codec.Type]string{
			{rfc2865.UserName_Type: "hanako", rfc2865.NASIdentifier_Type: "vpn-1", rfc2865.CallingStationID_Type: "203.0.113.9"},
			{rfc2865.UserName_Type: "Tarō", rfc2865.NASIdentifier_Type: "otpgate", rfc2865.State_Type: "a state"},
		} {
			b := got[i].b
			packet, err := codec.Parse(b, []byte(secret))
			if err != nil || packet.Code != codec.CodeAccessRequest {
				t.Fatalf("no Access-Request: %v", err)
			}
			if p := packet.Attributes[0]; p.Type != rfc2869.MessageAuthenticator_Type || len(packet.Attributes) != len(want)+2 {
				t.Errorf("attributes %v", packet.Attributes)
			}
			mac := hmac.New(md5.New, []byte(secret))
			mac.Write(append(append(bytes.Clone(b[:22]), make([]byte, 16)...), b[38:]...))
			if !hmac.Equal(mac.Sum(nil), b[22:38]) {
				t.Error("the Message-Authenticator is wrong")
			}
			for kind, value := range want {
				if s := string(packet.Get(kind)); s != value {
					t.Errorf("attribute %d is %q, want %q", kind, s, value)
				}
			}
			if s := rfc2865.UserPassword_GetString(packet); i == 0 && s != password {
				t.Errorf("password %q", s)
			}
		}
	})
}

func TestAnswers(t *testing.T) {
	for name, test := range map[string]struct {
		code       codec.Code
		attributes []attribute
		want       Answer
	}{
		"accept": {codec.CodeAccessAccept, nil, Answer{Kind: Accept}},
		"reject": {codec.CodeAccessReject, []attribute{message("no"), {rfc2865.Class_Type, "x"}}, Answer{}},
		"classes": {
			codec.CodeAccessAccept, slices.Repeat([]attribute{{rfc2865.Class_Type, "staff"}}, maxClasses+1),
			Answer{Kind: Accept, Class: slices.Repeat([][]byte{[]byte("staff")}, maxClasses)},
		},
		"challenge": {
			codec.CodeAccessChallenge,
			[]attribute{message("Enter your"), message("token\ncode:\u202e\x1b[31m "), state("s"), {rfc2869.Prompt_Type, "\x00\x00\x00\x01"}},
			Answer{Kind: Challenge, Message: "Enter your token code: [31m", Echo: true, State: []byte("\x00s")},
		},
		"a challenge of nothing": {codec.CodeAccessChallenge, []attribute{{rfc2869.Prompt_Type, "\x00\x00\x00\x00"}}, Answer{Kind: Challenge, State: []byte("\x00")}},
		"a long challenge": {
			codec.CodeAccessChallenge,
			slices.Repeat([]attribute{message(strings.Repeat("あ", 84)), message("!")}, 3),
			Answer{Kind: Challenge, Message: strings.Repeat("あ", 84) + " ! " + strings.Repeat("あ", 83), State: []byte("\x00")},
		},
		"a challenge in no charset": {codec.CodeAccessChallenge, []attribute{message("\x83R\x81[\x83h")}, Answer{Kind: Challenge, Message: "R [ h", State: []byte("\x00")}},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.servers[first.String()] = always(test.code, test.attributes...)
				c := newClient(t, n, first)
				a, err := c.Ask(t.Context(), hanako)
				if err != nil {
					t.Fatal(err)
				}
				if len(a.Message) > MaxMessage {
					t.Errorf("a message of %d octets", len(a.Message))
				}
				if fmt.Sprintf("%#v", a) != fmt.Sprintf("%#v", test.want) {
					t.Errorf("%#v, want %#v", a, test.want)
				}
				if got := testutil.ToFloat64(c.Metrics.answers.WithLabelValues("old", test.want.Kind.String())); got != 1 {
					t.Errorf("counted %v times", got)
				}
			})
		})
	}
}

// What is no good reply is dropped and counted, and the good one that comes after
// it is heard. Each would be an Accept.
func TestHostileReplies(t *testing.T) {
	const accept = codec.CodeAccessAccept
	altered := func(request []byte, how func(b []byte) []byte) []byte { return how(signed(accept, request)) }
	for name, test := range map[string]struct {
		reply func(request []byte) []byte
		why   reason
	}{
		"another secret":     {func(r []byte) []byte { return respond(accept, r, "a guess", unsigned) }, authenticatorWrong},
		"another identifier": {func(r []byte) []byte { return altered(r, func(b []byte) []byte { b[1]++; return b }) }, identifierOther},
		"of another request": {func(r []byte) []byte {
			other := bytes.Clone(r)
			other[4]++
			return signed(accept, other)
		}, authenticatorWrong},
		"a Reject made an Accept": {func(r []byte) []byte {
			b := signed(codec.CodeAccessReject, r)
			b[0] = byte(accept)
			return b
		}, authenticatorWrong},
		"a collision": {func(r []byte) []byte { // a right Response Authenticator, by BlastRADIUS
			return respond(accept, r, secret, attribute{rfc2869.MessageAuthenticator_Type, strings.Repeat("x", 16)})
		}, messageAuthenticatorWrong},
		"no Message-Authenticator":    {func(r []byte) []byte { return respond(accept, r, secret) }, authenticatorMissing},
		"two of them":                 {func(r []byte) []byte { return respond(accept, r, secret, unsigned, unsigned) }, malformed},
		"a short one":                 {func(r []byte) []byte { return respond(accept, r, secret, attribute{80, "short"}) }, malformed},
		"Proxy-State":                 {func(r []byte) []byte { return signed(accept, r, attribute{rfc2865.ProxyState_Type, "x"}) }, proxyStateUnasked},
		"nothing":                     {func([]byte) []byte { return nil }, malformed},
		"a header cut off":            {func(r []byte) []byte { return altered(r, func(b []byte) []byte { return b[:19] }) }, malformed},
		"an end cut off":              {func(r []byte) []byte { return altered(r, func(b []byte) []byte { return b[:len(b)-1] }) }, malformed},
		"a length below the shortest": {func(r []byte) []byte { return altered(r, func(b []byte) []byte { b[2], b[3] = 0, 19; return b }) }, malformed},
		"an attribute's length of 0":  {func(r []byte) []byte { return altered(r, func(b []byte) []byte { b[21] = 0; return b }) }, malformed},
		"an attribute beyond the end": {func(r []byte) []byte { return altered(r, func(b []byte) []byte { b[21]++; return b }) }, malformed},
		"more attributes than we look at": {func(r []byte) []byte {
			return signed(accept, r, slices.Repeat([]attribute{{25, "x"}}, maxAttributes)...)
		}, malformed},
		"a request":                   {func(r []byte) []byte { return signed(codec.CodeAccessRequest, r) }, unexpectedCode},
		"a challenge with two States": {func(r []byte) []byte { return signed(codec.CodeAccessChallenge, r, state("a"), state("b")) }, malformed},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.servers[first.String()] = func(request []byte, reply func([]byte)) {
					reply(test.reply(request))
					time.Sleep(resendAfter / 2)
					reply(signed(codec.CodeAccessReject, request))
				}
				c := newClient(t, n, first)
				a, err := c.Ask(t.Context(), hanako)
				if err != nil || a.Kind != Reject {
					t.Errorf("%v, %v; want the reject that came after it", a.Kind, err)
				}
				if got := c.drops(test.why); got != 1 {
					t.Errorf("%d dropped as %s, want 1", got, test.why)
				}

				n.servers[first.String()] = func(request []byte, reply func([]byte)) { reply(test.reply(request)) }
				if _, err := c.Ask(t.Context(), hanako); !errors.Is(err, errNoAnswer) || !strings.Contains(err.Error(), test.why.Error()) {
					t.Errorf("alone: %v, want no answer, and why", err)
				}
			})
		})
	}
}

// A server that sends no Message-Authenticator is heard where that is allowed, and
// no more than that.
func TestOldServer(t *testing.T) {
	for name, test := range map[string]struct {
		attributes []attribute
		want       Kind
		err        error
	}{
		"without":            {nil, Accept, nil},
		"with a right one":   {[]attribute{unsigned}, Accept, nil},
		"with a wrong one":   {[]attribute{{80, strings.Repeat("x", 16)}}, Reject, errNoAnswer},
		"with a Proxy-State": {[]attribute{{rfc2865.ProxyState_Type, "collision"}}, Reject, errNoAnswer},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNetwork(t)
				n.servers[first.String()] = func(request []byte, reply func([]byte)) {
					reply(respond(codec.CodeAccessAccept, request, secret, test.attributes...))
				}
				c := newClient(t, n, first)
				c.RequireMessageAuthenticator = false
				if a, err := c.Ask(t.Context(), hanako); a.Kind != test.want || !errors.Is(err, test.err) {
					t.Errorf("%v, %v", a.Kind, err)
				}
			})
		})
	}
}

func TestResends(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = silent
		c := newClient(t, n, first)
		if _, err := c.Ask(t.Context(), hanako); !errors.Is(err, errNoAnswer) {
			t.Errorf("%v, want no answer", err)
		}
		if took := time.Since(n.start); took != timeout {
			t.Errorf("it took %s, want %s", took, timeout)
		}
		got := n.take()
		for i, r := range got {
			if !bytes.Equal(r.b, got[0].b) || r.at != time.Duration(i)*resendAfter {
				t.Errorf("datagram %d at %s, the same: %v", i, r.at, bytes.Equal(r.b, got[0].b))
			}
		}
		if len(got) != 3 {
			t.Errorf("%d datagrams, want 3", len(got))
		}
		if n := testutil.ToFloat64(c.Metrics.unanswered.WithLabelValues("old")); n != 1 {
			t.Errorf("%v counted as unanswered", n)
		}
	})
}

// What comes after the time-out is heard by nobody, not by the next question either.
func TestLateReply(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = after(timeout+time.Millisecond, always(codec.CodeAccessAccept))
		c := newClient(t, n, first)
		_, err := c.Ask(t.Context(), hanako)
		if !errors.Is(err, errNoAnswer) {
			t.Errorf("%v, want no answer", err)
		}
		n.servers[first.String()] = after(time.Second, always(codec.CodeAccessReject))
		if a, err := c.Ask(t.Context(), hanako); err != nil || a.Kind != Reject {
			t.Errorf("the next: %v, %v", a.Kind, err)
		}
	})
}

func TestNextServer(t *testing.T) {
	who := func(got []received) (asked []string) {
		for _, r := range got {
			asked = append(asked, fmt.Sprintf("%s after %s", r.server, r.at))
		}
		return asked
	}
	want := func(t *testing.T, n *network, want ...string) {
		t.Helper()
		if asked := who(n.take()); !slices.Equal(asked, want) {
			t.Errorf("asked %q, want %q", asked, want)
		}
		n.start = time.Now()
	}
	ask := func(t *testing.T, c *Client, want Kind) {
		t.Helper()
		if a, err := c.Ask(t.Context(), hanako); err != nil || a.Kind != want {
			t.Fatalf("%v, %v; want %v", a.Kind, err, want)
		}
	}
	t.Run("the first is silent", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.servers[first.String()], n.servers[second.String()] = silent, always(codec.CodeAccessAccept)
			c := newClient(t, n, first, second)
			ask(t, c, Accept)
			want(t, n, "192.0.2.1:1812 after 0s", "192.0.2.2:1812 after 833.333333ms")
			ask(t, c, Accept)
			want(t, n, "192.0.2.2:1812 after 0s")
			n.servers[first.String()] = always(codec.CodeAccessAccept)
			time.Sleep(silentFor)
			n.start = time.Now()
			ask(t, c, Accept)
			want(t, n, "192.0.2.1:1812 after 0s")
		})
	})
	t.Run("the first refuses", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.servers[third.String()] = always(codec.CodeAccessAccept)
			ask(t, newClient(t, n, first, second, third), Accept)
			want(t, n, "192.0.2.1:1812 after 0s", "192.0.2.2:1812 after 0s", "[2001:db8::3]:1812 after 0s")
		})
	})
	t.Run("the first answers late", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			n.servers[first.String()], n.servers[second.String()] = after(1500*time.Millisecond, always(codec.CodeAccessAccept)), silent
			c := newClient(t, n, first, second)
			ask(t, c, Accept)
			n.take()
			n.start = time.Now()
			n.servers[first.String()] = always(codec.CodeAccessReject)
			ask(t, c, Reject)
			want(t, n, "192.0.2.1:1812 after 0s")
		})
	})
	t.Run("all refuse", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			n := newNetwork(t)
			_, err := newClient(t, n, first, second).Ask(t.Context(), hanako)
			if !errors.Is(err, errNoAnswer) || !strings.Contains(err.Error(), second.String()) || time.Since(n.start) != 0 {
				t.Errorf("after %s: %v", time.Since(n.start), err)
			}
		})
	})
}

// The answer to a challenge goes to who has challenged, even when that server has
// fallen silent: to another the State means nothing.
func TestChallengeGoesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = silent
		n.servers[second.String()] = always(codec.CodeAccessChallenge, state("of the second"))
		c := newClient(t, n, first, second)
		a, err := c.Ask(t.Context(), hanako)
		if err != nil || a.Kind != Challenge {
			t.Fatalf("%v, %v", a.Kind, err)
		}
		n.take()
		n.servers[first.String()], n.servers[second.String()] = always(codec.CodeAccessAccept), silent
		q := Question{User: "hanako", Password: "123456", State: a.State}
		if _, err := c.Ask(t.Context(), q); !errors.Is(err, errNoAnswer) {
			t.Errorf("%v, want no answer", err)
		}
		for _, r := range n.take() {
			packet, err := codec.Parse(r.b, []byte(secret))
			if err != nil || r.server != second.String() || rfc2865.State_GetString(packet) != "of the second" {
				t.Errorf("%s was asked: %v, %v", r.server, packet, err)
			}
		}

		q.State = routed(2, []byte("of a server that isn't there"))
		if a, err := c.Ask(t.Context(), q); err != nil || a.Kind != Reject || len(n.take()) != 0 {
			t.Errorf("a State of no server: %v, %v", a.Kind, err)
		}
	})
}

// What no Access-Request can carry is nobody's password.
func TestUnaskable(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = always(codec.CodeAccessAccept)
		c := newClient(t, n, first)
		for name, q := range map[string]Question{
			"a long password":     {User: "hanako", Password: strings.Repeat("x", maxPassword+1)},
			"a NUL":               {User: "hanako", Password: password + "\x00"},
			"no user":             {Password: password},
			"a long user":         {User: strings.Repeat("x", maxValue+1), Password: password},
			"a long State":        {User: "hanako", State: make([]byte, maxValue+2)},
			"a long station":      {User: "hanako", CallingStationID: strings.Repeat("x", maxValue+1)},
			"a long name of gear": {User: "hanako", NASIdentifier: strings.Repeat("x", maxValue+1)},
		} {
			if a, err := c.Ask(t.Context(), q); err != nil || a.Kind != Reject || len(n.take()) != 0 {
				t.Errorf("%s: %v, %v", name, a.Kind, err)
			}
		}
		if a, err := c.Ask(t.Context(), Question{User: "hanako", Password: strings.Repeat("x", maxPassword)}); err != nil || a.Kind != Accept {
			t.Errorf("the longest password: %v, %v", a.Kind, err)
		}
	})
}

func TestEndedByCaller(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()], n.servers[second.String()] = silent, silent
		c := newClient(t, n, first, second)
		stopped := errors.New("stopped")
		ctx, cancel := context.WithCancelCause(t.Context())
		time.AfterFunc(time.Millisecond, func() { cancel(stopped) })
		if _, err := c.Ask(ctx, hanako); !errors.Is(err, errNoAnswer) || !errors.Is(err, stopped) {
			t.Errorf("%v", err)
		}
		n.take()
		n.servers[first.String()] = always(codec.CodeAccessAccept)
		if _, err := c.Ask(t.Context(), hanako); err != nil || n.take()[0].server != first.String() {
			t.Errorf("the first server is taken for silent: %v", err)
		}
		n.servers[first.String()] = silent
		if _, err := c.Ask(ctx, hanako); !errors.Is(err, stopped) {
			t.Errorf("when it is over already: %v", err)
		}
	})
}

func TestBusy(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = silent
		c := newClient(t, n, first)
		results := make(chan error, maxInFlight)
		for range maxInFlight {
			go func() {
				_, err := c.Ask(t.Context(), hanako)
				results <- err
			}()
		}
		synctest.Wait()
		if _, err := c.Ask(t.Context(), hanako); !errors.Is(err, errBusy) || time.Since(n.start) != 0 {
			t.Errorf("one more: %v", err)
		}
		for range maxInFlight {
			if err := <-results; errors.Is(err, errBusy) {
				t.Error("one of those that there is room for was turned away")
			}
		}
		n.servers[first.String()] = always(codec.CodeAccessAccept)
		if _, err := c.Ask(t.Context(), hanako); err != nil {
			t.Errorf("when there is room again: %v", err)
		}
	})
}

// Over real sockets: a right reply from another port is nobody's.
func TestSpoofedSource(t *testing.T) {
	listen := func() *net.UDPConn {
		conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return conn
	}
	server, spoofer := listen(), listen()
	go func() {
		b := make([]byte, codec.MaxPacketLength)
		for {
			size, from, err := server.ReadFromUDPAddrPort(b)
			if err != nil {
				return
			}
			_, _ = spoofer.WriteToUDPAddrPort(signed(codec.CodeAccessAccept, b[:size]), from)
			_, _ = server.WriteToUDPAddrPort(signed(codec.CodeAccessReject, b[:size]), from)
		}
	}()
	c := newClient(t, newNetwork(t), server.LocalAddr().(*net.UDPAddr).AddrPort())
	c.Dial = new(net.Dialer).DialContext
	if a, err := c.Ask(t.Context(), hanako); err != nil || a.Kind != Reject {
		t.Errorf("%v, %v; want the server's own reject", a.Kind, err)
	}
}

func TestSecretsAreNotPrinted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNetwork(t)
		n.servers[first.String()] = silent
		c := newClient(t, n, first)
		_, err := c.Ask(t.Context(), hanako)
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x"} {
			for _, v := range []any{hanako, &hanako, c, c.Config, err} {
				if s := fmt.Sprintf(verb, v); strings.Contains(s, password) || strings.Contains(s, secret) || strings.Contains(s, fmt.Sprintf("%x", secret)) {
					t.Errorf("%s of a %T has a secret in it", verb, v)
				}
			}
		}
	})
}

func TestNewRefuses(t *testing.T) {
	good := Config{Servers: []netip.AddrPort{first}, Secret: Secret(secret), Timeout: timeout}
	for name, change := range map[string]func(*Config){
		"no server":   func(c *Config) { c.Servers = nil },
		"too many":    func(c *Config) { c.Servers = slices.Repeat(c.Servers, MaxServers+1) },
		"no secret":   func(c *Config) { c.Secret = nil },
		"no time-out": func(c *Config) { c.Timeout = 0 },
	} {
		c := good
		change(&c)
		if _, err := New(c); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := New(good); err != nil {
		t.Error(err)
	}
}

// FuzzReply gives decode any reply, signed or not. It must not panic, and what it
// returns must be the server's own words, within the bounds.
func FuzzReply(f *testing.F) {
	request, _, err := encode(hanako, Secret(secret))
	if err != nil {
		f.Fatal(err)
	}
	copy(request[4:20], "0123456789abcdef")
	request[1] = 7
	f.Add(signed(codec.CodeAccessAccept, request, attribute{rfc2865.Class_Type, "c"}), false, true)
	f.Add(respond(codec.CodeAccessAccept, request, secret), false, false)
	f.Add(signed(codec.CodeAccessChallenge, request, message("code?"), message("\xff"), state("s")), true, true)
	f.Add([]byte{2, 7, 0, 20}, true, false)
	f.Fuzz(func(t *testing.T, b []byte, sign, require bool) {
		sent := bytes.Clone(b)
		if cut, err := cut(sent); sign && err == nil {
			copy(cut[4:20], request[4:20])
			sum := md5.Sum(append(bytes.Clone(cut), secret...))
			copy(cut[4:20], sum[:])
		}
		a, err := decode(bytes.Clone(sent), request, Secret(secret), require)
		if err != nil {
			var why reason
			if !errors.As(err, &why) || a.Kind != Reject {
				t.Errorf("%v, %v: no reason", a.Kind, err)
			}
			return
		}
		packet, err := cut(sent)
		if err != nil || !codec.IsAuthenticResponse(packet, request, []byte(secret)) {
			t.Errorf("heard without a right authenticator: %v", err)
		}
		if require && !bytes.Contains(packet, []byte{80, 18}) {
			t.Error("heard without a Message-Authenticator")
		}
		if len(a.Class) > maxClasses || len(a.State) > maxValue || len(a.Message) > MaxMessage || !utf8.ValidString(a.Message) ||
			strings.ContainsFunc(a.Message, func(c rune) bool { return !unicode.IsPrint(c) }) {
			t.Errorf("beyond the bounds: %#v", a)
		}
	})
}
