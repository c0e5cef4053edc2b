package main

import (
	"bufio"
	"cmp"
	"context"
	"encoding/base32"
	"fmt"
	"io"
	"strings"

	"otpgate/internal/admin"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

type tokenCmd struct {
	Create   tokenCreateCmd   `cmd:"" help:"Make a token for a user."`
	Import   tokenImportCmd   `cmd:"" help:"Take in the tokens of a manufacturer's file: all of it or nothing."`
	Assign   tokenAssignCmd   `cmd:"" help:"Give a token in stock to a user."`
	URI      tokenURICmd      `cmd:"" name:"uri" help:"Show the key of an issued token once more, until it is started."`
	Show     tokenShowCmd     `cmd:"" help:"Show a token."`
	List     tokenListCmd     `cmd:"" help:"List tokens."`
	Start    tokenStartCmd    `cmd:"" help:"Put an issued or assigned token in service: its holder reads you a code."`
	Resync   tokenResyncCmd   `cmd:"" help:"Find a token again whose clock or counter has run off: its holder reads you two codes in a row."`
	Suspend  tokenSuspendCmd  `cmd:"" help:"Take a token out of use until it is resumed."`
	Resume   tokenResumeCmd   `cmd:"" help:"Take a suspended token back to where it was; opens a lock."`
	Unusable tokenUnusableCmd `cmd:"" help:"Say that a token is lost, stolen, broken, flat or expired: it is out of use for good."`
	Reissue  tokenReissueCmd  `cmd:"" help:"Replace a token by another one."`
	Release  tokenReleaseCmd  `cmd:"" help:"End a token for good and destroy its key."`
}

type tokenCreateCmd struct {
	daemonFlags
	whom
	Type        otp.Type         `placeholder:"TYPE" help:"What moves the code: totp (time) or hotp (a counter). Else the realm's."`
	Algorithm   otp.Algorithm    `placeholder:"NAME" help:"SHA1, SHA256 or SHA512. Else the realm's."`
	Digits      *int             `placeholder:"N" help:"6 to 8, as the realm has it."`
	Period      *int             `placeholder:"SECONDS" help:"15 to 120. Else the realm's."`
	SecretStdin bool             `help:"Read the secret (base32) from standard input, else one is made and shown once."`
	Serial      string           `placeholder:"SERIAL" help:"Else one is made."`
	Carrier     verifier.Carrier `placeholder:"KIND" help:"software or hardware, if you know: portals are told (amr swk or hwk)."`
	InService   bool             `help:"In service at once, without a first code."`
	formFlags
}

// Validate refuses what no token can have.
func (c tokenCreateCmd) Validate() error {
	return cmp.Or(
		oneOf("--type", c.Type, otp.TOTP, otp.HOTP),
		oneOf("--algorithm", c.Algorithm, otp.SHA1, otp.SHA256, otp.SHA512),
		within("--digits", c.Digits, otp.MinDigits, otp.MaxDigits),
		within("--period", c.Period, otp.MinPeriod, otp.MaxPeriod),
		oneOf("--carrier", c.Carrier, verifier.Software, verifier.Hardware),
	)
}

// Run makes the token and prints what its holder needs.
func (c tokenCreateCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	n := admin.NewToken{
		Realm: c.User.realm, User: c.User.name, Serial: c.Serial, Type: c.Type, Algorithm: c.Algorithm, Digits: orZero(c.Digits),
		Period: orZero(c.Period), Carrier: c.Carrier, InService: c.InService, Reason: c.Reason, Form: c.Form,
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
	return printIssued(term, c.JSON, t)
}

// printIssued prints a token that somebody gets, with its key if it is to be
// shown.
func printIssued(term terminal, asJSON bool, t admin.SteppedToken) error {
	if asJSON {
		return printJSON(term.out, t)
	}
	fmt.Fprintf(term.out, "serial %s, %s\n", t.Serial, t.State)
	if t.URI != "" {
		fmt.Fprintf(term.out, "%s\nThis holds the key: show it to the token's holder alone, and only until it is scanned.\n", t.URI)
		if isTerminal(term.out) {
			if err := printQR(term.out, t.URI); err != nil {
				return err
			}
		}
	}
	printReceipt(term, t.Receipt)
	if t.State == verifier.Issued || t.State == verifier.Assigned {
		fmt.Fprintf(term.out, "Next: otpgate token start %s CODE\n", t.Serial)
	}
	return nil
}

// readSecret reads a base32 key: upper or lower case, with or without spaces
// and padding, as authenticator set-up pages print them.
func readSecret(r io.Reader) ([]byte, error) {
	line := firstLine(r)
	if line == "" {
		return nil, &usageError{"no secret on standard input", "pipe it in, in base32"}
	}
	text := strings.ToUpper(strings.Join(strings.Fields(line), ""))
	key, err := base32.StdEncoding.WithPadding(base32.NoPadding).DecodeString(strings.TrimRight(text, "="))
	if err != nil || len(key) == 0 {
		return nil, &usageError{"the secret on standard input is not base32", "it has letters A to Z and digits 2 to 7"}
	}
	return key, nil
}

// firstLine reads a secret of one line: with its line end, if there is one; ""
// if there is nothing to read.
func firstLine(r io.Reader) string {
	const maxLine = 1 << 10 // the longest key, 64 octets, has 103 characters
	// Whatever came before an error is looked at.
	line, _ := bufio.NewReader(io.LimitReader(r, maxLine)).ReadString('\n')
	return line
}

type tokenArg struct {
	daemonFlags
	Serial string `arg:"" help:"The token's serial, as token list shows it."`
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
	if c.JSON {
		return printJSON(term.out, t)
	}
	return printToken(term, t)
}

type tokenListCmd struct {
	daemonFlags
	Realm string              `placeholder:"REALM" help:"Only this realm."`
	State verifier.TokenState `placeholder:"STATE" help:"Only in this state: in_stock, assigned, issued, in_service, suspended, lost, broken, battery_flat, expired or released."`
	User  *userArg            `placeholder:"NAME@REALM" help:"Only of this user."`
}

// Validate refuses a state that no token can be in.
func (c tokenListCmd) Validate() error {
	return oneOf("--state", c.State, verifier.InStock, verifier.Assigned, verifier.Issued, verifier.InService, verifier.TokenSuspended,
		verifier.Lost, verifier.Broken, verifier.BatteryFlat, verifier.Expired, verifier.Released)
}

// Run lists the tokens.
func (c tokenListCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	f := verifier.TokenFilter{Realm: c.Realm, State: c.State}
	if c.User != nil {
		if c.Realm != "" && c.Realm != c.User.realm {
			return &usageError{"--realm and --user name different realms", "leave --realm out"}
		}
		f.Realm, f.User = c.User.realm, c.User.name
	}
	if c.JSON {
		return client.Tokens(ctx, f, func(t admin.Token) error { return printJSON(term.out, t) })
	}
	tab := newTable(term.out, zoned(tokenHeader))
	if err := client.Tokens(ctx, f, func(t admin.Token) error { return tokenRow(tab, t) }); err != nil {
		return err
	}
	return tab.Flush()
}

type tokenAssignCmd struct {
	tokenArg
	whom
	formFlags
}

// Run assigns the token.
func (c tokenAssignCmd) Run(ctx context.Context, term terminal) error {
	s := c.said()
	s.Realm, s.User = c.User.realm, c.User.name
	return c.step(ctx, term, "assign", s)
}

type tokenURICmd struct {
	tokenArg
	formFlags
}

// Run shows the key.
func (c tokenURICmd) Run(ctx context.Context, term terminal) error {
	return c.issue(ctx, term, "uri", c.said())
}

type tokenStartCmd struct {
	tokenArg
	Code string `arg:"" help:"The code that the token shows now."`
	formFlags
}

// Run starts the token.
func (c tokenStartCmd) Run(ctx context.Context, term terminal) error {
	s := c.said()
	s.Code = c.Code
	return c.step(ctx, term, "start", s)
}

type tokenResyncCmd struct {
	tokenArg
	First  string `arg:"" help:"A code that the token shows."`
	Second string `arg:"" help:"The next one."`
	reasonFlags
}

// Run resynchronises the token.
func (c tokenResyncCmd) Run(ctx context.Context, term terminal) error {
	s := c.said()
	s.Code, s.Next = c.First, c.Second
	return c.step(ctx, term, "resync", s)
}

type tokenReason struct {
	tokenArg
	reasonFlags
}

type (
	tokenSuspendCmd struct{ tokenReason }
	tokenResumeCmd  struct{ tokenReason }
	tokenReleaseCmd struct{ tokenReason }
)

// Run suspends the token.
func (c tokenSuspendCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "suspend", c.said())
}

// Run resumes the token.
func (c tokenResumeCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "resume", c.said())
}

