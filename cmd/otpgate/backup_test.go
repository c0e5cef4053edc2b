package main

import (
	"bytes"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	codec "layeh.com/radius"
)

// otpgate runs the program and returns what it printed.
func (s site) otpgate(args ...string) (string, error) {
	out, err := exec.Command(binary, append(args, "-c", s.config)...).CombinedOutput()
	return string(out), err
}

func (s site) nas(t testing.TB) nas {
	t.Helper()
	secret, err := os.ReadFile(filepath.Join(s.dir, "data", "vpn.secret"))
	if err != nil {
		t.Fatal(err)
	}
	return nas{address: s.radius, secret: []byte(strings.TrimSpace(string(secret)))}
}

// elsewhere is another machine, with the secrets of this one but no data.
func (s site) elsewhere(t testing.TB) site {
	t.Helper()
	other := newSite(t, "", "")
	if err := os.Mkdir(filepath.Join(other.dir, "data"), 0o700); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"master.key", "vpn.secret"} {
		content, err := os.ReadFile(filepath.Join(s.dir, "data", name))
		if err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(other.dir, "data", name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return other
}

// A backup under load, restored elsewhere. What the first gateway has accepted,
// before the backup or after it, the second refuses. (That later codes pass is in
// the verifier's tests, which have a clock to set.)
func TestBackupUnderLoad(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	gear := s.nas(t)
	var crowd []*person
	var quiet [2]*person
	for i := range 4 {
		crowd = append(crowd, &person{name: fmt.Sprintf("busy-%d", i), key: employee(t, s.client(), fmt.Sprintf("busy-%d", i)), guesser: i%2 == 0})
	}
	for i := range quiet {
		name := fmt.Sprintf("quiet-%d", i)
		quiet[i] = &person{name: name, key: employee(t, s.client(), name)}
	}
	used := map[string]string{} // code that the first gateway has accepted, by who typed it
	logIn := func(p *person) {
		code := codeNow(p.key, 30, 0)
		if reply, err := gear.ask(p.name, code); err != nil || reply != codec.CodeAccessAccept {
			t.Errorf("%s before: %v, %v", p.name, reply, err)
		}
		used[p.name] = code
	}
	logIn(quiet[0])
	backup := filepath.Join(s.dir, "one.tar.gz")
	var load sync.WaitGroup
	for _, person := range crowd {
		load.Go(func() { person.logIn(t.Context(), t, gear) })
	}
	out, err := s.otpgate("backup", backup)
	load.Wait()
	if err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	logIn(quiet[1]) // after the backup: in no record of it
	if info, err := os.Stat(backup); err != nil || info.Mode() != 0o600 {
		t.Errorf("the backup's mode: %v, %v", info, err)
	}
	p.kill()

	other := s.elsewhere(t)
	if out, err := other.otpgate("restore", backup); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	other.serve(t)
	gear = other.nas(t)
	for who, code := range used {
		if reply, err := gear.ask(who, code); err != nil || reply != codec.CodeAccessReject {
			t.Errorf("%s, with the code that was accepted before: %v, %v", who, reply, err)
		}
	}
	for _, p := range crowd {
		if !p.guesser {
			p.check(t, other, gear)
		}
	}
	employee(t, other.client(), "saburo") // it takes writes
}

// A backup that was damaged, or put together by somebody else, is refused, and
// nothing is left behind.
func TestRestoreRefuses(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	employee(t, s.client(), "taro")
	backup := filepath.Join(s.dir, "one.tar.gz")
	if out, err := s.otpgate("backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	p.kill()
	whole, err := os.ReadFile(backup)
	if err != nil {
		t.Fatal(err)
	}
	other := s.elsewhere(t)
	before := listing(t, other.dir)
	bad := filepath.Join(s.dir, "bad.tar.gz")
	refused := func(name string, content []byte) {
		t.Helper()
		if err := os.WriteFile(bad, content, 0o600); err != nil {
			t.Fatal(err)
		}
		for _, args := range [][]string{{"restore", bad}, {"restore", "--check", bad}} {
			if out, err := other.otpgate(args...); err == nil || !strings.Contains(out, "it is no sound backup") {
				t.Errorf("%s: %s: %v\n%s", args[:len(args)-1], name, err, out)
			}
		}
		if after := listing(t, other.dir); after != before {
			t.Errorf("%s left\n%s", name, after)
		}
	}
	refused("empty", nil)
	for _, part := range []int{1, 2, 3, 4, 5, 6, 7} {
		at := len(whole) * part / 8
		changed := bytes.Clone(whole)
		changed[at] ^= 0x10
		refused(fmt.Sprintf("byte %d changed", at), changed)
		refused(fmt.Sprintf("cut to %d bytes", at), whole[:at])
	}
	refused("its last byte missing", whole[:len(whole)-1])
	if out, err := other.otpgate("restore", backup); err != nil {
		t.Errorf("the sound one: %v\n%s", err, out)
	}
}

// listing names every file below dir, with its size.
func listing(t *testing.T, dir string) string {
	t.Helper()
	var list strings.Builder
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		fmt.Fprintln(&list, path, info.Mode(), info.Size())
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return list.String()
}
