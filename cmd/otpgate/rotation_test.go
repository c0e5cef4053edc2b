package main

import (
	"bytes"
	"context"
	"encoding/base32"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"otpgate/internal/admin"
	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
)

// Kills in the middle of rotations, under load. Whatever the gateway had
// accepted stays used up, every log-in goes on, and in the end one data key is
// there that seals everything.
func TestKillInARotation(t *testing.T) {
	const (
		kills  = 6
		people = 4
		tokens = 800 // so that a rotation takes some time
	)
	s := newSite(t, "", "")
	p := s.serve(t)
	fill(t, s.client(), tokens)
	gear := s.nas(t)
	for kill := range kills {
		var crowd []*person
		for i := range people {
			name := fmt.Sprintf("user-%d-%d", kill, i)
			crowd = append(crowd, &person{name: name, key: employee(t, s.client(), name), guesser: i%2 == 0})
		}
		if k, err := s.client().Keys(t.Context()); err != nil {
			t.Fatal(err)
		} else if len(k.Old) == 0 {
			if _, err := s.client().RotateKeys(t.Context(), admin.Rotation{}); err != nil {
				t.Fatal(err)
			}
		}
		alive, died := context.WithCancel(t.Context())
		var load sync.WaitGroup
		for _, person := range crowd {
			load.Go(func() { person.logIn(alive, t, gear) })
		}
		time.Sleep(rand.N(60 * time.Millisecond))
		p.kill()
		died()
		load.Wait()
		p = s.serve(t)
		for _, person := range crowd {
			person.check(t, s, gear)
		}
	}
	if out, err := s.otpgate("key", "show", "--wait"); err != nil || !strings.Contains(out, "seals everything") {
		t.Errorf("key show --wait: %v\n%s", err, out)
	}
	if _, err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if n := onlyNewestKey(t, s); n < tokens {
		t.Errorf("%d values are sealed, and there are %d tokens", n, tokens)
	}
}

// Every byte of the database, after writes, a rotation, a release: no token's
// key, no signing key, nothing else that was ever sealed.
func TestNoSecretInTheDatabase(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	secrets := [][]byte{employee(t, s.client(), "taro"), employee(t, s.client(), "hanako")}
	created, err := s.client().CreateToken(t.Context(), admin.NewToken{Realm: "staff", User: "taro"})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.client().RotateKeys(t.Context(), admin.Rotation{}); err != nil {
		t.Fatal(err)
	}
	if out, err := s.otpgate("token", "release", created.Serial, "--reason", "test"); err != nil {
		t.Fatalf("release: %v\n%s", err, out)
	}
	p.kill()
	s.serve(t)
	if out, err := s.otpgate("key", "show", "--wait"); err != nil {
		t.Fatalf("key show --wait: %v\n%s", err, out)
	}
	backup := filepath.Join(s.dir, "one.tar.gz")
	if out, err := s.otpgate("backup", backup); err != nil {
		t.Fatalf("backup: %v\n%s", err, out)
	}
	other := s.elsewhere(t)
	if out, err := other.otpgate("restore", backup); err != nil {
		t.Fatalf("restore: %v\n%s", err, out)
	}
	found := openAll(t, other)
	if len(found) < 4 { // two tokens, a signing key, the audit log's
		t.Errorf("%d sealed values were found", len(found))
	}
	database, err := os.ReadFile(filepath.Join(s.dir, "data", "otpgate.db"))
	if err != nil {
		t.Fatal(err)
	}
	for _, secret := range append(secrets, found...) {
		for _, shown := range forms(secret) {
			if bytes.Contains(database, shown) {
				t.Errorf("the database shows %q", shown)
			}
		}
	}
	if !bytes.Contains(database, []byte("hanako")) {
		t.Error("the file that was searched isn't the database")
	}
}

// fill makes tokens of one user each, as many at once as share a commit.
func fill(t *testing.T, c *admin.Client, tokens int) {
	t.Helper()
	const at = 50
	var all sync.WaitGroup
	for worker := range at {
		all.Go(func() {
			for i := worker; i < tokens; i += at {
				employee(t, c, fmt.Sprintf("someone-%d", i))
			}
		})
	}
	all.Wait()
}

// listener opens what a rotation would renew, and keeps it.
type listener struct {
	box    *seal.Box
	opened [][]byte
}

func (l *listener) Reseal(recordKey, purpose string, sealed []byte) ([]byte, bool, error) {
	plain, err := l.box.Open(recordKey, purpose, sealed)
	l.opened = append(l.opened, plain)
	return sealed, false, err
}

// openAll returns everything that is sealed in the database of a gateway that
// doesn't run.
func openAll(t *testing.T, s site) [][]byte {
	t.Helper()
	db, box := openSealed(t, s)
	l := &listener{box: box}
	if err := seal.Prove(t.Context(), db, sealedRecords(l)); err != nil {
		t.Fatal(err)
	}
	return l.opened
}

func openSealed(t *testing.T, s site) (*bolt.Store, *seal.Box) {
	t.Helper()
	db, err := bolt.Open(filepath.Join(s.dir, "data", "otpgate.db"), bolt.Options{MustExist: true})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = db.Close() })
	master, err := seal.LoadMaster(filepath.Join(s.dir, "data", "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	box, err := seal.Open(t.Context(), db, master)
	if err != nil {
		t.Fatal(err)
	}
	return db, box
}

// onlyNewestKey checks that one data key is left, that everything opens, and
// that no record looks like one that a rotation has passed over: its owner isn't
// in sealedRecords, and what it sealed is lost. It returns the sealed values.
func onlyNewestKey(t *testing.T, s site) int {
	t.Helper()
	db, box := openSealed(t, s)
	var numbers []string
	// A sealed value begins with the number of its data key: 1, in four bytes or
	// in Base64.
	passedOver := regexp.MustCompile(`^\x00\x00\x00\x01[\s\S]{28,}|"AAAAA[Q-Za-f][A-Za-z0-9+/]{30,}`)
	err := db.View(t.Context(), func(r store.Reader) error {
		return r.Scan("", func(key string, value []byte) error {
			if number, ok := strings.CutPrefix(key, store.Prefix("datakey")); ok {
				numbers = append(numbers, number)
			} else if passedOver.Match(value) {
				t.Errorf("record %q is still sealed under data key 1: %q", key, value)
			}
			return nil
		})
	})
	if err != nil || len(numbers) != 1 || numbers[0] == "00000001" {
		t.Errorf("the data keys are %q, %v; want one, and not the first", numbers, err)
	}
	trial := &seal.Trial{Box: box}
	if err := seal.Prove(context.Background(), db, sealedRecords(trial)); err != nil {
		t.Error(err)
	}
	return trial.Opened
}

// forms are the ways in which a secret may stand in a record.
func forms(secret []byte) [][]byte {
	half := secret[:len(secret)/2] // a cut one is one too
	return [][]byte{
		half, []byte(hex.EncodeToString(half)), []byte(strings.ToUpper(hex.EncodeToString(half))),
		[]byte(base64.RawStdEncoding.EncodeToString(secret[:len(secret)/3*3])),
		[]byte(base64.RawURLEncoding.EncodeToString(secret[:len(secret)/3*3])),
		[]byte(base32.StdEncoding.WithPadding(base32.NoPadding).EncodeToString(secret[:len(secret)/5*5])),
	}
}
