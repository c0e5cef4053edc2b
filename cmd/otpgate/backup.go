package main

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/internal/durable"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
)

type backupCmd struct {
	daemonFlags
	File string `arg:"" placeholder:"FILE" help:"The file to write, such as otpgate-2026-11-24.tar.gz; it must not be there yet."`
}

// Run takes a backup of the running gateway. The file has its name only when it
// is whole and on the disk.
func (c backupCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	if _, err := os.Lstat(c.File); err == nil {
		return backupThere(c.File)
	}
	f, err := os.CreateTemp(filepath.Dir(c.File), "."+filepath.Base(c.File)+".part-*") // mode 0600
	if err != nil {
		return err
	}
	defer func() { _ = os.Remove(f.Name()) }() // a whole backup has a second name by then
	a, err := receive(ctx, client, f)
	if err = errors.Join(err, f.Close()); err != nil {
		return err
	}
	if err := os.Link(f.Name(), c.File); errors.Is(err, fs.ErrExist) {
		return backupThere(c.File)
	} else if err != nil {
		return err
	}
	if err := durable.SyncDir(filepath.Dir(c.File)); err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, a.manifest)
	}
	_, err = fmt.Fprintf(term.out, "%s: the database and %d audit files, as of %s\n"+
		"It doesn't hold the master key, gateway.yaml or the files that names: keep those apart from it.\n"+
		"Prove it: otpgate restore --check %s\n", c.File, len(a.Files)-1, when(a.Made), c.File)
	return err
}

func backupThere(path string) error {
	return &admin.Problem{Problem: path + " is there already", Hint: "it was left as it is; choose another name"}
}

// receive writes what the gateway sends to f, compressed, and reads along: what
// was cut off or changed on the way is an error.
func receive(ctx context.Context, client *admin.Client, f *os.File) (a archive, err error) {
	compressed, err := gzip.NewWriterLevel(f, gzip.BestSpeed) // most of it is sealed, and can't be made smaller
	if err != nil {
		return a, err
	}
	err = client.Backup(ctx, func(r io.Reader) error {
		a, err = readArchive(io.TeeReader(r, compressed), func(string, int64, io.Reader) error { return nil })
		return err
	})
	return a, errors.Join(err, compressed.Close(), f.Sync())
}

// backups makes backups of the running gateway, one at a time.
type backups struct {
	db   *bolt.Store
	seal *seal.Box
	log  *audit.Log
	dir  string // of log
	now  func() time.Time
	busy sync.Mutex
}

func (g *gateway) newBackups() *backups {
	return &backups{db: g.data.db, seal: g.data.seal, log: g.data.audit, dir: auditDir(g.cfg), now: time.Now}
}

// Backup implements admin.Backups. The order makes the log at least as long as
// the database says it is, and as its own signed heads say.
func (b *backups) Backup(ctx context.Context, by string, w io.Writer) (err error) {
	if !b.busy.TryLock() {
		return &verifier.Refusal{Problem: "another backup is being made", Hint: "wait for its end"}
	}
	defer b.busy.Unlock()
	// Who takes a copy of everything is on record before the first byte leaves.
	begun := audit.Entry{Event: "backup", Outcome: "begun", Door: "admin", Client: by}
	if err := b.log.Append(ctx, begun); err != nil {
		return err
	}
	if err := b.firstHead(ctx); err != nil {
		return err
	}
	box := b.seal.Frozen() // before the snapshot: a later data key isn't in it
	a := newArchiveWriter(w, b.now(), version())
	if err = b.db.Snapshot(ctx, func(size int64, content io.WriterTo) error {
		return a.add(archivedDatabase, size, content)
	}); err != nil {
		return err
	}
	if err := addAudit(ctx, a, b.dir); err != nil {
		return err
	}
	if err := a.finish(func(sum []byte) []byte { return box.Seal(manifestRecord, manifestPurpose, sum) }); err != nil {
		return err
	}
	done := audit.Entry{Event: "backup", Outcome: "done", Door: "admin", Client: by, Detail: fmt.Sprintf("%d bytes", a.manifest.bytes())}
	return b.log.Append(context.WithoutCancel(ctx), done)
}

// firstHead waits until a young log's first entries are signed for: without a
// head nothing would prove the copy.
func (b *backups) firstHead(ctx context.Context) error {
	for b.log.Head().Seq == 0 {
		if err := b.log.Err(); err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// addAudit adds the audit log. It only grows, each file and the row of files, so
// what speaks of the entries (signed heads) comes first, and then the entries.
func addAudit(ctx context.Context, a *archiveWriter, dir string) error {
	isLog := func(name string) bool { return strings.HasPrefix(name, "audit-") }
	for _, log := range []bool{false, true} {
		files, err := os.ReadDir(dir)
		if err != nil {
			return err
		}
		for _, d := range files {
			if err := ctx.Err(); err != nil {
				return err
			}
			if !d.Type().IsRegular() || isLog(d.Name()) != log || !auditFileName.MatchString(archivedAudit+d.Name()) {
				continue
			}
			if err := addLines(a, archivedAudit+d.Name(), filepath.Join(dir, d.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// addLines adds a file that may be growing, up to its last whole line.
func addLines(a *archiveWriter, name, path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	end, err := lastLineEnd(f, info.Size())
	if err != nil {
		return err
	}
	return a.add(name, end, sectionWriter{io.NewSectionReader(f, 0, end)})
}

// lastLineEnd is where the last whole line of a file of the given size ends.
func lastLineEnd(f io.ReaderAt, size int64) (int64, error) {
	block := make([]byte, 64<<10)
	for end := size; end > 0; {
		b := block[:min(end, int64(len(block)))]
		start := end - int64(len(b))
		if _, err := f.ReadAt(b, start); err != nil {
			return 0, err
		}
		if i := bytes.LastIndexByte(b, '\n'); i >= 0 {
			return start + int64(i) + 1, nil
		}
		end = start
	}
	return 0, nil
}

type sectionWriter struct{ *io.SectionReader }

// WriteTo implements io.WriterTo.
func (s sectionWriter) WriteTo(w io.Writer) (int64, error) {
	return io.CopyN(w, s.SectionReader, s.Size())
}
