package eap

import (
	"context"
	"crypto/tls"
)

// inside is what goes on in a tunnel.
type inside interface {
	kind() Method
	label() string // of the key, up to TLS 1.2
	// open is what we send first; nothing: the peer begins.
	open() []byte
	// respond takes what the peer sends, and returns what it is sent back.
	respond(ctx context.Context, plain []byte, decide Decide) (move, error)
	close()
}

// tunnel is a method that sets up TLS and has another inside it. Its messages
// are, in this order: the handshake, what goes on inside, and an alert in the
// place of any of these, after which the peer's acknowledgement is awaited and
// it has failed (RFC 5216 §2.1.3).
type tunnel struct {
	inside
	tls       *records
	fragments fragments
	size      *int // octets of a packet
	opened    bool
	failing   bool
	msk       []byte
}

func newTunnel(certificate tls.Certificate, size *int, in func(*records) inside) *tunnel {
	r := newRecords(certificate)
	return &tunnel{inside: in(r), tls: r, size: size}
}

func (*tunnel) start() []byte { return []byte{flagStart} }

func (t *tunnel) close() {
	t.inside.close()
	t.tls.stop()
}

func (t *tunnel) respond(ctx context.Context, data []byte, decide Decide) (move, error) {
	message, whole, err := t.fragments.receive(data)
	switch {
	case err != nil: // the peer breaks the rules: there is nothing to tell it
		return move{status: Failure}, nil //nolint:nilerr // a Failure is all that is told
	case !whole:
		return t.next(), nil
	case t.failing:
		return move{status: Failure}, nil
	}
	plain, out, err := t.tls.receive(message)
	switch {
	case err != nil:
		if len(out) == 0 {
			return move{status: Failure, cause: causeOf(err)}, nil
		}
		t.failing = true
		return t.send(out), nil
	case !t.tls.established && len(out) == 0: // the peer owes the rest
		return move{status: Failure}, nil
	case !t.tls.established:
		return t.send(out), nil
	case t.msk == nil:
		if t.msk, err = t.tls.msk(t.kind(), t.label()); err != nil {
			return move{status: Failure}, nil //nolint:nilerr // no RFC 7627: as the package comment says
		}
	}
	if len(out) > 0 { // the end of the handshake, which the peer acknowledges
		if len(plain) > 0 {
			return move{status: Failure}, nil
		}
		return t.send(out), nil
	}
	return t.speak(ctx, plain, decide)
}

// speak goes on inside the tunnel.
func (t *tunnel) speak(ctx context.Context, plain []byte, decide Decide) (move, error) {
	var m move
	var err error
	if !t.opened && len(plain) == 0 { // it has acknowledged the handshake's end
		m.data = t.open()
	} else {
		m, err = t.inside.respond(ctx, plain, t.inTunnel(decide))
	}
	t.opened = true
	switch {
	case err != nil:
		return move{}, err
	case m.status == Success:
		return move{status: Success, msk: t.msk}, nil
	case m.status == Failure:
		return move{status: Failure}, nil
	case len(m.data) == 0:
		return t.next(), nil
	}
	out, err := t.tls.send(m.data)
	if err != nil {
		return move{}, err
	}
	return t.send(out), nil
}

func (t *tunnel) inTunnel(decide Decide) Decide {
	return func(ctx context.Context, p *Proof) (Verdict, error) {
		p.Tunnel = t.kind().String()
		return decide(ctx, p)
	}
}

func (t *tunnel) send(message []byte) move {
	t.fragments.send(message)
	return t.next()
}

func (t *tunnel) next() move { return move{data: t.fragments.next(*t.size)} }
