package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"otpgate/internal/admin"
	"otpgate/verifier"
)

type userPINCmd struct {
	daemonFlags
	whom
	SetStdin bool `help:"Set the PIN that is on standard input: 4 to 12 digits, which aren't all the same and don't follow each other."`
	Clear    bool `help:"Take the PIN away: the user chooses a new one at the next log-in, with a code."`
	formFlags
}

// Validate wants one of the two.
func (c userPINCmd) Validate() error {
	if c.SetStdin == c.Clear {
		return errors.New("say either --set-stdin or --clear; otpgate user show tells whether there is a PIN")
	}
	return nil
}

// Run sets or clears the PIN.
func (c userPINCmd) Run(ctx context.Context, term terminal) error {
	said := c.said()
	if c.Clear {
		return stepUser(ctx, term, c.daemonFlags, c.User, "clear_pin", said)
	}
	if said.PIN = strings.TrimRight(firstLine(term.in), "\r\n"); said.PIN == "" {
		return &usageError{"no PIN on standard input", "pipe it in, on one line"}
	}
	if err := verifier.AllowedPIN(said.PIN); err != nil { // before it goes anywhere
		return err
	}
	return stepUser(ctx, term, c.daemonFlags, c.User, "set_pin", said)
}

// printPIN says since when a user has a PIN, and whether it is locked; or how one
// comes to be.
func printPIN(term terminal, a admin.Account) {
	if a.PIN == nil {
		fmt.Fprintln(term.out, "no PIN: where a RADIUS client has first_factor pin, it is chosen at the first log-in, after the code")
		return
	}
	fmt.Fprintf(term.out, "PIN set %s, %d wrong in a row\n", when(a.PIN.Set), a.PIN.Failures)
	if a.PIN.LockedAt.IsZero() {
		return
	}
	fmt.Fprintf(term.out, "PIN locked since %s\n", when(a.PIN.LockedAt))
	printWayOut(term, a, a.PIN.OpensAt)
}
