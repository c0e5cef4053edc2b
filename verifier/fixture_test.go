package verifier_test

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// gate is a verifier over a real database, with a clock and a log that the
// test holds.
type gate struct {
	*verifier.Verifier
	t     testing.TB
	log   *memoryLog
	now   time.Time
	keys  map[string][]byte // by serial
	path  string
	db    *bolt.Store
	kek   seal.Master
	lines bytes.Buffer // the log
}

func newGate(t testing.TB) *gate {
	dir := memoryDir(t)
	master, err := seal.CreateMaster(filepath.Join(dir, "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	g := &gate{
		t: t, log: &memoryLog{}, keys: map[string][]byte{}, path: filepath.Join(dir, "otpgate.db"), kek: master,
		now: time.Date(2026, 11, 22, 14, 5, 9, 0, time.UTC),
	}
	params := func(period int) otp.Params {
		return otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: period}
	}
	g.Verifier = &verifier.Verifier{
		Audit: g.log,
		Realms: map[string]verifier.Realm{
			"retail": {ID: "retail", OTP: params(60), Lockout: verifier.Lockout{Consecutive: 10}},
			"staff":  {ID: "staff", OTP: params(30), Lockout: verifier.Lockout{Consecutive: 10}},
		},
		Now:     func() time.Time { return g.now },
		Log:     slog.New(slog.NewTextHandler(&g.lines, nil)),
		Metrics: verifier.NewMetrics(prometheus.NewRegistry()),
	}
	g.open()
	t.Cleanup(g.close)
	return g
}

// memoryDir is a directory in memory, where there is one: these tests are about
// decisions, and what needs a disk is tested in store/bolt and cmd.
func memoryDir(t testing.TB) string {
	if info, err := os.Stat("/dev/shm"); err != nil || !info.IsDir() {
		return t.TempDir()
	}
	dir, err := os.MkdirTemp("/dev/shm", "otpgate-test-")
	if err != nil {
		return t.TempDir()
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

func (g *gate) open() {
	g.t.Helper()
	db, err := bolt.Open(g.path, bolt.Options{})
	if err != nil {
		g.t.Fatal(err)
	}
	box, err := seal.Open(g.t.Context(), db, g.kek)
	if err != nil {
		g.t.Fatal(err)
	}
	g.db, g.Records, g.Seal = db, db, box
}

func (g *gate) close() {
	if err := g.db.Close(); err != nil && !errors.Is(err, store.ErrClosed) {
		g.t.Error(err)
	}
}

func (g *gate) reopen() {
	g.t.Helper()
	g.must(g.db.Close())
	g.open()
}

func (g *gate) advance(d time.Duration) { g.now = g.now.Add(d) }

// because is a clerk who gives that reason.
func because(reason string) verifier.By { return verifier.By{Who: "clerk", Reason: reason} }

func (g *gate) addUser(name string) {
	g.t.Helper()
	_, _, err := g.AddUser(g.t.Context(), because(""), "retail", name)
	g.must(err)
}

// newToken makes a user with a token in service.
func (g *gate) newToken(user, serial string) {
	g.t.Helper()
	g.addUser(user)
	g.create(verifier.NewToken{Realm: "retail", User: user, Serial: serial, InService: true})
}

func (g *gate) create(n verifier.NewToken) verifier.Token {
	g.t.Helper()
	if n.Params == (otp.Params{}) {
		n.Params = g.Realms[n.Realm].OTP
	}
	if n.Key == nil && n.Carrier == "" { // the same in each run: a test can't be unlucky
		sum := sha256.Sum256([]byte(n.Serial))
		n.Key = sum[:20]
	}
	t, key, _, err := g.CreateToken(g.t.Context(), because(""), n)
	g.must(err)
	g.keys[t.Serial] = slices.Clone(key)
	return t
}

// code is what a token shows offset steps from now.
func (g *gate) code(serial string, offset int64) string {
	p := g.Realms["retail"].OTP
	return otp.NewGenerator(g.keys[serial], p).Code(p.Step(g.now) + offset)
}

// wrong is a code that none of the tokens shows, nor will be looked for.
func (g *gate) wrong(serials ...string) string {
	for n := range 1000 {
		code, shown := fmt.Sprintf("%06d", n), false
		for _, s := range serials {
			for offset := int64(-200); offset <= 200; offset++ {
				shown = shown || g.code(s, offset) == code
			}
		}
		if !shown {
			return code
		}
	}
	panic("a token shows a thousand codes in a few hours")
}

func (g *gate) try(user, typed string) (verifier.Result, error) {
	return g.Verify(g.t.Context(), verifier.Attempt{
		Realm: "retail", User: user, Match: verifier.Typed(typed), Door: "test", Client: "peer",
	})
}

func (g *gate) expect(user, typed string, want verifier.Outcome) verifier.Result {
	g.t.Helper()
	r, err := g.try(user, typed)
	if err != nil || r.Outcome != want {
		g.t.Fatalf("%s typed %q: %v, %v; want %v", user, typed, r.Outcome, err, want)
	}
	return r
}

func (g *gate) account(user string) verifier.Account {
	g.t.Helper()
	a, err := g.Account(g.t.Context(), "retail", user)
	g.must(err)
	return a
}

func (g *gate) unlock(user string) {
	g.t.Helper()
	_, _, err := g.UnlockUser(g.t.Context(), because("form 7"), "retail", user)
	g.must(err)
}

func (g *gate) must(err error) {
	g.t.Helper()
	if err != nil {
		g.t.Fatal(err)
	}
}

func (g *gate) must1(_ any, err error) {
	g.t.Helper()
	g.must(err)
}

func (g *gate) step(_ verifier.Token, _ verifier.Receipt, err error) {
	g.t.Helper()
	g.must(err)
}

// memoryLog is an audit log that can be read, and told to fail.
type memoryLog struct {
	mu      sync.Mutex
	entries []audit.Entry
	fail    error
}

func (l *memoryLog) Append(ctx context.Context, e audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := errors.Join(l.fail, ctx.Err()); err != nil {
		return err
	}
	l.entries = append(l.entries, e)
	return nil
}

func (l *memoryLog) last() audit.Entry {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.entries[len(l.entries)-1]
}

// hookedStore runs a hook before an Update, or fails it.
type hookedStore struct {
	store.Records
	beforeUpdate func(*hookedStore)
	afterUpdate  func()
	fail         error
}

func (s *hookedStore) Update(ctx context.Context, fn func(store.Txn) error) error {
	if s.fail != nil {
		return s.fail
	}
	if s.beforeUpdate != nil {
		s.beforeUpdate(s)
	}
	err := s.Records.Update(ctx, fn)
	if s.afterUpdate != nil {
		s.afterUpdate()
	}
	return err
}

// countingStore counts the records written.
type countingStore struct {
	store.Records
	writes int
}

func (s *countingStore) Update(ctx context.Context, fn func(store.Txn) error) error {
	return s.Records.Update(ctx, func(tx store.Txn) error { return fn(countingTxn{tx, s}) })
}

type countingTxn struct {
	store.Txn
	store *countingStore
}

func (t countingTxn) Put(key string, value []byte) error {
	t.store.writes++
	return t.Txn.Put(key, value)
}
