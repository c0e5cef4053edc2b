package main

import (
	"bufio"
	"context"
	"encoding/base32"
	"fmt"
	"io"
	"otpgate/internal/admin"
	"otpgate/verifier"
	"otpgate/verifier/otp"
	"strings"
)

type tokenCmd struct {
	Create  tokenCreateCmd  `cmd:"" help:"Make a token for a user."`
	Show    tokenShowCmd    `cmd:"" help:"Show a token."`
	List    tokenListCmd    `cmd:"" help:"List tokens."`
	Start   tokenStartCmd   `cmd:"" help:"Put an issued token in service: its holder reads you a code."`
	Suspend tokenSuspendCmd `cmd:"" help:"Take a token out of use until it is resumed."`
	Resume  tokenResumeCmd  `cmd:"" help:"Take a suspended token back into use; opens a lock."`
	Release tokenReleaseCmd `cmd:"" help:"End a token for good and destroy its key."`
}

type tokenCreateCmd struct {
	daemonFlags
	User        userArg          `arg:"" placeholder:"USER@REALM"`
	Type        otp.Type         `enum:"totp" default:"totp" help:"What moves the code: totp (time)."`
	Algorithm   otp.Algorithm    `placeholder:"SHA1|SHA256|SHA512" help:"Else the realm's."`
	Digits      int              `placeholder:"N" help:"Else the realm's."`
	Period      int              `placeholder:"SECONDS" help:"Else the realm's."`
	SecretStdin bool             `help:"Read the secret (base32) from standard input, else one is made and shown once."`
	Serial      string           `placeholder:"SERIAL" help:"Else one is made."`
	Carrier     verifier.Carrier `enum:"software,hardware," default:"" help:"software or hardware, if you know: portals are told (amr swk or hwk)."`
	InService   bool             `help:"In service at once, without a first code."`
}

// Run makes the token and prints what its holder needs.
func (c tokenCreateCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	n := admin.NewToken{
		Realm: c.User.realm, User: c.User.name, Serial: c.Serial, Algorithm: c.Algorithm, Digits: c.Digits, Period: c.Period,
		Carrier: c.Carrier, InService: c.InService,
	}
	if c.SecretStdin {
		if n.Key, err = readSecret(term.in); err != nil {
			return err
		}
	}
	t, err := client.CreateToken(ctx, n)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, t)
	}
	fmt.Fprintf(term.out, "serial %s, %s\n", t.Serial, t.State)
	if t.URI != "" {
		fmt.Fprintf(term.out, "%s\nThis holds the key and is shown this once.\n", t.URI)
		if isTerminal(term.out) {
			if err := printQR(term.out, t.URI); err != nil {
				return err
			}
		}
	}
	if t.State == verifier.Issued {
		fmt.Fprintf(term.out, "Next: otpgate token start %s CODE\n", t.Serial)
	}
	return nil
}

// readSecret reads a base32 key: upper or lower case, with or without spaces
// and padding, as authenticator set-up pages print them.
func readSecret(r io.Reader) ([]byte, error) {
	const maxLine = 1 << 10 // the longest key, 128 octets, has 205 characters
	line, err := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	if err != nil && line == "" {
		return nil, &startError{"no secret on standard input", "pipe it in, in base32"}
	}
	text := strings.ToUpper(strings.Join(strings.Fields(line), ""))
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(key) == 0 {
		return nil, &startError{"the secret on standard input is not base32", "it has letters A to Z and digits 2 to 7"}
	}
	return key, nil
}

type tokenArg struct {
	daemonFlags
	Serial string `arg:"" placeholder:"SERIAL"`
}

type tokenShowCmd struct{ tokenArg }

// Run shows the token.
func (c tokenShowCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	t, err := client.Token(ctx, c.Serial)
	if err != nil {
		return err
	}
	return c.print(term, t)
}

type tokenListCmd struct{ daemonFlags }

// Run lists the tokens.
func (c tokenListCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.JSON {
		return client.Tokens(ctx, func(t admin.Token) error { return printJSON(term.out, t) })
	}
	tab := newTable(term.out, tokenHeader)
	if err := client.Tokens(ctx, func(t admin.Token) error { return tokenRow(tab, t) }); err != nil {
		return err
	}
	return tab.Flush()
}

type tokenStartCmd struct {
	tokenArg
	Code string `arg:"" help:"The code that the token shows now."`
}

// Run starts the token.
func (c tokenStartCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "start", admin.Step{Code: c.Code})
}

type tokenReason struct {
	tokenArg
	Reason string `required:"" help:"Why, for the audit log."`
}

type (
	tokenSuspendCmd struct{ tokenReason }
	tokenResumeCmd  struct{ tokenReason }
	tokenReleaseCmd struct{ tokenReason }
)

// Run suspends the token.
func (c tokenSuspendCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "suspend", admin.Step{Reason: c.Reason})
}

// Run resumes the token.
func (c tokenResumeCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "resume", admin.Step{Reason: c.Reason})
}

// Run releases the token.
func (c tokenReleaseCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "release", admin.Step{Reason: c.Reason})
}

func (c tokenArg) step(ctx context.Context, term terminal, name string, s admin.Step) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	t, err := client.StepToken(ctx, c.Serial, name, s)
	if err != nil {
		return err
	}
	return c.print(term, t)
}

func (c tokenArg) print(term terminal, t admin.Token) error {
	if c.JSON {
		return printJSON(term.out, t)
	}
	tab := newTable(term.out, tokenHeader)
	if err := tokenRow(tab, t); err != nil {
		return err
	}
	return tab.Flush()
}

const tokenHeader = "SERIAL\tUSER\tSTATE\tKIND\tWRONG\tLOCKED\tLAST USED\tREASON"

func tokenRow(tab *table, t admin.Token) error {
	kind := fmt.Sprintf("%s %s %d/%ds", t.Params.Type, t.Params.Algorithm, t.Params.Digits, t.Params.Period)
	return tab.row("%s\t%s@%s\t%s\t%s\t%d\t%s\t%s\t%s", t.Serial, t.User, t.Realm, t.State, kind,
		t.Failures, when(t.LockedAt), when(t.UsedAt), orDash(t.Reason))
}
