package eap

import (
	"context"
	"strings"
)

const (
	// maxTyped is the octets of what somebody types: as many as a User-Password
	// holds (RFC 2865 §5.2).
	maxTyped = 128
	// maxPrompt is the octets of what somebody reads, so that a request fits
	// into the smallest packet that RFC 3748 §3.1 [4] has the lower layer carry.
	maxPrompt = 1020 - headerLength - 1
)

// gtc is the Generic Token Card (RFC 3748 §5.6): we send a text to read, the peer
// sends what somebody typed.
type gtc struct{ prompt string }

func (g *gtc) start() []byte { return cutPrompt(g.prompt) }

func (g *gtc) respond(ctx context.Context, data []byte, decide Decide) (move, error) {
	if len(data) > maxTyped {
		return move{status: Failure}, nil
	}
	v, err := decide(ctx, &Proof{Method: GTC.String(), Typed: string(data), CanAsk: true})
	switch {
	case err != nil:
		return move{}, err
	case v.Kind == Ask:
		return move{data: cutPrompt(v.Prompt)}, nil
	case v.Kind == Accept:
		return move{status: Success}, nil
	}
	return move{status: Failure}, nil
}

func (*gtc) close() {}

// cutPrompt is the text as the type-data of a request.
func cutPrompt(text string) []byte {
	return []byte(strings.ToValidUTF8(text[:min(len(text), maxPrompt)], ""))
}
