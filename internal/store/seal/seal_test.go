package seal

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/internal/store"
	"otpgate/internal/store/bolt"
)

func TestSealOpen(t *testing.T) {
	records := open(t)
	box := mustBox(t, records, newMaster(t))
	for _, plaintext := range [][]byte{[]byte("a token's key"), {}, make([]byte, 100_000)} {
		sealed := box.Seal("token\x00S1", "key", plaintext)
		if len(plaintext) > 4 && bytes.Contains(sealed, plaintext[:5]) {
			t.Error("the sealed value shows its content")
		}
		got, err := box.Open("token\x00S1", "key", sealed)
		if err != nil || !bytes.Equal(got, plaintext) {
			t.Errorf("Open: %d bytes, %v; want the %d that were sealed", len(got), err, len(plaintext))
		}
		if again := box.Seal("token\x00S1", "key", plaintext); bytes.Equal(again, sealed) {
			t.Error("sealed twice, the values are the same")
		}
	}
}

// A sealed value opens nowhere else, nor changed, nor cut.
func TestOpenRefuses(t *testing.T) {
	box := mustBox(t, open(t), newMaster(t))
	sealed := box.Seal("ab", "cd", []byte("secret"))
	for _, place := range [][2]string{{"ab", "ce"}, {"aB", "cd"}, {"abc", "d"}, {"a", "bcd"}, {"", "abcd"}, {"abcd", ""}} {
		if got, err := box.Open(place[0], place[1], sealed); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("at %q: %q, %v; want ErrSealed", place, got, err)
		}
	}
	for i := range sealed {
		changed := bytes.Clone(sealed)
		changed[i] ^= 1
		if _, err := box.Open("ab", "cd", changed); !errors.Is(err, ErrSealed) {
			t.Errorf("byte %d changed: %v, want ErrSealed", i, err)
		}
		if _, err := box.Open("ab", "cd", sealed[:i]); !errors.Is(err, ErrSealed) {
			t.Errorf("cut to %d bytes: %v, want ErrSealed", i, err)
		}
	}
}

func TestReopen(t *testing.T) {
	records, master := open(t), newMaster(t)
	sealed := mustBox(t, records, master).Seal("k", "p", []byte("secret"))
	before := dump(t, records)
	if got, err := mustBox(t, records, master).Open("k", "p", sealed); err != nil || string(got) != "secret" {
		t.Errorf("Open: %q, %v", got, err)
	}
	if _, err := Open(t.Context(), records, newMaster(t)); !errors.Is(err, ErrWrongMaster) {
		t.Errorf("with another master: %v, want ErrWrongMaster", err)
	}
	if after := dump(t, records); after != before {
		t.Errorf("records changed from %q to %q", before, after)
	}
}

// The newest data key seals, the older ones still open.
func TestSeveralDataKeys(t *testing.T) {
	records, master := open(t), newMaster(t)
	old := mustBox(t, records, master).Seal("k", "p", []byte("old"))
	addKey(t, records, master, 0x10)
	box := mustBox(t, records, master)
	sealed := box.Seal("k", "p", []byte("new"))
	if number := sealed[numberBytes-1]; number != 0x10 {
		t.Errorf("sealed under data key %d, want 16", number)
	}
	for want, value := range map[string][]byte{"old": old, "new": sealed} {
		if got, err := box.Open("k", "p", value); err != nil || string(got) != want {
			t.Errorf("Open: %q, %v; want %q", got, err, want)
		}
	}
}

// A data key's record can't be put in the place of another.
func TestDataKeyIsBoundToItsRecord(t *testing.T) {
	records, master := open(t), newMaster(t)
	mustBox(t, records, master)
	err := records.Update(t.Context(), func(tx store.Txn) error {
		value, err := tx.Get(store.Key(dataKeyRecord, "00000001"))
		if err != nil {
			return err
		}
		return tx.Put(store.Key(dataKeyRecord, "00000002"), value)
	})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Open(t.Context(), records, master); !errors.Is(err, ErrWrongMaster) {
		t.Errorf("Open: %v, want ErrWrongMaster", err)
	}
}

