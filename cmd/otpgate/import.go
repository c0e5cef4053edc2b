package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/hex"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"

	"otpgate/internal/admin"
	"otpgate/verifier"
)

type tokenImportCmd struct {
	daemonFlags
	File         string           `arg:"" placeholder:"FILE" help:"CSV columns: serial, secret_hex or secret_base32, type, digits, period, algorithm; and, if you like, user (made if missing; the token is in service at once), counter, made (YYYY-MM-DD)."`
	Format       string           `required:"" placeholder:"FORMAT" help:"pskc (RFC 6030) or csv."`
	KeyFile      string           `xor:"key" placeholder:"FILE" help:"The pre-shared key of a PSKC file, in hexadecimal."`
	PasswordFile string           `xor:"key" placeholder:"FILE" help:"The password of a PSKC file; a line break at its end doesn't count."`
	Realm        string           `placeholder:"REALM" help:"Whose the tokens are; else any realm may assign them."`
	Carrier      verifier.Carrier `placeholder:"KIND" help:"software or hardware: portals are told (amr swk or hwk). Else tokens for stock are hardware, and of those with a user nothing is said."`
	DryRun       bool             `help:"Check the file and say of each token what is in the way; change nothing."`
	formFlags
}

// Validate refuses formats and kinds that there aren't.
func (c tokenImportCmd) Validate() error {
	return cmp.Or(
		oneOf("--format", c.Format, "pskc", "csv"),
		oneOf("--carrier", c.Carrier, verifier.Software, verifier.Hardware),
	)
}

// Run sends the file and prints what is said of it.
func (c tokenImportCmd) Run(ctx context.Context, term terminal) error {
	in := admin.TokenImport{
		Format: c.Format, File: filepath.Base(c.File), Realm: c.Realm, Carrier: c.Carrier, DryRun: c.DryRun, Reason: c.Reason, Form: c.Form,
	}
	var err error
	if c.KeyFile != "" {
		in.Key, err = readKeyFile(c.KeyFile)
	} else if c.PasswordFile != "" {
		in.Password, err = readSmallFile(c.PasswordFile)
		in.Password = bytes.TrimRight(in.Password, "\r\n")
	}
	if err != nil {
		return err
	}
	client, err := c.client()
	if err != nil {
		return err
	}
	file, err := os.Open(c.File)
	if err != nil {
		return &usageError{err.Error(), ""}
	}
	defer file.Close()
	info, err := file.Stat()
	if err != nil {
		return &usageError{err.Error(), ""}
	}
	sent := &counted{r: file}
	p := importPrinter{cmd: c, term: term, bar: bar{w: term.err, on: isTerminal(term.err) && !c.JSON}, sent: sent, size: info.Size()}
	return client.ImportTokens(ctx, in, sent, p.line)
}

// importPrinter prints what is said of a file while it is taken in.
type importPrinter struct {
	cmd   tokenImportCmd
	term  terminal
	bar   bar
	sent  *counted
	size  int64 // of the file
	table *table
}

func (p *importPrinter) line(l admin.ImportLine) error {
	switch {
	case l.Done != nil:
		return p.end(l)
	case l.Token != nil && p.cmd.JSON:
		return printJSON(p.term.out, l.Token)
	case l.Token != nil:
		if p.table == nil {
			p.bar.clear()
			p.table = newTable(p.term.out, "LINE\tSERIAL\tUSER\tRESULT")
		}
		result := "ok"
		if l.Token.Problem != "" {
			result = l.Token.Problem
		}
		return p.table.row("%d\t%s\t%s\t%s", l.Token.Line, orDash(l.Token.Serial), orDash(l.Token.User), result)
	case l.Tokens > 0:
		p.bar.draw("stored", l.Landed, float64(l.Landed)/float64(l.Tokens))
	case p.table == nil: // else it would stand between the rows
		p.bar.draw("read", l.Read, float64(p.sent.n.Load())/float64(max(p.size, 1)))
	}
	return nil
}

// end prints what became of the file, and returns what it was refused for.
func (p *importPrinter) end(l admin.ImportLine) error {
	p.bar.clear()
	if p.table != nil {
		if err := p.table.Flush(); err != nil {
			return err
		}
	}
	if p.cmd.JSON {
		if err := printJSON(p.term.out, l.Done); err != nil {
			return err
		}
	}
	if l.Problem != nil {
		return l.Problem
	}
	d := l.Done
	switch {
	case p.cmd.JSON:
	case d.Batch == nil:
		fmt.Fprintf(p.term.out, "%s could be taken in, %d of them for users\n", count(d.Tokens, "token"), d.Users)
	default:
		fmt.Fprintf(p.term.out, "%s taken in as batch %s, %d of them for users\n", count(d.Tokens, "token"), d.Batch.ID, d.Users)
		printReceipt(p.term, *d.Receipt)
		if d.Batch.State == verifier.BatchChecking {
			fmt.Fprintf(p.term.out, "Next: %s", nextForBatch(*d.Batch))
		}
	}
	return nil
}

// readKeyFile reads an AES key. Only hexadecimal is taken: 32 characters could
// else be read as a key of 32 octets, or of 16.
func readKeyFile(path string) ([]byte, error) {
	text, err := readSmallFile(path)
	if err != nil {
		return nil, err
	}
	key, err := hex.DecodeString(strings.Join(strings.Fields(string(text)), ""))
	if err != nil || len(key) != 16 && len(key) != 24 && len(key) != 32 {
		return nil, &usageError{"the key in " + path + " is not 32, 48 or 64 hexadecimal digits", "if it is in another form, xxd -p makes them of its octets"}
	}
	return key, nil
}

// readSmallFile reads a file that holds one secret.
func readSmallFile(path string) ([]byte, error) {
	const most = 4 << 10 // no key and no password is as long
	f, err := os.Open(path)
	if err != nil {
		return nil, &usageError{err.Error(), ""}
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, most+1))
	if err != nil {
		return nil, &usageError{err.Error(), ""}
	}
	if len(text) > most {
		return nil, &usageError{fmt.Sprintf("%s is longer than %d bytes", path, most), "it must hold the secret alone"}
	}
	return text, nil
}
