package main

import (
	"context"
	"fmt"
	"strings"

	"otpgate/internal/admin"
	"otpgate/verifier"
)

type batchCmd struct {
	List    batchListCmd    `cmd:"" help:"List the batches."`
	Show    batchShowCmd    `cmd:"" help:"Show a batch: how far it is, and which tokens were checked."`
	Check   batchCheckCmd   `cmd:"" help:"Check a token of a new batch: type two codes that it shows one after the other."`
	Release batchReleaseCmd `cmd:"" help:"Put a checked batch in stock: its tokens can be assigned."`
	Discard batchDiscardCmd `cmd:"" help:"Take a batch that isn't released out again, so that a better file can be imported."`
}

type batchListCmd struct{ daemonFlags }

// Run lists the batches.
func (c batchListCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.JSON {
		return client.Batches(ctx, func(b admin.Batch) error { return printJSON(term.out, b) })
	}
	tab := newTable(term.out, zoned(batchHeader))
	if err := client.Batches(ctx, func(b admin.Batch) error { return batchRow(tab, b) }); err != nil {
		return err
	}
	return tab.Flush()
}

type batchArg struct {
	daemonFlags
	ID string `arg:"" name:"batch" help:"The batch, as batch list shows it."`
}

type batchShowCmd struct{ batchArg }

// Run shows the batch.
func (c batchShowCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	b, err := client.Batch(ctx, c.ID)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, b)
	}
	return printBatch(term, b)
}

type batchCheckCmd struct {
	daemonFlags
	Serial string `arg:"" placeholder:"SERIAL" help:"Of a token taken from the box at random."`
	First  string `arg:"" placeholder:"CODE1" help:"The code that it shows."`
	Second string `arg:"" placeholder:"CODE2" help:"The one that it shows next."`
	formFlags
}

// Run checks the token.
func (c batchCheckCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	done, err := client.CheckBatch(ctx, admin.BatchCheck{Serial: c.Serial, Codes: [2]string{c.First, c.Second}, Reason: c.Reason, Form: c.Form})
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, done)
	}
	fmt.Fprintf(term.out, "token %s shows the right codes, %+d from ours\n", done.Serial, done.Offset)
	printReceipt(term, done.Receipt)
	_, err = fmt.Fprintf(term.out, "Next: %s", nextForBatch(done.Batch))
	return err
}

type batchReleaseCmd struct {
	batchArg
	formFlags
}

// Run releases the batch.
func (c batchReleaseCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "release", admin.Step{Reason: c.Reason, Form: c.Form})
}

type batchDiscardCmd struct {
	batchArg
	reasonFlags
}

// Run discards the batch.
func (c batchDiscardCmd) Run(ctx context.Context, term terminal) error {
	return c.step(ctx, term, "discard", admin.Step{Reason: c.Reason, Form: c.Form})
}

func (c batchArg) step(ctx context.Context, term terminal, name string, s admin.Step) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	b, err := client.StepBatch(ctx, c.ID, name, s)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, b)
	}
	if err := printBatch(term, b.Batch); err != nil {
		return err
	}
	printReceipt(term, b.Receipt)
	return nil
}

func printBatch(term terminal, b admin.Batch) error {
	tab := newTable(term.out, zoned(batchHeader))
	if err := batchRow(tab, b); err != nil {
		return err
	}
	if err := tab.Flush(); err != nil {
		return err
	}
	fmt.Fprintf(term.out, "checked: %s; %d checks failed\n", orDash(strings.Join(b.Checked, " ")), b.Failed)
	if b.State == verifier.BatchChecking {
		fmt.Fprintf(term.out, "Next: %s", nextForBatch(b))
	}
	return nil
}

// nextForBatch says what leads to the batch's release.
func nextForBatch(b admin.Batch) string {
	if b.Wanted > 0 {
		return fmt.Sprintf("otpgate batch check SERIAL CODE1 CODE2, with %s taken from the box at random\n", count(b.Wanted, "token"))
	}
	return fmt.Sprintf("otpgate batch release %s\n", b.ID)
}

const batchHeader = "BATCH\tREALM\tSTATE\tTOKENS\tFOR STOCK\tCHECKED\tFAILED\tIMPORTED (%s)\tBY\tFILE"

func batchRow(tab *table, b admin.Batch) error {
	realm := b.Realm
	if realm == "" {
		realm = "any"
	}
	return tab.row("%s\t%s\t%s\t%d\t%d\t%d\t%d\t%s\t%s\t%s", b.ID, realm, b.State, b.Tokens, b.Stock,
		len(b.Checked), b.Failed, when(b.Imported), b.By, b.File)
}