// Run releases the token.
func (c tokenReleaseCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "release", c.said())
}

type tokenUnusableCmd struct {
	tokenArg
	Why verifier.Cause `required:"" placeholder:"CAUSE" help:"lost, stolen, broken, battery_flat or expired. If a lost or stolen one is used all the same, you see it."`
	formFlags
}

// Validate refuses a cause that there isn't.
func (c tokenUnusableCmd) Validate() error {
	return oneOf("--why", c.Why, verifier.CauseLost, verifier.CauseStolen, verifier.CauseBroken, verifier.CauseBatteryFlat, verifier.CauseExpired)
}

// Run takes the token out of use for good.
func (c tokenUnusableCmd) Run(ctx context.Context, term terminal) error {
	s := c.said()
	s.Why = c.Why
	return c.step(ctx, term, "unusable", s)
}

type tokenReissueCmd struct {
	tokenReason
	To string `placeholder:"SERIAL" help:"A token in stock; else a software token is made."`
}

// Run replaces the token.
func (c tokenReissueCmd) Run(ctx context.Context, term terminal) error {
	s := c.said()
	s.To = c.To
	return c.issue(ctx, term, "reissue", s)
}

// step makes a step and prints the token as it is then.
func (c tokenArg) step(ctx context.Context, term terminal, name string, s admin.Step) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	t, err := client.StepToken(ctx, c.Serial, name, s)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, t)
	}
	if err := printToken(term, t.Token); err != nil {
		return err
	}
	printReceipt(term, t.Receipt)
	return nil
}

