package verifier

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
	"otpgate/verifier/otp"
)

// Whatever is typed: normalising is done once, and a code matches only if its
// very digits were typed, in whatever width and grouping.
func FuzzTyped(f *testing.F) {
	for _, s := range []string{"", "287082", "２８７０８２", " 287 082\n", "287-082", "287ー082", "28708", "0287082", "²87082", "٢٨٧٠٨٢", "287\x00082", "\xff87082", "２8７0８2\u3000"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, input string) {
		once := Normalise(input)
		if again := Normalise(once); again != once {
			t.Errorf("%q becomes %q, and that %q", input, once, again)
		}
		matches := Typed(input)("287082")
		digits := strings.Map(func(r rune) rune {
			switch {
			case r >= '0' && r <= '9':
				return r
			case r >= '０' && r <= '９':
				return r - '０' + '0'
			}
			return -1
		}, input)
		if matches && digits != "287082" {
			t.Errorf("%q was taken for 287082", input)
		}
		if Typed(input)("") {
			t.Errorf("%q matches an empty code", input)
		}
	})
}

// Whatever stands in the database where a hot record should be: it is decoded
// to what encodes to the same bytes, or refused.
func FuzzHotRecords(f *testing.F) {
	f.Add(encodeHot(tokenState{Last: noStep}))
	f.Add(encodeHot(userState{Row: counter{Failures: 3}, LongRun: longRun{Week: 2900}}))
	f.Add(encodeHot(realmState{Refused: 7}))
	f.Add(pinState{Row: counter{Failures: 3}, TicketUntil: 7}.encode())
	f.Add([]byte{1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Add([]byte{hotVersion + 1})
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		token, ok := decodeHot(b, func(v tokenStateV1) tokenState { return tokenState{Row: v.Row, Last: v.Last, UsedAt: v.UsedAt} })
		same(t, b, token, ok)
		user, ok := decodeHot(b, func(v userStateV1) userState { return userState{Row: v.Row} })
		same(t, b, user, ok)
		realm, ok := decodeHot(b, func(v realmStateV1) realmState { return realmState{Refused: v.Refused} })
		same(t, b, realm, ok)
		if pin, ok := decodePINState(b); ok && !bytes.Equal(pin.encode(), b) {
			t.Errorf("% x is decoded to what encodes to % x", b, pin.encode())
		}
	})
}

func same[T tokenState | userState | realmState](t *testing.T, b []byte, state T, ok bool) {
	t.Helper()
	if again := encodeHot(state); ok && b[0] == hotVersion && !bytes.Equal(again, b) {
		t.Errorf("% x is decoded to what encodes to % x", b, again)
	}
}

