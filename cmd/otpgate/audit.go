package main

import (
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/user"
	"strconv"
	"strings"
	"time"

	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
)

type auditCmd struct {
	Tail   auditTailCmd   `cmd:"" help:"Show the latest entries."`
	Export auditExportCmd `cmd:"" help:"Print the entries of a time as JSON lines."`
	Verify auditVerifyCmd `cmd:"" help:"Prove that no entry was changed, removed, put in or cut off, or name the first that was. Needs no running gateway and no master key."`
	Accept auditAcceptCmd `cmd:"" help:"Go on with an audit log that has lost entries, and put on record that it has."`
}

type auditTailCmd struct {
	daemonFlags
	Last    int      `short:"n" default:"20" placeholder:"N" help:"How many entries, 1 to 10000 (default: ${default})."`
	Follow  bool     `short:"f" help:"Go on with what happens, until Ctrl-C."`
	User    *userArg `placeholder:"NAME@REALM" help:"Only of this user."`
	Serial  string   `placeholder:"SERIAL" help:"Only of this token."`
	Receipt string   `placeholder:"NUMBER" help:"Only the step with this receipt number."`
}

// Validate refuses what the gateway would cut down.
func (c auditTailCmd) Validate() error {
	return within("--last", &c.Last, 1, audit.MaxLast)
}

// Run prints the latest entries, newest last.
func (c auditTailCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	q := audit.Query{Serial: c.Serial, Receipt: c.Receipt, Last: c.Last}
	if c.User != nil {
		q.User, q.Realm = c.User.name, c.User.realm
	}
	t := newTable(term.out, zoned(auditHeader))
	show := func(e audit.Entry) error { return auditRow(t, e) }
	if c.JSON {
		show = func(e audit.Entry) error { return printJSON(term.out, e) }
	}
	read := client.Audit
	if c.Follow {
		read, show = client.FollowAudit, atOnce(t, show)
	}
	err = read(ctx, q, show)
	if c.Follow && ctx.Err() != nil { // Ctrl-C, the usual end
		return nil //nolint:nilerr // asked for by the reader
	}
	if c.Follow && err == nil {
		err = &admin.Problem{Problem: "the gateway has stopped", Hint: "start it and follow it again"}
	}
	if c.JSON {
		return err
	}
	return errors.Join(err, t.Flush())
}

// atOnce shows each entry when it comes, at the price of columns that aren't
// lined up.
func atOnce(t *table, show func(audit.Entry) error) func(audit.Entry) error {
	return func(e audit.Entry) error { return errors.Join(show(e), t.Flush()) }
}

const auditHeader = "TIME (%s)\tEVENT\tOUTCOME\tUSER\tSERIAL\tDOOR\tCLIENT\tRECEIPT\tWHY (times in UTC)"

func auditRow(t *table, e audit.Entry) error {
	who := orDash(e.User)
	if e.Realm != "" {
		who += "@" + e.Realm
	}
	why := e.Detail
	if e.Form != "" {
		why += " (form " + e.Form + ")"
	}
	return t.row("%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s", when(e.Time), e.Event, orDash(e.Outcome), who,
		orDash(e.Serial), orDash(e.Door), orDash(e.Client), orDash(e.Receipt), strings.TrimSpace(why))
}

type auditExportCmd struct {
	daemonFlags
	Since timeArg  `required:"" placeholder:"TIME" help:"Entries from this time on: 2026-11-24, 2026-11-24T09:00:00+09:00, or how long ago: 24h, 30d."`
	Until *timeArg `placeholder:"TIME" help:"Entries before this time."`
}

// Run prints the entries, oldest first. They are JSON with or without --json.
func (c auditExportCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	now := time.Now()
	var until time.Time
	if c.Until != nil {
		until = c.Until.at(now)
	}
	return client.ExportAudit(ctx, c.Since.at(now), until, func(e audit.Entry) error { return printJSON(term.out, e) })
}

// timeArg is a time as people give it: a point, or how long ago.
type timeArg struct {
	point time.Time
	ago   time.Duration
}

func (t timeArg) at(now time.Time) time.Time {
	if t.point.IsZero() {
		return now.Add(-t.ago)
	}
	return t.point
}