func TestUnreadableDataKeys(t *testing.T) {
	for name, record := range map[string][2]string{
		"not JSON": {"00000001", "x"}, "a later layout": {"00000001", `{"v":2}`}, "no number": {"one", `{"v":1}`},
	} {
		t.Run(name, func(t *testing.T) {
			records := open(t)
			err := records.Update(t.Context(), func(tx store.Txn) error {
				return tx.Put(store.Key(dataKeyRecord, record[0]), []byte(record[1]))
			})
			if err != nil {
				t.Fatal(err)
			}
			before := dump(t, records)
			if _, err := Open(t.Context(), records, newMaster(t)); err == nil || dump(t, records) != before {
				t.Errorf("Open: %v; want an error and no other records", err)
			}
		})
	}
}

func TestMasterFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	if _, err := LoadMaster(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("LoadMaster of none: %v, want fs.ErrNotExist", err)
	}
	made, err := CreateMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.HasPrefix(text, []byte(masterPrefix)) || bytes.Count(text, []byte("\n")) != 1 || text[len(text)-1] != '\n' {
		t.Errorf("the file holds %d bytes, want one line with the prefix", len(text))
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("mode %v, %v; want 0600", info.Mode(), err)
	}
	loaded, err := LoadMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	wrapped, _ := made.Wrap([]byte("key"), nil)
	if got, err := loaded.Unwrap(wrapped, nil); err != nil || string(got) != "key" {
		t.Errorf("the loaded key isn't the one that was made: %v", err)
	}
	if _, err := CreateMaster(path); !errors.Is(err, fs.ErrExist) {
		t.Errorf("a second CreateMaster: %v, want fs.ErrExist", err)
	}
	if after, _ := os.ReadFile(path); !bytes.Equal(after, text) {
		t.Error("a second CreateMaster changed the file")
	}
}

func TestMasterFileRefused(t *testing.T) {
	key := base64.StdEncoding.EncodeToString(make([]byte, keyBytes))
	for name, test := range map[string]struct {
		text string
		mode fs.FileMode
		want string
	}{
		"group may read":  {masterPrefix + key + "\n", 0o640, "chmod 600 "},
		"others may read": {masterPrefix + key + "\n", 0o604, "chmod 600 "},
		"empty":           {"", 0o600, "backup"},
		"no prefix":       {key + "\n", 0o600, "backup"},
		"short":           {masterPrefix + key[4:] + "\n", 0o600, "backup"},
		"long":            {masterPrefix + "AAAA" + key + "\n", 0o600, "backup"},
		"not base64":      {masterPrefix + "?" + key[1:] + "\n", 0o600, "backup"},
		"two lines":       {masterPrefix + key + "\n" + masterPrefix + key + "\n", 0o600, "backup"},
		"huge":            {masterPrefix + strings.Repeat(key, 10000), 0o600, "backup"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "master.key")
			if err := os.WriteFile(path, []byte(test.text), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := os.Chmod(path, test.mode); err != nil {
				t.Fatal(err)
			}
			_, err := LoadMaster(path)
			if !errors.Is(err, ErrMasterFile) {
				t.Fatalf("LoadMaster: %v, want ErrMasterFile", err)
			}
			message := err.Error()
			if !strings.Contains(message, test.want) || !strings.Contains(message, path) || strings.Contains(message, key[5:20]) {
				t.Errorf("the message must name the file and what to do, and no key: %s", message)
			}
		})
	}
}

