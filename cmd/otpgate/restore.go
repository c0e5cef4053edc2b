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
	"os"
	"path"
	"path/filepath"
	"time"

	"otpgate/config"
	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/oidc"
	"otpgate/verifier"
)

type restoreCmd struct {
	configFlag
	File  string `arg:"" placeholder:"FILE" help:"A backup that otpgate backup has written."`
	Check bool   `help:"Prove the backup, and change nothing: every file, the master key, everything that is sealed, and the audit log. It is unpacked below TMPDIR for that."`
	JSON  bool   `help:"Print JSON."`
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
	r := &restoration{cfg: cfg, file: c.File, now: time.Now()}
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
	cfg  *config.Config
	file string
	now  time.Time

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
}

func (r *restoration) print(w io.Writer, c restoreCmd) error {
	fmt.Fprintf(w, "%s is sound: made %s, %d sealed values open under %s, %d audit entries in one chain\n",
		r.file, when(r.result.Made), r.result.Sealed, r.cfg.MasterKeyFile, r.result.Entries)
	if !r.result.Restored {
		return nil
	}
	_, err := fmt.Fprintf(w, "Restored to %s. Codes from before %s are refused, whatever was used since\nthe backup; a minute or two later each token works again; a counter-based one wants two codes.\nNext: otpgate serve -c %s\n",
		r.cfg.DataDir, when(r.result.Floor), c.Config)
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

// vacant refuses where there is a gateway's data already. An empty folder of an
// audit log is none.
func (r *restoration) vacant() error {
	if exists, err := bolt.Exists(r.cfg.DatabaseFile()); err != nil {
		return err
	} else if exists {
		return thereAlready("the database " + r.cfg.DatabaseFile())
	}
	entries, err := os.ReadDir(auditDir(r.cfg))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if len(entries) > 0 {
		return thereAlready("the audit log " + auditDir(r.cfg))
	}
	return nil
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
	compressed, err := gzip.NewReader(f)
	if err != nil {
		return archive{}, unsound(err)
	}
	if err := os.Mkdir(filepath.Join(r.temp, "audit"), 0o700); err != nil {
		return archive{}, err
	}
	return readArchive(compressed, func(name string, content io.Reader) error {
		out, err := os.OpenFile(r.unpacked(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
		if err != nil {
			return err
		}
		_, err = io.Copy(out, interruptible{ctx, content})
		return errors.Join(err, out.Sync(), out.Close())
	})
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
	state, err := openAuditState(ctx, db, box)
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
// from before now is.
func (r *restoration) setFloor(ctx context.Context) (err error) {
	db, err := bolt.Open(r.unpacked(archivedDatabase), bolt.Options{MustExist: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	r.result.Floor = r.now
	if r.result.Made.After(r.now) {
		r.result.Floor = r.result.Made
	}
	if err := verifier.SetFloor(ctx, db, r.result.Floor); err != nil {
		return err
	}
	return oidc.SetFloor(ctx, db, r.result.Floor)
}

// install gives the audit log and then the database their names. The database
// last: a gateway that starts between finds none, and no log without its end.
func (r *restoration) install() error {
	logs := auditDir(r.cfg)
	if err := os.Remove(logs); err != nil && !errors.Is(err, fs.ErrNotExist) { // empty, or this fails
		return thereAlready("the audit log " + logs)
	}
	if err := os.Rename(r.unpacked(archivedAudit), logs); err != nil {
		return err
	}
	if err := syncDir(logs); err != nil {
		return err
	}
	switch err := os.Link(r.unpacked(archivedDatabase), r.cfg.DatabaseFile()); {
	case errors.Is(err, fs.ErrExist):
		return thereAlready("the database " + r.cfg.DatabaseFile())
	case err != nil:
		return err
	}
	r.result.Restored = true
	return syncDir(r.cfg.DataDir)
}