// issue makes a step that may show a key.
func (c tokenArg) issue(ctx context.Context, term terminal, name string, s admin.Step) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	t, err := client.StepToken(ctx, c.Serial, name, s)
	if err != nil {
		return err
	}
	return printIssued(term, c.JSON, t)
}

func printToken(term terminal, t admin.Token) error {
	tab := newTable(term.out, zoned(tokenHeader))
	if err := tokenRow(tab, t); err != nil {
		return err
	}
	return tab.Flush()
}

const tokenHeader = "SERIAL\tUSER\tSTATE\tKIND\tWRONG\tLOCKED (%s)\tLAST USED (%[1]s)\tREASON"

func tokenRow(tab *table, t admin.Token) error {
	kind := fmt.Sprintf("%s %s %d", t.Params.Type, t.Params.Algorithm, t.Params.Digits)
	if t.Params.Type == otp.TOTP {
		kind += fmt.Sprintf("/%ds", t.Params.Period)
	}
	who := orDash(t.User)
	if t.Realm != "" {
		who += "@" + t.Realm
	}
	why := orDash(t.Reason)
	if !t.TriedAt.IsZero() {
		why += "; SOMEBODY HAS IT: its right code was tried " + when(t.TriedAt)
	}
	return tab.row("%s\t%s\t%s\t%s\t%d\t%s\t%s\t%s", t.Serial, who, t.State, kind,
		t.Failures, when(t.LockedAt), when(t.UsedAt), why)
}
