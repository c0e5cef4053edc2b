package main

import (
	"context"
	"crypto/hmac"
	"crypto/md5"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// A kill -9 at any moment, under load, twenty times. What the gateway has
// answered holds afterwards: a code that was accepted is not accepted again,
// and a wrong one that was refused is still counted.
func TestKillUnderLoad(t *testing.T) {
	const (
		kills  = 20
		people = 8 // at once: the store commits in groups
	)
	s := newSite(t, "", "")
	p := s.serve(t)
	secret, err := os.ReadFile(filepath.Join(s.dir, "data", "vpn.secret"))
	if err != nil {
		t.Fatal(err)
	}
	nas := nas{address: s.radius, secret: []byte(strings.TrimSpace(string(secret)))}
	answered := 0
	for kill := range kills {
		var crowd []*person
		for i := range people {
			name := fmt.Sprintf("user-%d-%d", kill, i)
			crowd = append(crowd, &person{name: name, key: employee(t, s.client(), name), guesser: i%2 == 0})
		}
		alive, died := context.WithCancel(t.Context())
		var wg sync.WaitGroup
		for _, person := range crowd {
			wg.Go(func() { person.logIn(alive, t, nas) })
		}
		time.Sleep(rand.N(40 * time.Millisecond))
		p.kill()
		died()
		wg.Wait()
		p = s.serve(t)
		for _, person := range crowd {
			answered += person.refused + len(person.accepted)
			person.check(t, s, nas)
		}
	}
	if answered < kills {
		t.Errorf("%d tries were answered before %d kills: there was no load", answered, kills)
	}
	t.Logf("%d tries answered before %d kills", answered, kills)
}

// person logs in over and over until the gateway is gone, and remembers what it
// was answered.
type person struct {
	name     string
	key      []byte
	guesser  bool
	accepted []string // codes
	refused  int
}

// logIn uses each code of the window once, or guesses up to the last try but
// one.
func (p *person) logIn(ctx context.Context, t *testing.T, nas nas) {
	codes := []string{codeNow(p.key, 30, -1), codeNow(p.key, 30, 0), codeNow(p.key, 30, 1)}
	if p.guesser {
		codes = nil
		for range 9 {
			codes = append(codes, wrongCode(p.key))
		}
	}
	for _, code := range codes {
		reply, err := nas.exchange(ctx, p.name, code, func() {})
		if err != nil {
			return // killed
		}
		switch {
		case p.guesser && reply == codec.CodeAccessReject:
			p.refused++
		case !p.guesser && reply == codec.CodeAccessAccept:
			p.accepted = append(p.accepted, code)
		case !p.guesser && len(p.accepted) == 0: // the clock has gone past the first of the window
		default:
			t.Errorf("%s: %v to %s", p.name, reply, code)
		}
	}
}

func (p *person) check(t *testing.T, s site, nas nas) {
	for _, code := range p.accepted {
		if reply, err := nas.ask(p.name, code); err != nil || reply != codec.CodeAccessReject {
			t.Errorf("%s: the accepted code again after the kill: %v, %v", p.name, reply, err)
		}
	}
	a, err := s.client().Account(context.Background(), "staff", p.name)
	if err != nil {
		t.Fatal(err)
	}
	// One more may have been counted that the kill kept from being answered.
	if p.guesser && (a.Failures < p.refused || a.Failures > p.refused+1) {
		t.Errorf("%s: %d wrong codes are counted, %d were refused", p.name, a.Failures, p.refused)
	}
}

// nas is network gear: it sends one request and waits for one answer.
type nas struct {
	address string
	secret  []byte
}

func (n nas) ask(user, code string) (codec.Code, error) {
	return n.exchange(context.Background(), user, code, func() {})
}

// exchange is ask; sent is called when the request has left, or can't. When ctx
// ends, so does the wait, but for an answer that is on its way.
func (n nas) exchange(ctx context.Context, user, code string, sent func()) (codec.Code, error) {
	conn, err := n.send(user, code)
	sent()
	if err != nil {
		return 0, err
	}
	defer conn.Close()
	defer context.AfterFunc(ctx, func() { _ = conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)) })()
	b := make([]byte, codec.MaxPacketLength)
	m, err := conn.Read(b)
	if err != nil {
		return 0, err
	}
	reply, err := codec.Parse(b[:m], n.secret)
	if err != nil {
		return 0, err
	}
	return reply.Code, nil
}

func (n nas) send(user, code string) (net.Conn, error) {
	request := codec.New(codec.CodeAccessRequest, n.secret)
	err := errors.Join(
		rfc2869.MessageAuthenticator_Set(request, make([]byte, md5.Size)),
		rfc2865.UserName_SetString(request, user),
		rfc2865.UserPassword_SetString(request, code),
	)
	if err != nil {
		return nil, err
	}
	wire, err := request.Encode()
	if err != nil {
		return nil, err
	}
	mac := hmac.New(md5.New, n.secret)
	mac.Write(wire)
	copy(wire[22:], mac.Sum(nil)) // the first attribute's value: 20 octets of header, type, length
	conn, err := net.Dial("udp", n.address)
	if err != nil {
		return nil, err
	}
	err = conn.SetDeadline(time.Now().Add(2 * time.Second))
	if err == nil {
		_, err = conn.Write(wire)
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
