package upstream

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"time"

	codec "layeh.com/radius"
)

const (
	// resendAfter is when a server is sent the same datagram again, and again: one
	// that gets both answers once (RFC 5080 §2.2.2). RFC 5080 §2.2.1 begins with 2
	// s, but then the gear has given us up.
	resendAfter = time.Second
	// turns is into how many parts the time-out is divided: at the beginning of
	// each, one more server is asked.
	turns = 3
)

// errTimeout is why the context of an exchange ends, if nobody ends it.
var errTimeout = errors.New("the time-out is over")

// errSilent is what is said of a server from which nothing came.
var errSilent = errors.New("it is silent: is it there, and does it know this gateway as a client?")

// outcome is what became of one server.
type outcome struct {
	number int
	answer Answer
	err    error
}

// exchange is one question under way.
type exchange struct {
	*Client
	request  []byte
	order    []int // numbers of the servers to ask
	asked    int   // how many of them were
	failed   map[int]error
	outcomes chan outcome // has room for one of each server
	asking   sync.WaitGroup
}

// exchange sends the request to the servers, each in its turn, until one answers.
func (c *Client) exchange(ctx context.Context, request []byte, order []int) (Answer, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, c.Timeout, errTimeout)
	x := &exchange{Client: c, request: request, order: order, failed: map[int]error{}, outcomes: make(chan outcome, len(order))}
	defer x.asking.Wait() // they end with ctx
	defer cancel()

	turn := time.NewTimer(c.Timeout / turns)
	defer turn.Stop()
	x.askNext(ctx)
	for {
		select {
		case <-turn.C:
			c.servers.silent(order[x.asked-1])
			x.askNext(ctx)
			turn.Reset(c.Timeout / turns)
		case o := <-x.outcomes:
			if o.err == nil {
				c.servers.heard(o.number)
				return o.answer, nil
			}
			c.servers.silent(o.number)
			x.failed[o.number] = o.err
			if len(x.failed) == len(order) {
				return Answer{}, x.noAnswer(nil)
			}
			if o.number == order[x.asked-1] { // it can't answer any more in its turn
				x.askNext(ctx)
				turn.Reset(c.Timeout / turns)
			}
		case <-ctx.Done():
			if errors.Is(context.Cause(ctx), errTimeout) {
				c.servers.silent(order[x.asked-1])
			}
			x.asking.Wait() // what each has to say stands in outcomes
			return x.last(context.Cause(ctx))
		}
	}
}

// askNext asks one more server, if there is one.
func (x *exchange) askNext(ctx context.Context) {
	if x.asked == len(x.order) {
		return
	}
	number := x.order[x.asked]
	x.asked++
	x.asking.Go(func() {
		answer, err := x.ask(ctx, number)
		x.outcomes <- outcome{number, answer, err}
	})
}

// last is the answer that came as the time was over, or what kept each server
// from one.
func (x *exchange) last(cause error) (Answer, error) {
	for len(x.outcomes) > 0 {
		o := <-x.outcomes
		if o.err == nil {
			x.servers.heard(o.number)
			return o.answer, nil
		}
		x.failed[o.number] = o.err
	}
	return Answer{}, x.noAnswer(cause)
}

// noAnswer says of each server that was asked why it hasn't answered.
func (x *exchange) noAnswer(cause error) error {
	var faults []string
	for _, number := range x.order[:x.asked] {
		faults = append(faults, fmt.Sprintf("%s: %v", x.Servers[number], x.failed[number]))
	}
	err := fmt.Errorf("%w (%s)", errNoAnswer, strings.Join(faults, "; "))
	if cause == nil {
		return err
	}
	return fmt.Errorf("%w: %w", err, cause)
}

// ask asks one server until it answers, or can't be asked, or ctx ends. The error
// says why there is no answer.
func (x *exchange) ask(ctx context.Context, number int) (Answer, error) {
	conn, err := x.Dial(ctx, "udp", x.Servers[number].String())
	if err != nil {
		return Answer{}, err
	}
	end := func() { _ = conn.Close() } // nothing is lost with it, and twice does no harm
	defer end()
	defer context.AfterFunc(ctx, end)()

	fault := errSilent
	for {
		answer, dropped, err := x.try(conn)
		if dropped != nil {
			fault = dropped
		}
		switch {
		case err == nil && answer.Kind == Challenge:
			answer.State = routed(number, answer.State)
			return answer, nil
		case err == nil:
			return answer, nil
		case ctx.Err() != nil: // err says only that nobody waits any more
			return Answer{}, fault
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return Answer{}, err
		}
	}
}

// try sends the request and listens until it is to be sent again. dropped is the
// last reply that was no answer.
func (x *exchange) try(conn net.Conn) (answer Answer, dropped, err error) {
	if _, err := conn.Write(x.request); err != nil {
		return Answer{}, nil, err
	}
	if err := conn.SetReadDeadline(x.Now().Add(resendAfter)); err != nil {
		return Answer{}, nil, err
	}
	// Of a longer datagram the kernel cuts off what is padding in one that is
	// well-formed.
	b := make([]byte, codec.MaxPacketLength)
	for {
		n, err := conn.Read(b)
		if err != nil {
			return Answer{}, dropped, err
		}
		if answer, err = decode(b[:n], x.request, x.Secret, x.RequireMessageAuthenticator); err == nil {
			return answer, nil, nil
		}
		dropped = err
		label := malformed
		errors.As(err, &label)
		x.Metrics.dropped.WithLabelValues(x.Name, string(label)).Inc()
	}
}
