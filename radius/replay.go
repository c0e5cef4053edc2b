package radius

import (
	"crypto/sha256"

	"layeh.com/radius/rfc2865"
)

// maxRemembered is how many packets are remembered of each client, some 50
// octets each, the oldest going first: an hour of 18 requests a second, days of
// what a VPN with ten thousand people sends. Nobody but who has the secret, or
// can forge packets of a client without Message-Authenticator, can push any out,
// and of that client only.
const maxRemembered = 1 << 16

// fingerprint tells packets of all clients apart by what only a holder of the
// secret can have made: half of a SHA-256.
type fingerprint [sha256.Size / 2]byte

// fingerprint of a packet with a Message-Authenticator, or over TLS, is over all
// its octets. One without can be altered at will, but for the password, which is
// bound to the Request Authenticator. The client's name is in it, so that no
// client can have another's packets taken for replays by sending them first.
func (r *request) fingerprint() fingerprint {
	h := sha256.New()
	h.Write([]byte(r.client.Name))
	h.Write([]byte{0}) // which is in no name: config allows letters and digits
	if r.authenticators > 0 || r.format == overTLS {
		h.Write(r.raw)
	} else {
		h.Write(r.packet.Authenticator[:])
		for _, avp := range r.packet.Attributes {
			if avp.Type == rfc2865.UserPassword_Type {
				h.Write(avp.Attribute)
			}
		}
	}
	var sum [sha256.Size]byte
	return fingerprint(h.Sum(sum[:0])[:len(fingerprint{})])
}

// memory holds which packets were evaluated, or are at this moment. No client
// sends one twice, from another port or long after, since its Request
// Authenticator is to be unpredictable and unique (RFC 2865 §3). Whoever has
// captured one can, and each evaluation of a wrong code is one step to the
// user's lock. The reply cache's mutex guards it.
type memory struct {
	known    map[fingerprint]struct{}
	byClient map[string]*history // by name; packets that were evaluated
}

// history is a ring of at most maxRemembered fingerprints.
type history struct {
	ring []fingerprint
	next int // where the oldest is, once the ring is full
}

func newMemory() memory {
	return memory{known: make(map[fingerprint]struct{}), byClient: make(map[string]*history)}
}

func (m *memory) has(f fingerprint) bool {
	_, ok := m.known[f]
	return ok
}

// begin notes that f is being evaluated; keep or forget ends that.
func (m *memory) begin(f fingerprint) { m.known[f] = struct{}{} }

// forget lets f be evaluated again.
func (m *memory) forget(f fingerprint) { delete(m.known, f) }

// keep remembers that f, of the client, was evaluated.
func (m *memory) keep(client string, f fingerprint) {
	h := m.byClient[client]
	if h == nil {
		h = new(history)
		m.byClient[client] = h
	}
	if len(h.ring) < maxRemembered {
		h.ring = append(h.ring, f)
		return
	}
	delete(m.known, h.ring[h.next])
	h.ring[h.next] = f
	h.next = (h.next + 1) % maxRemembered
}
