package main

import (
	"context"
	"fmt"
	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"strings"
)

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Add a user."`
	Show   userShowCmd   `cmd:"" help:"Show a user: state, tokens, latest tries and why each was refused."`
	List   userListCmd   `cmd:"" help:"List users."`
	Unlock userUnlockCmd `cmd:"" help:"Open the lock that wrong codes have set."`
}

// userArg is a user as people name one: NAME@REALM. The name itself may hold
// an @; the realm can't.
type userArg struct{ name, realm string }

// UnmarshalText reads NAME@REALM.
func (u *userArg) UnmarshalText(text []byte) error {
	i := strings.LastIndexByte(string(text), '@')
	if i < 1 || i == len(text)-1 {
		return fmt.Errorf("%q must be USER@REALM", text)
	}
	u.name, u.realm = string(text[:i]), string(text[i+1:])
	return nil
}

type userAddCmd struct {
	daemonFlags
	User userArg `arg:"" placeholder:"USER@REALM"`
}

// Run adds the user.
func (c userAddCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	u, err := client.AddUser(ctx, c.User.realm, c.User.name)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, u)
	}
	_, err = fmt.Fprintf(term.out, "added %s@%s\nNext: otpgate token create %s@%s\n", u.Name, u.Realm, u.Name, u.Realm)
	return err
}

type userShowCmd struct {
	daemonFlags
	User userArg `arg:"" placeholder:"USER@REALM"`
}

// Run shows the user.
func (c userShowCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	a, err := client.Account(ctx, c.User.realm, c.User.name)
	if err != nil {
		return err
	}
	return printAccount(term, c.JSON, a)
}

type userListCmd struct {
	daemonFlags
	Realm string `help:"Only this realm."`
}

// Run lists the users.
func (c userListCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.JSON {
		return client.Users(ctx, c.Realm, func(u admin.User) error { return printJSON(term.out, u) })
	}
	t := newTable(term.out, "USER\tADDED")
	if err := client.Users(ctx, c.Realm, func(u admin.User) error {
		return t.row("%s@%s\t%s", u.Name, u.Realm, when(u.Created))
	}); err != nil {
		return err
	}
	return t.Flush()
}

type userUnlockCmd struct {
	daemonFlags
	User   userArg `arg:"" placeholder:"USER@REALM"`
	Reason string  `help:"Why, for the audit log."`
}

// Run opens the user's lock.
func (c userUnlockCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	a, err := client.UnlockUser(ctx, c.User.realm, c.User.name, c.Reason)
	if err != nil {
		return err
	}
	return printAccount(term, c.JSON, a)
}

func printAccount(term terminal, asJSON bool, a admin.Account) error {
	if asJSON {
		return printJSON(term.out, a)
	}
	fmt.Fprintf(term.out, "%s@%s  %s\n", a.Name, a.Realm, a.Service)
	fmt.Fprintf(term.out, "added %s, %d wrong in a row, locked %s\n", when(a.Created), a.Failures, when(a.LockedAt))
	if len(a.Tokens) == 0 {
		fmt.Fprintln(term.out, "\nno token")
	} else {
		fmt.Fprintln(term.out)
		t := newTable(term.out, tokenHeader)
		for _, token := range a.Tokens {
			if err := tokenRow(t, token); err != nil {
				return err
			}
		}
		if err := t.Flush(); err != nil {
			return err
		}
	}
	if len(a.Tries) == 0 {
		return nil
	}
	fmt.Fprintln(term.out)
	return printEntries(term, a.Tries)
}

func printEntries(term terminal, entries []audit.Entry) error {
	t := newTable(term.out, auditHeader)
	for _, e := range entries {
		if err := auditRow(t, e); err != nil {
			return err
		}
	}
	return t.Flush()
}
