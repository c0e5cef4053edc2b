package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"crypto/ed25519"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path"
	"path/filepath"
	"time"

	"golang.org/x/sys/unix"

	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/internal/durable"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/oidc"
	"otpgate/verifier"
)

type restoreCmd struct {
	configFlag
	File  string `arg:"" placeholder:"FILE" help:"A backup that otpgate backup has written."`
	Check bool   `help:"Prove the backup, and change nothing: every file, the master key, everything that is sealed, and the audit log. It is unpacked below TMPDIR for that."`
	// ClockIsRight answers the question that only a person can.
	ClockIsRight bool `help:"This machine's clock is right, though the backup knows of something later: the clock of the other machine was ahead."`
	JSON         bool `help:"Print JSON."`
}

// Run restores a backup where no gateway's data is, without a gateway.
func (c restoreCmd) Run(ctx context.Context, term terminal) error {
	cfg, err := config.LoadAlone(c.Config)
	if err != nil {
		return err
	}
	master, err := seal.LoadMaster(cfg.MasterKeyFile)
	if errors.Is(err, fs.ErrNotExist) {
		return &usageError{"the master key " + cfg.MasterKeyFile + " isn't there", "put it in place first; a backup doesn't hold it, and can't be read without it"}
	}
	if err != nil {
		return &usageError{err.Error(), ""}
	}
	r := &restoration{cfg: cfg, file: c.File, clockIsRight: c.ClockIsRight}
	if c.Check {
		err = r.in(os.TempDir(), func() error { return r.unpack(ctx, master) })
	} else {
		err = r.restore(ctx, master)
	}
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, r.result)
	}
	return r.print(term.out, c)
}

// restoration is one backup on its way into a data directory.
type restoration struct {
	cfg          *config.Config
	file         string
	clockIsRight bool

	temp   string // where it is unpacked: nothing else changes until all is proved
	result proof
}

// proof is what a backup was found to hold.
type proof struct {
	Made     time.Time `json:"made"`
	Program  string    `json:"program"`
	Bytes    int64     `json:"bytes"`
	Sealed   int       `json:"sealed"` // values that the master key opens
	Entries  uint64    `json:"audit_entries"`
	Restored bool      `json:"restored"`
	// Floor: no code from before it is accepted.
	Floor time.Time `json:"floor,omitzero"`
	// ClockBehind: nothing is accepted until otpgate clock accept.
	ClockBehind bool `json:"clock_behind,omitempty"`
}

func (r *restoration) print(w io.Writer, c restoreCmd) error {
	fmt.Fprintf(w, "%s is sound: made %s, %d sealed values open under %s, %d audit entries in one chain\n",
		r.file, when(r.result.Made), r.result.Sealed, r.cfg.MasterKeyFile, r.result.Entries)
	if !r.result.Restored {
		return nil
	}
	fmt.Fprintf(w, "Restored to %s. Codes from before %s are refused, whatever was used since\nthe backup; a minute or two later each token works again. A counter-based one doesn't: nobody knows\nhow far it went. A clerk finds it again: otpgate token resync.\n",
		r.cfg.DataDir, when(r.result.Floor))
	_, err := fmt.Fprintf(w, "Next: otpgate serve -c %s\n", c.Config)
	if r.result.ClockBehind {
		_, err = fmt.Fprintf(w, "Nobody passes until you then say that this machine's clock is right: otpgate clock accept --reason …\n")
	}
	return err
}

// restore unpacks the backup beside its place, proves it, and only then puts it
// there. Nothing is ever overwritten.
func (r *restoration) restore(ctx context.Context, master seal.Master) error {
	if err := r.vacant(); err != nil {
		return err
	}
	_, missing := os.Stat(r.cfg.DataDir)
	if err := os.MkdirAll(r.cfg.DataDir, 0o700); err != nil {
		return err
	}
	err := r.in(r.cfg.DataDir, func() error {
		if err := r.unpack(ctx, master); err != nil {
			return err
		}
		if err := r.setFloor(ctx); err != nil {
			return err
		}
		return r.install()
	})
	if err != nil && errors.Is(missing, fs.ErrNotExist) {
		_ = os.Remove(r.cfg.DataDir) // if it is as empty as we made it
	}
	return err
}

// in runs fn with a directory of its own below dir.
func (r *restoration) in(dir string, fn func() error) (err error) {
	if r.temp, err = os.MkdirTemp(dir, ".restore-*"); err != nil { // mode 0700
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(r.temp)) }()
	return fn()
}

