package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	encbinary "encoding/binary"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	codec "layeh.com/radius"

	"otpgate/config"
	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
)

// backedUp is a site that has stopped, and a backup of it.
func backedUp(t *testing.T) (s site, backup string) {
	t.Helper()
	s = newSite(t, "", "")
	p := s.serve(t)
	employee(t, s.client(), "taro")
	backup = filepath.Join(s.dir, "one.tar.gz")
	if out, err := s.otpgate("backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	p.kill()
	return s, backup
}

// Whatever has a name that the restore needs is in its way, and stays as it is.
func TestRestoreBesideSomething(t *testing.T) {
	s, backup := backedUp(t)
	elsewhere := t.TempDir()
	for name, c := range map[string]struct {
		prepare func(data string) error
		want    string
	}{
		"a database that leads nowhere": {func(data string) error { return os.Symlink("/nowhere", data+"/otpgate.db") }, "otpgate.db is there already: nothing was changed"},
		"an audit log elsewhere":        {func(data string) error { return os.Symlink(elsewhere, data+"/audit") }, "audit, which is no folder, is there already: nothing was changed"},
		"an audit log nowhere":          {func(data string) error { return os.Symlink("/nowhere", data+"/audit") }, "audit, which is no folder, is there already: nothing was changed"},
		"a file for an audit log":       {func(data string) error { return os.WriteFile(data+"/audit", nil, 0o600) }, "audit, which is no folder, is there already: nothing was changed"},
		"an audit log with a file": {func(data string) error {
			return errors.Join(os.Mkdir(data+"/audit", 0o700), os.WriteFile(data+"/audit/x", nil, 0o600))
		}, "audit is there already: nothing was changed"},
		"a mounted audit log": {func(data string) error {
			err := os.Mkdir(data+"/audit", 0o700)
			if err == nil {
				err = unix.Mount(elsewhere, data+"/audit", "", unix.MS_BIND, "")
				t.Cleanup(func() { _ = unix.Unmount(data+"/audit", 0) })
			}
			return err
		}, "audit is a mount point, and can't be replaced: nothing was changed"},
	} {
		t.Run(name, func(t *testing.T) {
			other := s.elsewhere(t)
			if err := c.prepare(filepath.Join(other.dir, "data")); errors.Is(err, unix.EPERM) {
				t.Skip(err)
			} else if err != nil {
				t.Fatal(err)
			}
			before := listing(t, other.dir)
			if out, err := other.otpgate("restore", backup); err == nil || !strings.Contains(out, c.want) {
				t.Errorf("%v\n%s\nwant %s", err, out, c.want)
			}
			if after := listing(t, other.dir); after != before {
				t.Errorf("before:\n%s\nafter:\n%s", before, after)
			}
		})
	}
}

// A database that comes into being behind the first look is left alone, and the
// audit log isn't left beside it.
func TestRestoreIsOvertaken(t *testing.T) {
	for name, emptyFolder := range map[string]bool{"with an audit folder": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			r := &restoration{cfg: &config.Config{DataDir: dir}}
			if emptyFolder {
				if err := os.Mkdir(auditDir(r.cfg), 0o750); err != nil {
					t.Fatal(err)
				}
			}
			err := r.in(dir, func() error {
				if err := errors.Join(
					os.Mkdir(r.unpacked(archivedAudit), 0o700),
					os.WriteFile(r.unpacked(archivedAudit+"heads.jsonl"), []byte("x"), 0o600),
					os.WriteFile(r.unpacked(archivedDatabase), []byte("restored"), 0o600),
					r.vacant(),
					os.WriteFile(r.cfg.DatabaseFile(), []byte("another's"), 0o600),
				); err != nil {
					t.Fatal(err)
				}
				return r.install()
			})
			if err == nil || !strings.Contains(err.Error(), "otpgate.db is there already: nothing was changed") {
				t.Errorf("%v", err)
			}
			content, err := os.ReadFile(r.cfg.DatabaseFile())
			if err != nil || string(content) != "another's" {
				t.Errorf("the database holds %q, %v", content, err)
			}
			files, err := os.ReadDir(auditDir(r.cfg))
			if emptyFolder != (err == nil) || len(files) > 0 {
				t.Errorf("the audit folder: %v, %v", files, err)
			}
		})
	}
}

// What is small as a file and endless on the disk is refused before it is
// written.
func TestRestoreRefusesABomb(t *testing.T) {
	s, _ := backedUp(t)
	other := s.elsewhere(t)
	before := listing(t, other.dir)
	const size = 200 << 20
	zeros := func(w *tar.Writer, h *tar.Header) error {
		h.Typeflag, h.Mode = tar.TypeReg, 0o600
		err := w.WriteHeader(h)
		if err == nil {
			_, err = io.CopyN(w, zeroes{}, h.Size)
		}
		return err
	}
	for name, c := range map[string]struct {
		write func(*tar.Writer) error
		want  string
	}{
		"zeros": {func(w *tar.Writer) error { return zeros(w, &tar.Header{Name: archivedDatabase, Size: size}) }, "far more than a backup of its size holds"},
		"an endless audit file": {func(w *tar.Writer) error {
			return errors.Join(
				zeros(w, &tar.Header{Name: archivedDatabase, Size: 10}),
				zeros(w, &tar.Header{Name: archivedAudit + "audit-000002.jsonl", Size: maxAuditFileBytes + 1}))
		}, "more than a file of the audit log"},
	} {
		file := filepath.Join(s.dir, "bomb.tar.gz")
		var out bytes.Buffer
		packed := gzip.NewWriter(&out)
		w := tar.NewWriter(packed)
		if err := errors.Join(c.write(w), w.Close(), packed.Close(), os.WriteFile(file, out.Bytes(), 0o600)); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"restore", file}, {"restore", "--check", file}} {
			said, err := other.otpgate(args...)
			if err == nil || !strings.Contains(said, c.want) || !strings.Contains(said, "it is no sound backup") {
				t.Errorf("%s: %v\n%s", name, err, said)
			}
		}
	}
	if after := listing(t, other.dir); after != before {
		t.Errorf("left\n%s", after)
	}
}

