package main

import (
	"context"
	"otpgate/internal/audit"
)

type auditCmd struct {
	Tail auditTailCmd `cmd:"" help:"Show the latest entries."`
}

type auditTailCmd struct {
	daemonFlags
	Last int `short:"n" default:"20" help:"How many entries."`
}

// Run prints the latest entries, newest last.
func (c auditTailCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if c.JSON {
		return client.Audit(ctx, c.Last, func(e audit.Entry) error { return printJSON(term.out, e) })
	}
	t := newTable(term.out, auditHeader)
	if err := client.Audit(ctx, c.Last, func(e audit.Entry) error { return auditRow(t, e) }); err != nil {
		return err
	}
	return t.Flush()
}

const auditHeader = "TIME\tEVENT\tOUTCOME\tUSER\tSERIAL\tDOOR\tCLIENT\tWHY"

func auditRow(t *table, e audit.Entry) error {
	who := orDash(e.User)
	if e.Realm != "" {
		who += "@" + e.Realm
	}
	return t.row("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", when(e.Time), e.Event, e.Outcome, who,
		orDash(e.Serial), orDash(e.Door), orDash(e.Client), e.Detail)
}
