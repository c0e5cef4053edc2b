package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/verifier"
)

type userCmd struct {
	Add    userAddCmd    `cmd:"" help:"Add a user."`
	Apply  userApplyCmd  `cmd:"" help:"Register a customer's paper form; adds the user if there is none."`
	Show   userShowCmd   `cmd:"" help:"Show a user: state, tokens, latest tries and why each was refused."`
	List   userListCmd   `cmd:"" help:"List users."`
	Unlock userUnlockCmd `cmd:"" help:"Open the lock that wrong codes have set."`
	PIN    userPINCmd    `cmd:"" name:"pin" help:"Set or clear a user's PIN, which RADIUS clients may ask for besides the code."`
	Groups userGroupsCmd `cmd:"" help:"Put a user into groups, by which RADIUS answers differ."`
	Remove userRemoveCmd `cmd:"" help:"Forget a user whose tokens are all released."`
}

// userArg is a user as people name one: NAME@REALM. The name itself may hold
// an @; the realm can't.
type userArg struct{ name, realm string }

// UnmarshalText reads NAME@REALM.
func (u *userArg) UnmarshalText(text []byte) error {
	i := strings.LastIndexByte(string(text), '@')
	if i < 1 || i == len(text)-1 {
		return fmt.Errorf("%.70q must be NAME@REALM, such as taro@staff", text)
	}
	u.name, u.realm = string(text[:i]), string(text[i+1:])
	return nil
}

// whom is the user that a command is about.
type whom struct {
	User userArg `arg:"" name:"name@realm" help:"The user's name and realm, such as taro@staff."`
}

// formFlags are what a clerk says of a step that needs no reason.
type formFlags struct {
	Reason string `placeholder:"TEXT" help:"Why, for the audit log."`
	Form   string `placeholder:"NUMBER" help:"The paper form's number, for the audit log."`
}

// reasonFlags are what a clerk says of a step.
type reasonFlags struct {
	Reason string `required:"" placeholder:"TEXT" help:"Why, for the audit log."`
	Form   string `placeholder:"NUMBER" help:"The paper form's number, for the audit log."`
}

type userAddCmd struct {
	daemonFlags
	whom
	formFlags
}

// Run adds the user.
func (c userAddCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	u, err := client.AddUser(ctx, admin.NewUser{Realm: c.User.realm, Name: c.User.name, Reason: c.Reason, Form: c.Form})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, u)
	}
	fmt.Fprintf(term.out, "added %s@%s\n", u.Name, u.Realm)
	printReceipt(term, u.Receipt)
	_, err = fmt.Fprintf(term.out, "Next: otpgate token create %s --in-service\n"+
		"      (or without --in-service, if its holder is to show a first code)\n", word(u.Name+"@"+u.Realm))
	return err
}

type userApplyCmd struct {
	daemonFlags
	whom
	Form   string `required:"" placeholder:"NUMBER" help:"The paper form's number."`
	Reason string `placeholder:"TEXT" help:"Why, for the audit log."`
}

// Run registers the application.
func (c userApplyCmd) Run(ctx context.Context, term terminal) error {
	return stepUser(ctx, term, c.daemonFlags, c.User, "apply", admin.Step{Reason: c.Reason, Form: c.Form})
}

type userShowCmd struct {
	daemonFlags
	whom
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
	Realm string `placeholder:"REALM" help:"Only this realm."`
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
	t := newTable(term.out, zoned("USER\tADDED (%s)\tAPPLIED (%[1]s)"))
	if err := client.Users(ctx, c.Realm, func(u admin.User) error {
		return t.row("%s@%s\t%s\t%s", u.Name, u.Realm, when(u.Created), when(u.Applied))
	}); err != nil {
		return err
	}
	return t.Flush()
}

type userUnlockCmd struct {
	daemonFlags
	whom
	formFlags
}

// Run opens the user's locks.
func (c userUnlockCmd) Run(ctx context.Context, term terminal) error {
	return stepUser(ctx, term, c.daemonFlags, c.User, "unlock", c.said())
}

type userGroupsCmd struct {
	daemonFlags
	whom
	Groups []string `arg:"" optional:"" name:"group" help:"All the groups that the user is to be in, the most important first."`
	None   bool     `help:"Take the user out of all groups."`
	formFlags
}

// Validate tells somebody who wants to see the groups how, and takes none away.
func (c userGroupsCmd) Validate() error {
	switch {
	case c.None && len(c.Groups) > 0:
		return errors.New("--none takes the user out of all groups: leave out the groups or --none")
	case !c.None && len(c.Groups) == 0:
		return errors.New("name all the groups that the user is to be in, or --none; otpgate user show tells which they are now")
	}
	return nil
}

// Run sets the user's groups.
func (c userGroupsCmd) Run(ctx context.Context, term terminal) error {
	said := c.said()
	said.Groups = c.Groups
	return stepUser(ctx, term, c.daemonFlags, c.User, "groups", said)
}

type userRemoveCmd struct {
	daemonFlags
	whom
	reasonFlags
}

// Run removes the user.
func (c userRemoveCmd) Run(ctx context.Context, term terminal) error {
	return stepUser(ctx, term, c.daemonFlags, c.User, "remove", c.said())
}