type zeroes struct{}

func (zeroes) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// A backup may be larger than what is free, or than its size allows: both are
// asked before a byte is written.
func TestRoomToUnpack(t *testing.T) {
	r := room{dir: "/data", expected: 100, free: 80}
	if err := r.take(60); err != nil {
		t.Error(err)
	}
	if err := r.take(30); err == nil || errors.Is(err, errArchive) || !strings.Contains(err.Error(), "no room to unpack it in /data: 10 bytes") {
		t.Errorf("more than is free: %v", err)
	}
	if err := r.take(30); !errors.Is(err, errArchive) {
		t.Errorf("more than expected: %v", err)
	}
}

// A backup of a gateway whose clock was ahead: nobody knows which clock is wrong,
// so a person says so, twice.
func TestRestoreFromTheFuture(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	key := employee(t, s.client(), "taro")
	p.kill()
	ahead := time.Now().AddDate(10, 0, 0)
	setClockRecord(t, s, ahead)
	p = s.serveBehind(t)
	backup := filepath.Join(s.dir, "one.tar.gz")
	if out, err := s.otpgate("backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	p.kill()

	other := s.elsewhere(t)
	before := listing(t, other.dir)
	out, err := other.otpgate("restore", backup)
	if err == nil || !strings.Contains(out, "knows of something at "+when(ahead)) || !strings.Contains(out, "otpgate clock accept") {
		t.Errorf("%v\n%s", err, out)
	}
	if after := listing(t, other.dir); after != before {
		t.Errorf("left\n%s", after)
	}
	begun := time.Now()
	out, err = other.otpgate("restore", "--clock-is-right", backup)
	if err != nil || !strings.Contains(out, "otpgate clock accept --reason") || !strings.Contains(out, "otpgate token resync") {
		t.Fatalf("%v\n%s", err, out)
	}
	other.serveBehind(t)
	gear := other.nas(t)
	if reply, err := gear.ask("taro", codeNow(key, 30, 0)); err == nil && reply == codec.CodeAccessAccept {
		t.Errorf("accepted under a clock that is behind: %v", reply)
	}
	k, err := other.client().Clock(t.Context())
	if err != nil || k.Accepting || k.BehindSeconds < 9*365*24*3600 || k.Floor.Before(begun.Truncate(time.Second)) || k.Floor.After(time.Now()) {
		t.Errorf("%+v, %v", k, err)
	}
	if out, err := other.otpgate("clock", "show"); err != nil || !strings.Contains(out, "nobody passes") || !strings.Contains(out, when(ahead)) {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := other.otpgate("clock", "accept"); err == nil || !strings.Contains(out, "--reason") {
		t.Errorf("without a reason: %v\n%s", err, out)
	}
	if out, err := other.otpgate("clock", "accept", "--reason", "the old machine was ten years ahead", "--form", "F7"); err != nil || !strings.Contains(out, "receipt ") {
		t.Errorf("%v\n%s", err, out)
	}
	if err := other.ready(nil); err != nil {
		t.Error(err)
	}
	if out, err := other.otpgate("audit", "tail"); err != nil || !strings.Contains(out, "ten years ahead (form F7)") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := other.otpgate("clock", "show", "--json"); err != nil || !strings.Contains(out, `"behind_seconds":0,"accepting":true`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// setClockRecord makes a stopped gateway's database say that something was
// decided at that time.
func setClockRecord(t *testing.T, s site, at time.Time) {
	t.Helper()
	inDatabase(t, s, func(tx store.Txn) error {
		return tx.Put(store.Key("clock"), encbinary.BigEndian.AppendUint64(nil, uint64(at.Unix())))
	})
}

// inDatabase changes a stopped gateway's database.
func inDatabase(t *testing.T, s site, fn func(store.Txn) error) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(s.dir, "data", "otpgate.db"), bolt.Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(db.Update(t.Context(), fn), db.Close()); err != nil {
		t.Fatal(err)
	}
}

// serveBehind starts a gateway that isn't ready, as its clock is behind.
func (s site) serveBehind(t *testing.T) *process {
	t.Helper()
	p := &process{cmd: exec.Command(binary, "serve", "-c", s.config), done: make(chan error, 1)}
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { p.done <- p.cmd.Wait() }()
	t.Cleanup(p.kill)
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		if k, err := s.client().Clock(t.Context()); err == nil {
			if k.Accepting {
				t.Error("it accepts under a clock that is behind")
			}
			return p
		}
	}
	t.Fatal("the gateway doesn't answer after 20 s")
	return nil
}