// vacant refuses where there is a gateway's data already, or anything else that
// has the name of it. An empty folder of an audit log is none. Whatever comes
// there later install sees.
func (r *restoration) vacant() error {
	switch _, err := os.Lstat(r.cfg.DatabaseFile()); {
	case err == nil:
		return thereAlready("the database " + r.cfg.DatabaseFile())
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	logs := auditDir(r.cfg)
	info, err := os.Lstat(logs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return err
	case !info.IsDir():
		return thereAlready(logs + ", which is no folder,")
	}
	entries, err := os.ReadDir(logs)
	if err == nil && len(entries) > 0 {
		err = thereAlready("the audit log " + logs)
	}
	return err
}

func thereAlready(what string) error {
	return &admin.Problem{Problem: what + " is there already", Hint: "nothing was changed; restore into another data_dir, or move that one away"}
}

// unpack unpacks the archive and proves what is in it.
func (r *restoration) unpack(ctx context.Context, master seal.Master) error {
	a, err := r.extract(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", r.file, err)
	}
	r.result = proof{Made: a.Made, Program: a.Program, Bytes: a.bytes()}
	log, err := r.proveDatabase(ctx, a, master)
	if err == nil {
		err = r.proveAudit(ctx, log)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", r.file, err)
	}
	return nil
}

func (r *restoration) extract(ctx context.Context) (archive, error) {
	f, err := os.Open(r.file)
	if err != nil {
		return archive{}, err
	}
	defer f.Close()
	room, err := r.room(f)
	if err != nil {
		return archive{}, err
	}
	compressed, err := gzip.NewReader(f)
	if err != nil {
		return archive{}, unsound(err)
	}
	if err := os.Mkdir(filepath.Join(r.temp, "audit"), 0o700); err != nil {
		return archive{}, err
	}
	return readArchive(compressed, func(name string, size int64, content io.Reader) error {
		if err := room.take(size); err != nil {
			return err
		}
		out, err := os.OpenFile(r.unpacked(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, interruptible{ctx, content})
		return errors.Join(err, out.Sync(), out.Close())
	})
}

const (
	// maxExpansion is how many times its size a backup may be unpacked. A fresh
	// database of half-empty pages comes to ten, one in use to less; gzip goes to a
	// thousand.
	maxExpansion = 100
	// minRoom is what the smallest may be unpacked to even so.
	minRoom = 64 << 20
)

// room is how many bytes may still be unpacked.
type room struct {
	dir            string
	expected, free int64
}

func (r *restoration) room(f *os.File) (*room, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	var disk unix.Statfs_t
	if err := unix.Statfs(r.temp, &disk); err != nil {
		return nil, err
	}
	block := uint64(max(1, disk.Bsize))
	return &room{
		dir:      filepath.Dir(r.temp),
		expected: max(minRoom, min(info.Size(), math.MaxInt64/maxExpansion)*maxExpansion),
		free:     int64(min(disk.Bavail, math.MaxInt64/block) * block),
	}, nil
}

// take is asked before a file of that size is unpacked.
func (r *room) take(size int64) error {
	if r.expected -= size; r.expected < 0 {
		return unsound(errors.New("it would be unpacked to far more than a backup of its size holds"))
	}
	if r.free -= size; r.free < 0 {
		return &admin.Problem{
			Problem: fmt.Sprintf("there is no room to unpack it in %s: %d bytes are missing for its first files", r.dir, -r.free),
			Hint:    "nothing was changed; make room there",
		}
	}
	return nil
}

// interruptible is a reader for as long as its context lasts.
type interruptible struct {
	ctx context.Context
	r   io.Reader
}

func (i interruptible) Read(p []byte) (int, error) {
	if err := i.ctx.Err(); err != nil {
		return 0, err
	}
	return i.r.Read(p)
}

// unpacked is where the archive's file name was unpacked to.
func (r *restoration) unpacked(name string) string {
	return filepath.Join(r.temp, filepath.FromSlash(path.Clean(name)))
}

// proveDatabase opens the database (which checks its structure), its data keys,
// the seal over the manifest, and every sealed value. It returns what the
// database knows of the audit log.
func (r *restoration) proveDatabase(ctx context.Context, a archive, master seal.Master) (log audit.Check, err error) {
	db, err := bolt.Open(r.unpacked(archivedDatabase), bolt.Options{MustExist: true})
	if err != nil {
		return log, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	box, err := seal.Open(ctx, db, master)
	if errors.Is(err, seal.ErrWrongMaster) {
		return log, &admin.Problem{
			Problem: r.file + " was made under another master key than " + r.cfg.MasterKeyFile,
			Hint:    "put the one of that time in its place; nothing was changed",
		}
	}
	if err != nil {
		return log, err
	}
	sum, err := box.Open(manifestRecord, manifestPurpose, a.seal)
	if err != nil || !bytes.Equal(sum, a.sum) {
		return log, unsound(errors.New("it was changed after it was made, or put together by somebody without the gateway's keys"))
	}
	trial := &seal.Trial{Box: box}
	if err := seal.Prove(ctx, db, sealedRecords(trial)); err != nil {
		return log, err
	}
	r.result.Sealed = trial.Opened
	state, err := readAuditState(ctx, db, box)
	if err != nil {
		return log, err
	}
	// The oldest files may have been put away before the backup was made.
	return audit.Check{Key: state.key().Public().(ed25519.PublicKey), Head: state.secret.Head, Archived: true}, nil
}

func (r *restoration) proveAudit(ctx context.Context, against audit.Check) error {
	report, err := audit.Verify(ctx, r.unpacked(archivedAudit), against)
	if err != nil {
		return fmt.Errorf("its audit log: %w", err)
	}
	r.result.Entries = report.Entries
	return nil
}

// setFloor keeps codes from being accepted that were used after the backup: none
// from before now is. All is proved by now: what was used at the other machine in
// the meantime is from before as well.
func (r *restoration) setFloor(ctx context.Context) (err error) {
	db, err := bolt.Open(r.unpacked(archivedDatabase), bolt.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	now := time.Now()
	clock, err := verifier.ReadClock(ctx, db, now)
	if err != nil {
		return err
	}
	if err := r.checkClock(clock); err != nil {
		return err
	}
	if made := r.result.Made; made.After(now) && made.Sub(now) <= verifier.MaxClockAhead {
		now = made
	}
	if err := errors.Join(verifier.SetFloor(ctx, db, now), oidc.SetFloor(ctx, db, now)); err != nil {
		return err
	}
	clock, err = verifier.ReadClock(ctx, db, time.Now())
	r.result.Floor, r.result.ClockBehind = clock.Floor, clock.Behind() > verifier.MaxClockAhead
	return err
}

// checkClock refuses to restore from the future, unless a person says which of
// the two clocks is wrong. If it is this machine's, the floor would be too low:
// once the clock is put right, used codes would be accepted again.
func (r *restoration) checkClock(c verifier.ClockInfo) error {
	latest := c.Highest
	if r.result.Made.After(latest) {
		latest = r.result.Made
	}
	if r.clockIsRight || latest.Sub(c.Now) <= verifier.MaxClockAhead {
		return nil
	}
	return &admin.Problem{
		Problem: fmt.Sprintf("%s knows of something at %s, and this machine's clock shows %s", r.file, when(latest), when(c.Now)),
		Hint: "set the clock right and restore again; if it is right, and the other machine's was ahead, restore with --clock-is-right " +
			"and run otpgate clock accept once the gateway runs; nothing was changed",
	}
}

// install gives the audit log and then the database their names. The database
// last: a gateway that starts between finds none, and no log without its end. If
// it can't be given its name, the log loses its own again.
func (r *restoration) install() error {
	logs := auditDir(r.cfg)
	if err := durable.SyncDir(r.unpacked(archivedAudit)); err != nil {
		return err
	}
	before, _ := os.Lstat(logs)
	// rename(2) puts it in place of an empty folder, and of nothing else.
	switch err := unix.Rename(r.unpacked(archivedAudit), logs); {
	case errors.Is(err, unix.EBUSY):
		return &admin.Problem{
			Problem: logs + " is a mount point, and can't be replaced",
			Hint:    "nothing was changed; unmount it, restore, and move the files there after that",
		}
	case errors.Is(err, unix.EEXIST), errors.Is(err, unix.ENOTEMPTY), errors.Is(err, unix.ENOTDIR):
		return thereAlready("the audit log " + logs)
	case err != nil:
		return fmt.Errorf("the audit log %s: %w", logs, err)
	}
	if err := os.Link(r.unpacked(archivedDatabase), r.cfg.DatabaseFile()); err != nil {
		if errors.Is(err, fs.ErrExist) {
			err = thereAlready("the database " + r.cfg.DatabaseFile())
		}
		return r.takeBack(logs, before, err)
	}
	r.result.Restored = true
	return durable.SyncDir(r.cfg.DataDir)
}

// takeBack takes the audit log's name away again, where before stood, and returns
// err with what went wrong there.
func (r *restoration) takeBack(logs string, before fs.FileInfo, err error) error {
	back := os.Rename(logs, r.unpacked(archivedAudit))
	if back == nil && before != nil {
		back = os.Mkdir(logs, before.Mode().Perm())
	}
	if back != nil {
		return &admin.Problem{
			Problem: fmt.Sprintf("the database can't be put in its place (%v), nor the restored audit log %s be taken away (%v)", err, logs, back),
			Hint:    "remove that folder before you restore again",
		}
	}
	return err
}