func (f formFlags) said() admin.Step   { return admin.Step{Reason: f.Reason, Form: f.Form} }
func (f reasonFlags) said() admin.Step { return admin.Step{Reason: f.Reason, Form: f.Form} }

// stepUser makes a step with a user and prints what it led to.
func stepUser(ctx context.Context, term terminal, flags daemonFlags, u userArg, step string, s admin.Step) error {
	client, err := flags.client()
	if err != nil {
		return err
	}
	done, err := client.StepUser(ctx, u.realm, u.name, step, s)
	if err != nil {
		return err
	}
	if flags.JSON {
		return printJSON(term.out, done)
	}
	switch {
	case step == "remove":
		fmt.Fprintf(term.out, "removed %s@%s\n", done.Name, done.Realm)
	case step == "groups" && len(done.Groups) == 0:
		fmt.Fprintf(term.out, "%s@%s is in no group\n", done.Name, done.Realm)
	case step == "groups":
		fmt.Fprintf(term.out, "%s@%s is in %s\n", done.Name, done.Realm, strings.Join(done.Groups, ", "))
	case step == "set_pin":
		fmt.Fprintf(term.out, "%s@%s has a new PIN\n", done.Name, done.Realm)
	case step == "clear_pin":
		fmt.Fprintf(term.out, "%s@%s has no PIN any more, and is asked to choose one after the next right code\n", done.Name, done.Realm)
	case step == "unlock" && done.WasLocked:
		fmt.Fprintf(term.out, "unlocked %s@%s\n", done.Name, done.Realm)
	case step == "unlock":
		fmt.Fprintf(term.out, "%s@%s was not locked; wrong codes are counted anew\n", done.Name, done.Realm)
	}
	if step != "remove" {
		fmt.Fprintf(term.out, "%s@%s  %s\n", done.Name, done.Realm, inWords(done.Service))
	}
	printReceipt(term, done.Receipt)
	return nil
}

// printReceipt prints what a clerk writes on the customer's copy.
func printReceipt(term terminal, r verifier.Receipt) {
	fmt.Fprintf(term.out, "receipt %s, %s\n", r.Number, when(r.At))
}

// inWords is the state of a user with what it means.
func inWords(s verifier.ServiceState) string {
	meaning := map[verifier.ServiceState]string{
		verifier.ServiceNone:         "no token, and no application",
		verifier.ServiceApplied:      "the form is registered, nothing is issued yet",
		verifier.ServiceIssued:       "a token is issued or on its way; log-in doesn't ask for a code until it is started",
		verifier.ServiceInService:    "every log-in needs a code",
		verifier.ServiceLocked:       "by wrong codes; no code is accepted",
		verifier.ServiceSuspended:    "nothing that the token shows is accepted",
		verifier.ServiceCardFallback: "the confirmation card is to stand in for a code; the log-in page asks for its cells in a later version",
		verifier.ServiceReleased:     "the token is ended",
	}
	return string(s) + ": " + meaning[s]
}

func printAccount(term terminal, asJSON bool, a admin.Account) error {
	if asJSON {
		return printJSON(term.out, a)
	}
	fmt.Fprintf(term.out, "%s@%s  %s\n", a.Name, a.Realm, inWords(a.Service))
	fmt.Fprintf(term.out, "added %s, %d wrong in a row\n", when(a.Created), a.Failures)
	if a.Service == verifier.ServiceLocked {
		printLock(term, a)
	}
	printPIN(term, a)
	if !a.Applied.IsZero() {
		fmt.Fprintf(term.out, "applied %s, form %s\n", when(a.Applied), a.Form)
	}
	if len(a.Groups) > 0 {
		fmt.Fprintf(term.out, "groups %s\n", strings.Join(a.Groups, ", "))
	}
	if !a.FallbackUntil.IsZero() {
		fmt.Fprintf(term.out, "card fallback until %s\n", when(a.FallbackUntil))
	}
	if len(a.Tokens) == 0 {
		fmt.Fprintln(term.out, "\nno token")
	} else {
		fmt.Fprintln(term.out)
		t := newTable(term.out, zoned(tokenHeader))
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

// printLock says since when a user is locked, until when, and what to do.
func printLock(term terminal, a admin.Account) {
	if !a.LockedAt.IsZero() {
		fmt.Fprintf(term.out, "locked since %s\n", when(a.LockedAt))
	}
	printWayOut(term, a, a.OpensAt)
}

// printWayOut says what opens a lock, and when it opens by itself; never, if that
// is zero.
func printWayOut(term terminal, a admin.Account, opensAt time.Time) {
	unlock := "otpgate user unlock " + word(a.Name+"@"+a.Realm)
	if opensAt.IsZero() {
		fmt.Fprintf(term.out, "it stays so until: %s\n", unlock)
		return
	}
	fmt.Fprintf(term.out, "it opens by itself at %s; at once: %s\n", when(opensAt), unlock)
}

func printEntries(term terminal, entries []audit.Entry) error {
	t := newTable(term.out, zoned(auditHeader))
	for _, e := range entries {
		if err := auditRow(t, e); err != nil {
			return err
		}
	}
	return t.Flush()
}
