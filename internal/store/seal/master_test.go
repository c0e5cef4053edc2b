package seal

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// A kill in the middle of a first start must not leave half a key, which no
// later start could use or replace: the file gets its name when it is whole.
func TestMasterFileAppearsWhole(t *testing.T) {
	dir := t.TempDir()
	fd, err := unix.InotifyInit1(unix.IN_CLOEXEC | unix.IN_NONBLOCK)
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := unix.InotifyAddWatch(fd, dir, unix.IN_CREATE|unix.IN_MOVED_TO|unix.IN_MODIFY); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateMaster(filepath.Join(dir, "master.key")); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 4096)
	n, err := unix.Read(fd, b)
	if err != nil {
		t.Fatal(err)
	}
	named := false
	for b = b[:n]; len(b) > 0; {
		event := (*unix.InotifyEvent)(unsafe.Pointer(&b[0]))
		name := string(bytes.TrimRight(b[unix.SizeofInotifyEvent:unix.SizeofInotifyEvent+event.Len], "\x00"))
		b = b[unix.SizeofInotifyEvent+event.Len:]
		if name != "master.key" {
			continue
		}
		named = true
		if event.Mask&unix.IN_MODIFY != 0 {
			t.Error("the file was written when it had its name already")
		}
	}
	if !named {
		t.Error("the file wasn't seen to appear")
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
		t.Errorf("left behind: %v, %v", left, err)
	}
}

func TestMasterFileIsNeverReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if err := os.WriteFile(path, []byte("what the database needs"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := CreateMaster(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("on an existing file: %v, want ErrExist", err)
	}
	if text, _ := os.ReadFile(path); string(text) != "what the database needs" {
		t.Errorf("the file was changed to %q", text)
	}
	if left, _ := os.ReadDir(filepath.Dir(path)); len(left) != 1 {
		t.Errorf("left behind: %v", left)
	}
}

// Whatever isn't a file of ours alone is refused, and doesn't make us wait.
func TestMasterFileOfAnotherKind(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string) error
		says string
	}{
		"pipe": {func(_ *testing.T, path string) error { return syscall.Mkfifo(path, 0o600) }, "no regular file"},
		"another user's": {func(t *testing.T, path string) error {
			if os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			if _, err := CreateMaster(path); err != nil {
				return err
			}
			return os.Chown(path, 65534, 65534)
		}, "belongs to another user (uid 65534)"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "master.key")
			if err := c.make(t, path); err != nil {
				t.Fatal(err)
			}
			if _, err := LoadMaster(path); !errors.Is(err, ErrMasterFile) || !strings.Contains(err.Error(), c.says) {
				t.Errorf("%v; want ErrMasterFile: %s", err, c.says)
			}
		})
	}
}
