package eap

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"slices"
)

// maxIdentity is the octets of an identity: as many as a User-Name holds (RFC
// 2865 §5).
const maxIdentity = 253

// method leads one EAP method.
type method interface {
	// start is the type-data of the first request.
	start() []byte
	// respond takes the type-data of a response.
	respond(ctx context.Context, data []byte, decide Decide) (move, error)
	close()
}

// move is what a method does next: it sends data, or has ended with a key.
type move struct {
	data   []byte
	status Status
	msk    []byte
	cause  Cause // of Failure
}

// turn is what a conversation does next.
type turn struct {
	request packet
	status  Status
	msk     []byte
	cause   Cause // of Failure
}

// conversation is the authenticator of RFC 3748, in the open or in a tunnel. The
// peer's identity comes first, then one method, which it may choose by Naks
// among those offered.
type conversation struct {
	begin    func(Method) method
	offer    []Method // what can still be proposed
	identity string

	started    bool   // a request is outstanding, by these two:
	identifier byte   // what a response must have
	proposed   Method // its type; 0: the identity
	current    method // nil while the identity is asked for
	committed  bool   // current has had a response: no more Naks
}

func newConversation(offer []Method, begin func(Method) method) *conversation {
	c := &conversation{begin: begin, offer: slices.Clone(offer)}
	var first [1]byte
	_, _ = rand.Read(first[:]) // never fails
	c.identifier = first[0]
	return c
}

func (c *conversation) askIdentity() packet {
	c.started = true
	return c.request(typeIdentity, nil)
}

// request is the next one; RFC 3748 §4.1: with a new identifier.
func (c *conversation) request(kind Method, data []byte) packet {
	c.identifier++
	return packet{codeRequest, c.identifier, kind, data}
}

// step is next in a tunnel, where a packet that would be discarded has taken the
// place of the right one: nothing else can come, so it has failed.
func (c *conversation) step(ctx context.Context, b []byte, decide Decide) (turn, error) {
	p, err := parse(b)
	if err == nil {
		var t turn
		if t, err = c.next(ctx, p, decide); err == nil {
			return t, nil
		}
	}
	if errors.Is(err, ErrDiscarded) {
		return turn{status: Failure}, nil
	}
	return turn{}, err
}

// next takes a response. Only an answer to the outstanding request is one (RFC
// 3748 §4.1); before any, that is the identity, which the NAS has asked for.
func (c *conversation) next(ctx context.Context, p packet, decide Decide) (turn, error) {
	if c.started && p.identifier != c.identifier {
		return turn{}, fmt.Errorf("%w: identifier %d, not %d", ErrDiscarded, p.identifier, c.identifier)
	}
	switch {
	case c.current == nil && p.kind == typeIdentity:
		return c.identified(p), nil
	case c.current != nil && p.kind == c.proposed:
		return c.respond(ctx, p.data, decide)
	case c.current != nil && !c.committed && (p.kind == typeNak || p.kind == typeExpanded):
		return c.refused(p), nil
	}
	return turn{}, fmt.Errorf("%w: type %d", ErrDiscarded, p.kind)
}

func (c *conversation) identified(p packet) turn {
	if len(p.data) == 0 || len(p.data) > maxIdentity {
		return turn{status: Failure}
	}
	c.identity = string(p.data)
	if !c.started { // ours continue the NAS's
		c.started, c.identifier = true, p.identifier
	}
	return c.propose(c.offer[0])
}

// propose begins a method.
func (c *conversation) propose(m Method) turn {
	c.close()
	c.offer = slices.DeleteFunc(c.offer, func(o Method) bool { return o == m })
	c.proposed, c.current = m, c.begin(m)
	return turn{request: c.request(m, c.current.start())}
}

// refused takes a Nak (RFC 3748 §5.3.1): of the methods the peer would have, the
// one that we offer first. An expanded Nak (§5.3.2) answers only an expanded
// type, and none is offered.
func (c *conversation) refused(p packet) turn {
	if p.kind == typeNak {
		for _, m := range c.offer {
			if slices.Contains(p.data, byte(m)) {
				return c.propose(m)
			}
		}
	}
	return turn{status: Failure, cause: MethodUnwanted}
}

func (c *conversation) respond(ctx context.Context, data []byte, decide Decide) (turn, error) {
	c.committed = true
	m, err := c.current.respond(ctx, data, func(ctx context.Context, p *Proof) (Verdict, error) {
		if p.Identity == "" { // no tunnel has one of its own
			p.Identity = c.identity
		}
		return decide(ctx, p)
	})
	if err != nil {
		return turn{}, err
	}
	if m.status != Continue {
		return turn{status: m.status, msk: m.msk, cause: m.cause}, nil
	}
	return turn{request: c.request(c.proposed, m.data)}, nil
}

func (c *conversation) close() {
	if c.current != nil {
		c.current.close()
	}
}