// UnmarshalText reads an RFC 3339 time, a date or a time as tables show it
// (both of this machine's time zone), or a duration, also in days.
func (t *timeArg) UnmarshalText(text []byte) error {
	s := string(text)
	for _, layout := range []string{time.RFC3339, time.DateOnly, time.DateTime} {
		if point, err := time.ParseInLocation(layout, s, time.Local); err == nil {
			t.point = point
			return nil
		}
	}
	ago, err := time.ParseDuration(s)
	if days, isDays := strings.CutSuffix(s, "d"); err != nil && isDays {
		var n uint64
		n, err = strconv.ParseUint(days, 10, 16)
		ago = time.Duration(n) * 24 * time.Hour
	}
	if err != nil || ago < 0 {
		return fmt.Errorf("%q is no time: give 2026-11-24, 2026-11-24T09:00:00+09:00, or how long ago, such as 24h or 30d", s)
	}
	t.ago = ago
	return nil
}

type auditVerifyCmd struct {
	daemonFlags
	Dir      string `placeholder:"DIR" help:"The log's folder, or a copy of it; else the one of the configuration's data_dir, which is also compared with what the running gateway holds."`
	Key      string `placeholder:"FILE" help:"A copy of audit.pub that was kept elsewhere. The one in the folder could have been exchanged with the rest."`
	Archived bool   `help:"The oldest files have been put away."`
}

// verification is what verify prints.
type verification struct {
	OK bool `json:"ok"`
	audit.Report
	Compared bool           `json:"compared"` // with what the running gateway holds
	Finding  *audit.Finding `json:"finding,omitempty"`
}

// Run checks the log and names its first fault.
func (c auditVerifyCmd) Run(ctx context.Context, term terminal) error {
	check := audit.Check{Archived: c.Archived}
	var v verification
	var err error
	var database string // to compare with, if that needs it
	if c.Dir == "" {
		cfg, err := config.LoadAlone(c.Config)
		if err != nil {
			return err
		}
		if v.Compared, err = c.gateway(ctx, &check); err != nil {
			return err
		}
		c.Dir, database = auditDir(cfg), cfg.DatabaseFile()
	}
	if c.Key != "" {
		if check.Key, err = audit.ReadPublicKey(c.Key); err != nil {
			return err
		}
	}
	v.Report, err = audit.Verify(ctx, c.Dir, check)
	if err == nil && v.Entries == 0 && database != "" && !v.Compared {
		err = emptied(ctx, database)
	}
	if err != nil && !errors.As(err, &v.Finding) {
		return err
	}
	v.OK = err == nil
	if c.JSON {
		return errors.Join(printJSON(term.out, v), err)
	}
	if err != nil {
		return &admin.Problem{
			Problem: err.Error(),
			Hint:    fmt.Sprintf("keep all of %s as evidence; signatures vouch for the entries up to %d", c.Dir, v.Signed),
		}
	}
	return printVerification(term, v)
}

// emptied returns a *audit.Finding if the database knows of something that an
// empty log should hold.
func emptied(ctx context.Context, database string) (err error) {
	db, err := bolt.Open(database, bolt.Options{MustExist: true})
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	return db.View(ctx, func(r store.Reader) error {
		used, err := verifier.Used(r)
		if err == nil && used {
			err = &audit.Finding{File: "the log", Seq: 1, Problem: "it is empty, but the database knows that something was decided or done: its entries were removed"}
		}
		return err
	})
}

// gateway finds what the gateway that runs on the log holds.
func (c auditVerifyCmd) gateway(ctx context.Context, check *audit.Check) (compared bool, err error) {
	client, err := c.client()
	if err != nil {
		return false, err
	}
	h, err := client.AuditHead(ctx)
	switch {
	case admin.NotRunning(err):
		return false, nil
	case err != nil:
		return false, err
	case len(h.Key) != ed25519.PublicKeySize:
		return false, fmt.Errorf("the gateway's key has %d bytes", len(h.Key))
	}
	check.Key, check.Head = h.Key, h.Head
	return true, nil
}