// No way of printing shows a key, nor what one can be worked out from.
func TestNothingPrintsAKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "master.key")
	master, err := CreateMaster(path)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	encoded := strings.TrimSpace(strings.TrimPrefix(string(text), masterPrefix))
	key, err := base64.StdEncoding.DecodeString(encoded)
	if err != nil {
		t.Fatal(err)
	}
	box := mustBox(t, open(t), master)
	holder := struct {
		Master Master
		inner  Master
		Box    *Box
	}{master, master, box}
	var out bytes.Buffer
	for _, v := range []any{master, &master, holder, &holder, box} {
		for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%d", "%x", "%q"} {
			fmt.Fprintf(&out, verb+"\n", v)
		}
		encoded, err := json.Marshal(v)
		if err != nil {
			t.Errorf("json: %v", err)
		}
		out.Write(encoded)
		slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "v", v)
		slog.New(slog.NewTextHandler(&out, nil)).Info("x", "v", v)
	}
	printed := strings.ToLower(out.String())
	first := fmt.Sprintf("%d %d %d", key[0], key[1], key[2]) // AES's first round key is the key itself
	for _, secret := range []string{encoded, hex.EncodeToString(key[:4]), first, fmt.Sprintf("%d", uint32(key[0])<<24|uint32(key[1])<<16|uint32(key[2])<<8|uint32(key[3]))} {
		if strings.Contains(printed, strings.ToLower(secret)) {
			t.Errorf("%q was printed in:\n%s", secret, out.String())
		}
	}
	if got := fmt.Sprintf("%v %+v %#v %d", master, master, master, master); strings.Count(got, redacted) != 4 {
		t.Errorf("printed as %s", got)
	}
}

// FuzzOpen: no bytes open that weren't sealed, and none panic.
func FuzzOpen(f *testing.F) {
	box := mustBox(f, open(f), newMaster(f))
	f.Add([]byte{})
	f.Add([]byte{0, 0, 0, 1})
	f.Add([]byte{0, 0, 0, 2, 0})
	f.Add(append([]byte{0, 0, 0, 1}, make([]byte, 28)...))
	f.Fuzz(func(t *testing.T, sealed []byte) {
		if got, err := box.Open("k", "p", sealed); !errors.Is(err, ErrSealed) || got != nil {
			t.Errorf("Open: %q, %v; want ErrSealed", got, err)
		}
	})
}

func BenchmarkOpen(b *testing.B) {
	box := mustBox(b, open(b), newMaster(b))
	sealed := box.Seal("token\x00S1", "key", make([]byte, 20))
	for b.Loop() {
		if _, err := box.Open("token\x00S1", "key", sealed); err != nil {
			b.Fatal(err)
		}
	}
}

func open(t testing.TB) store.Records {
	t.Helper()
	records, err := bolt.Open(filepath.Join(t.TempDir(), "gate.db"), bolt.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = records.Close() })
	return records
}

func newMaster(t testing.TB) Master {
	t.Helper()
	m, err := CreateMaster(filepath.Join(t.TempDir(), "master.key"))
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func mustBox(t testing.TB, records store.Records, master Wrapper) *Box {
	t.Helper()
	box, err := Open(t.Context(), records, master)
	if err != nil {
		t.Fatal(err)
	}
	return box
}

// addKey stores a further data key, as a rotation will.
func addKey(t *testing.T, records store.Records, master Master, number uint32) {
	t.Helper()
	recordKey := store.Key(dataKeyRecord, fmt.Sprintf("%08x", number))
	wrapped, err := master.Wrap(bytes.Repeat([]byte{7}, keyBytes), []byte(recordKey))
	if err != nil {
		t.Fatal(err)
	}
	value, err := json.Marshal(storedKey{V: 1, Wrapped: wrapped})
	if err != nil {
		t.Fatal(err)
	}
	if err := records.Update(t.Context(), func(tx store.Txn) error { return tx.Put(recordKey, value) }); err != nil {
		t.Fatal(err)
	}
}

func dump(t *testing.T, records store.Records) (line string) {
	t.Helper()
	err := records.View(t.Context(), func(r store.Reader) error {
		return r.Scan("", func(key string, value []byte) error {
			line += fmt.Sprintf("%q=%s ", key, value)
			return nil
		})
	})
	if err != nil {
		t.Fatal(err)
	}
	return line
}