// Whatever stands in the database where a record should be, sealed by nobody or
// by us: what reads it says that it can't, or goes on.
func FuzzRecords(f *testing.F) {
	now := time.Date(2026, 11, 22, 14, 5, 9, 0, time.UTC)
	token := Token{
		V: tokenVersion, Serial: "T1", Realm: "retail", User: "hanako", State: InService, Batch: "B1", Key: []byte{1}, Created: now,
		Params: otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60},
	}
	card := Card{V: 1, ID: "C1", Realm: "retail", User: "hanako", Layout: CardLayout{Columns: []string{"A", "B"}, Rows: 2, Digits: 1}, Cells: []byte{1}}
	batch := Batch{V: 1, ID: "B1", State: BatchChecking, Tokens: 1, Stock: 1, Imported: now}
	aside := stagedToken{Token: token}
	aside.Token.Serial = "S1"
	seeds := [][]any{{token, batch, aside, card}}
	token.State = InStock
	batch.State = batchLanding
	aside.State = []byte{9}
	seeds = append(seeds, []any{token, batch, aside, card})
	token.Params.Period, card.Layout.Columns, batch.Checked = 0, nil, make([]string, 200)
	seeds = append(seeds, []any{token, batch, stagedToken{Token: token}, card}, []any{1, []int{}, "x", nil})
	for _, seed := range seeds {
		var values [4][]byte
		for i, record := range seed {
			values[i], _ = json.Marshal(record)
		}
		f.Add(values[0], values[1], values[2], values[3])
	}
	db, err := bolt.Open(f.TempDir()+"/otpgate.db", bolt.Options{})
	if err != nil {
		f.Fatal(err)
	}
	defer db.Close()
	v := &Verifier{
		Records: db, Seal: openSeal{}, Audit: deafLog{}, Now: func() time.Time { return now },
		Log: slog.New(slog.DiscardHandler), Metrics: NewMetrics(prometheus.NewRegistry()),
		Realms: map[string]Realm{"retail": {ID: "retail", OTP: otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 60}, Card: &CardPolicy{
			Layout: card.Layout, Asked: 2, Tries: 3, FallbackMax: time.Hour,
		}}},
	}
	f.Fuzz(func(t *testing.T, token, batch, staged, card []byte) {
		putRecords(t, db, map[string][]byte{
			userKey("retail", "hanako"): []byte(`{"v":1,"realm":"retail","name":"hanako"}`), userTokenKey("retail", "hanako", "T1"): userTokenMark,
			tokenKey("T1"): token, batchKey("B1"): batch, stagedKey("S1"): staged, cardKey("retail", "hanako"): card,
			cardStateKey("retail", "hanako"): cardState{}.next([]uint8{0, 3}).encode(),
		})
		readRecords(t.Context(), v)
		for prefix, renew := range Reseal(openSeal{}) {
			for key, value := range map[string][]byte{tokenKey("T1"): token, stagedKey("S1"): staged, cardKey("retail", "hanako"): card} {
				if strings.HasPrefix(key, prefix) {
					_, _, _ = renew(key, value)
				}
			}
		}
	})
}

// readRecords calls whatever reads the records, for all that can be wrong with it.
func readRecords(ctx context.Context, v *Verifier) {
	by, typed := By{Who: "clerk", Reason: "fuzz"}, Typed("123456")
	_, _ = v.Verify(ctx, Attempt{Realm: "retail", User: "hanako", Match: typed, Door: "test"})
	_, _ = v.Verify(ctx, Attempt{Realm: "retail", User: "hanako", Match: typed, FirstFactor: FirstFactor{Kind: FactorPIN}})
	_, _ = v.Account(ctx, "retail", "hanako")
	_ = v.Tokens(ctx, TokenFilter{}, func(TokenInfo) error { return nil })
	_ = v.Batches(ctx, func(b Batch) error { _ = b.Wanted(); return nil })
	_, _ = v.CheckBatch(ctx, by, "T1", typed, typed)
	_, _, _, _ = v.ShowKey(ctx, by, "T1")
	_, _ = v.Start(ctx, by, "T1", typed)
	_, _ = v.Challenge(ctx, "retail", "hanako")
	_, _ = v.Confirm(ctx, CardAttempt{Realm: "retail", User: "hanako", Challenge: 1, Answers: []string{"1", "2"}})
	_, _ = v.Card(ctx, "retail", "hanako")
	_ = v.FinishBatches(ctx)
}

// putRecords leaves these records in the database, and no others.
func putRecords(t *testing.T, db *bolt.Store, records map[string][]byte) {
	t.Helper()
	err := db.Update(t.Context(), func(tx store.Txn) error {
		var stale []string
		err := tx.Scan("", func(key string, _ []byte) error {
			stale = append(stale, key)
			return nil
		})
		errs := []error{err}
		for _, key := range stale {
			errs = append(errs, tx.Delete(key))
		}
		for key, value := range records {
			errs = append(errs, tx.Put(key, value))
		}
		return errors.Join(errs...)
	})
	if err != nil {
		t.Fatal(err)
	}
}

// openSeal seals nothing and opens everything.
type openSeal struct{}

func (openSeal) Seal(string, string, []byte) []byte { return []byte{1} }

func (openSeal) Open(string, string, []byte) ([]byte, error) {
	return []byte("12345678901234567890"), nil
}

func (openSeal) Reseal(string, string, []byte) ([]byte, bool, error) { return []byte{2}, true, nil }

type deafLog struct{}

func (deafLog) Append(context.Context, audit.Entry) error { return nil }
