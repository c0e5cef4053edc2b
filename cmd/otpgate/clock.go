package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"otpgate/internal/admin"
)

type clockCmd struct {
	Show   clockShowCmd   `cmd:"" help:"Show the gateway's clock, and how far it is behind the last decision."`
	Accept clockAcceptCmd `cmd:"" help:"Say that the clock is right, though something was decided at a later time: it was ahead then."`
}

type clockShowCmd struct{ daemonFlags }

// Run shows the clock.
func (c clockShowCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	k, err := client.Clock(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, k)
	}
	return printClock(term.out, k)
}

type clockAcceptCmd struct {
	daemonFlags
	reasonFlags
}

// Help says when.
func (clockAcceptCmd) Help() string {
	return `While this machine's clock is behind a time at which something was decided, nobody
passes: codes that were used up then would be accepted again. If the clock is wrong
now, set it right; that is all. Only if it was ahead then, and is right now, this
command lets the gateway go on, and says so in the audit log. A token that was used
in that time waits until its step has come, or is reissued.`
}

// Run accepts the clock.
func (c clockAcceptCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	k, err := client.AcceptClock(ctx, admin.Step{Reason: c.Reason, Form: c.Form})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, k)
	}
	if err := printClock(term.out, k.Clock); err != nil {
		return err
	}
	printReceipt(term, k.Receipt)
	return nil
}

func printClock(w io.Writer, k admin.Clock) error {
	fmt.Fprintf(w, "this machine's clock      %s\n", when(k.Now))
	fmt.Fprintf(w, "last decision             %s\n", when(k.Highest))
	if !k.Floor.IsZero() {
		fmt.Fprintf(w, "restored, nothing before  %s\n", when(k.Floor))
	}
	behind := time.Duration(k.BehindSeconds) * time.Second
	var err error
	switch {
	case !k.Accepting:
		_, err = fmt.Fprintf(w, "It is behind by %v: nobody passes. Set it right, or wait; if it was ahead at the last\ndecision, and is right now: otpgate clock accept\n", behind)
	case k.Floor.After(k.Now):
		_, err = fmt.Fprintln(w, "It is behind the restore: no code is accepted yet. If it is right: otpgate clock accept")
	}
	return err
}
