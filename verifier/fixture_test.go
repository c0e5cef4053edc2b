package verifier_test

import (
	"context"
	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
	"otpgate/verifier/otp"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// gate is a verifier over a real database, with a clock and a log that the
// test holds.
type gate struct {
	*verifier.Verifier
	t    *testing.T
	log  *memoryLog
	now  time.Time
	keys map[string][]byte // by serial
	path string
	db   *bolt.Store
	kek  seal.Master
}

func newGate(t *testing.T) *gate {
	dir := t.TempDir()
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
		Now:   func() time.Time { return g.now },
		Tries: verifier.NewTries(prometheus.NewRegistry()),
	}
	g.open()
	t.Cleanup(func() { g.must(g.db.Close()) })
	return g
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

func (g *gate) reopen() {
	g.t.Helper()
	g.must(g.db.Close())
	g.open()
}

func (g *gate) advance(d time.Duration) { g.now = g.now.Add(d) }

// newToken makes a user with a token in service.
func (g *gate) newToken(user, serial string) {
	g.t.Helper()
	g.must1(g.AddUser(g.t.Context(), "clerk", "retail", user))
	g.create(verifier.NewToken{Realm: "retail", User: user, Serial: serial, InService: true})
}

func (g *gate) create(n verifier.NewToken) verifier.Token {
	g.t.Helper()
	if n.Params == (otp.Params{}) {
		n.Params = g.Realms[n.Realm].OTP
	}
	t, key, err := g.CreateToken(g.t.Context(), "clerk", n)
	g.must(err)
	g.keys[t.Serial] = slices.Clone(key)
	return t
}

// code is what a token shows offset steps from now.
func (g *gate) code(serial string, offset int64) string {
	p := g.Realms["retail"].OTP
	return otp.NewGenerator(g.keys[serial], p).Code(p.Step(g.now) + offset)
}

// wrong is a code that none of the tokens shows around now.
func (g *gate) wrong(serials ...string) string {
	for _, code := range []string{"000000", "111111", "222222", "333333", "444444", "555555", "666666", "777777"} {
		if !slices.ContainsFunc(serials, func(s string) bool {
			return slices.Contains([]string{g.code(s, -1), g.code(s, 0), g.code(s, 1)}, code)
		}) {
			return code
		}
	}
	panic("six of the codes that a token shows are repdigits")
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

func (g *gate) step(_ verifier.Token, err error) {
	g.t.Helper()
	g.must(err)
}

// memoryLog is an audit log that can be read, and told to fail.
type memoryLog struct {
	mu      sync.Mutex
	entries []audit.Entry
	fail    error
}

func (l *memoryLog) Append(_ context.Context, e audit.Entry) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.fail != nil {
		return l.fail
	}
	l.entries = append(l.entries, e)
	return nil
}

// hookedStore runs a hook before an Update, or fails it.
type hookedStore struct {
	store.Records
	beforeUpdate func(*hookedStore)
	fail         error
}

func (s *hookedStore) Update(ctx context.Context, fn func(store.Txn) error) error {
	if s.fail != nil {
		return s.fail
	}
	if s.beforeUpdate != nil {
		s.beforeUpdate(s)
	}
	return s.Records.Update(ctx, fn)
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