func printVerification(term terminal, v verification) error {
	if v.Entries == 0 {
		_, err := fmt.Fprintln(term.out, "the audit log is empty")
		return err
	}
	fmt.Fprintf(term.out, "entries %d to %d, in %s, are as they were written\n", v.First, v.Last, count(v.Files, "file"))
	fmt.Fprintf(term.out, "signed up to entry %d, %s", v.Signed, when(v.SignedAt))
	if n := v.Last - v.Signed; n > 0 {
		fmt.Fprintf(term.out, "; the %d after it aren't yet", n)
	}
	fmt.Fprintln(term.out)
	if v.Torn {
		fmt.Fprintln(term.out, "half a line at the end is being written, or was left by a kill; nobody was answered for it")
	}
	if !v.Compared {
		fmt.Fprintln(term.out, "not compared with the gateway's own record, which tells if the end was cut off: no gateway runs, or --dir was given")
	}
	return nil
}

type auditAcceptCmd struct {
	configFlag
	Reason string `required:"" help:"What has happened to the log, and who knows of it."`
}

// Help says when.
func (auditAcceptCmd) Help() string {
	return `The gateway doesn't start on an audit log that has lost entries: somebody may have
removed them. First put the files back from a backup. If they are lost for good,
move what is left of the audit folder away, and keep it; then this command begins
a new log, whose first entry says what was lost and why, and the gateway starts.
A log whose end alone is gone, its heads with it, may stay: it goes on from there.`
}

// Run opens the log as it is, with no gateway running, and says so in it.
func (c auditAcceptCmd) Run(ctx context.Context, term terminal) (err error) {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	db, err := bolt.Open(cfg.DatabaseFile(), bolt.Options{MustExist: true})
	if err != nil {
		return dataError(cfg, err)
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	state, known, err := loadAuditState(ctx, cfg, db)
	if err != nil {
		return dataError(cfg, err)
	}
	last, err := state.acceptable(ctx, auditDir(cfg), known)
	if err != nil {
		return err
	}
	lost := state.secret.Head
	log, err := state.open(cfg, audit.Head{})
	if err != nil {
		return dataError(cfg, err)
	}
	detail := fmt.Sprintf("the log goes on behind entry %d; up to entry %d, signed at %s, it is not as it was written: %s",
		last, lost.Seq, lost.Time.Format(time.RFC3339), c.Reason)
	if !known {
		detail = fmt.Sprintf("the log goes on behind entry %d, under a new key; the database knows no more what was signed for: %s", last, c.Reason)
	}
	err = log.Append(ctx, audit.Entry{Event: "audit.accept", Outcome: "done", Door: "admin", Client: whoami(), Detail: detail})
	if err = errors.Join(err, log.Close()); err != nil { // Close saves the head, and a new key with it
		return err
	}
	_, err = fmt.Fprintf(term.out, "on record as entry %d: %s\n", last+1, detail)
	return err
}

// acceptable returns the last entry of the log in dir, if a log can go on behind
// it, and there is a reason to: it has lost something, or what it was held against
// isn't known any more.
func (s *auditState) acceptable(ctx context.Context, dir string, known bool) (last uint64, err error) {
	check := audit.Check{Key: s.key().Public().(ed25519.PublicKey), Head: s.secret.Head, Archived: true}
	if known {
		if _, err := audit.Verify(ctx, dir, check); err == nil {
			return 0, &admin.Problem{Problem: "the log has all that was signed for: there is nothing to accept", Hint: "start the gateway"}
		}
	}
	check.Head = audit.Head{}
	report, err := audit.Verify(ctx, dir, check)
	var finding *audit.Finding
	switch {
	case errors.As(err, &finding):
		return 0, &admin.Problem{
			Problem: finding.Error(),
			Hint:    "no log can go on behind that; move the folder " + dir + " away, keep it, and run this again",
		}
	case err != nil && !errors.Is(err, fs.ErrNotExist):
		return 0, err
	}
	return report.Last, nil
}

// loadAuditState is for a person who accepts a loss. If the record itself is lost,
// it isn't known, and a new key is made.
func loadAuditState(ctx context.Context, cfg *config.Config, db *bolt.Store) (s *auditState, known bool, err error) {
	master, err := seal.LoadMaster(cfg.MasterKeyFile)
	if err != nil {
		return nil, false, err
	}
	box, err := seal.Open(ctx, db, master)
	if err != nil {
		return nil, false, err
	}
	s, err = readAuditState(ctx, db, box)
	if errors.Is(err, errNoAuditState) {
		return newAuditState(db, box), false, nil
	}
	return s, true, err
}

// whoami is the user who runs this process, by the system's word.
func whoami() string {
	if u, err := user.Current(); err == nil {
		return u.Username
	}
	return "uid " + strconv.Itoa(os.Getuid())
}
