package audit

import (
	"bytes"
	"crypto/ed25519"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

func TestVerifySound(t *testing.T) {
	dir := t.TempDir()
	v := fill(t, dir)
	report, err := Verify(t.Context(), dir, Check{Key: v.public(), Head: v.newest()})
	if err != nil {
		t.Fatal(err)
	}
	report.SignedAt = report.SignedAt.UTC()
	want := Report{Files: 2, Entries: 5, First: 1, Last: 5, Heads: 3, Signed: 5, SignedAt: noon.UTC()}
	if report != want {
		t.Errorf("Verify: %+v, want %+v", report, want)
	}
	if _, err := Verify(t.Context(), t.TempDir(), Check{Key: v.public()}); err != nil {
		t.Errorf("an empty folder: %v", err)
	}
}

// The log of fill has entries one, two, three in file 1, four and five in file
// 2, heads of 1, 3 and 5.
func TestVerifyNamesTheFirst(t *testing.T) {
	one, two := "audit-000001.jsonl", "audit-000002.jsonl"
	for _, c := range []struct {
		name string
		harm func(t *testing.T, dir string)
		want Finding // Problem: a part of it
	}{
		{"the first changed", in(1, replacing("one", "ONE")), Finding{one, 1, 1, "isn't what was signed"}},
		{"one in the older file changed", in(1, replacing("two", "TWO")), Finding{one, 2, 2, "it was changed"}},
		{"the last of the older file changed", in(1, replacing("three", "THREE")), Finding{one, 3, 3, "it was changed"}},
		{"the first of the newer file changed", in(2, replacing("four", "FOUR")), Finding{two, 1, 4, "it was changed"}},
		{"the last changed", in(2, replacing("five", "FIVE")), Finding{two, 2, 4, "entries 4 to 5 aren't what was signed"}},
		{"two changed", in(1, replacing("one", "ONE", "two", "TWO")), Finding{one, 1, 1, "it was changed"}},
		{"a number changed", in(1, replacing(`"seq":2`, `"seq":20`)), Finding{one, 2, 2, "it has the number 20"}},
		{"a byte that is no JSON", in(1, replacing(`"event":"two"`, `"event":"two`)), Finding{one, 2, 2, "damaged"}},
		{"spaces", in(1, replacing(`"event":"two"`, `"event": "two"`)), Finding{one, 2, 2, "it was changed"}},
		{"an empty line", in(1, replacing("\n", "\n\n")), Finding{one, 2, 2, "damaged"}},
		{"a huge line", in(1, replacing("two", strings.Repeat("x", 3*blockBytes))), Finding{one, 2, 2, "too long"}},

		{"the first removed", in(1, without(0)), Finding{one, 1, 1, "entry 1 is missing"}},
		{"one removed", in(1, without(1)), Finding{one, 2, 2, "entry 2 is missing here: removed"}},
		{"the last of the older file removed", in(1, without(2)), Finding{two, 1, 3, "entry 3 is missing"}},
		{"one removed over two files, numbered anew", func(t *testing.T, dir string) {
			in(1, without(2))(t, dir)
			in(2, replacing(`"seq":4`, `"seq":3`, `"seq":5`, `"seq":4`))(t, dir)
		}, Finding{two, 1, 3, "doesn't follow"}},
		{"the older file removed", func(t *testing.T, dir string) { mustRemove(t, filePath(dir, 1)) }, Finding{two, 1, 1, "entries 1 to 3 are missing"}},
		{"the older file's end torn", in(1, func(b []byte) []byte { return b[:len(b)-1] }), Finding{one, 3, 3, "cut off"}},

		{"one twice", in(1, func(b []byte) []byte { l := lines(b); return join(slices.Insert(l, 1, l[1])) }), Finding{one, 3, 2, "put in or moved here: entry 3 was due"}},
		{"one put in before another", in(1, inserting(1)), Finding{one, 2, 2, "it was put in"}},
		{"two exchanged", in(1, func(b []byte) []byte { l := lines(b); l[1], l[2] = l[2], l[1]; return join(l) }), Finding{one, 2, 2, "another order"}},
		{"the files exchanged", func(t *testing.T, dir string) {
			first, second := mustRead(t, filePath(dir, 1)), mustRead(t, filePath(dir, 2))
			mustWrite(t, filePath(dir, 1), second)
			mustWrite(t, filePath(dir, 2), first)
		}, Finding{one, 1, 1, "missing"}},

		{"the end cut off", in(2, without(1)), Finding{two, 2, 5, "the end was cut off"}},
		{"the last file removed", func(t *testing.T, dir string) { mustRemove(t, filePath(dir, 2)) }, Finding{one, 4, 4, "the end was cut off"}},
		{"all removed", func(t *testing.T, dir string) { mustRemove(t, filePath(dir, 1)); mustRemove(t, filePath(dir, 2)) }, Finding{one, 1, 1, "the end was cut off"}},
		{"the end torn", in(2, func(b []byte) []byte { return b[:len(b)-1] }), Finding{two, 2, 5, "the end was cut off"}},

		{"changed, and the chain made to fit", func(t *testing.T, dir string) {
			in(1, replacing("two", "TWO"))(t, dir)
			rechain(t, dir)
		}, Finding{one, 3, 2, "entries 2 to 3 aren't what was signed"}},
		{"removed, and the chain made to fit", func(t *testing.T, dir string) {
			in(2, without(0))(t, dir)
			rechain(t, dir)
		}, Finding{two, 2, 5, "the end was cut off"}},
		{"all made anew, heads forged with another key", func(t *testing.T, dir string) {
			in(1, replacing("two", "TWO"))(t, dir)
			rechain(t, dir)
			forgeHeads(t, dir, newKey(9))
		}, Finding{"heads.jsonl", 1, 1, "isn't signed with the gateway's key"}},
		{"one head changed", func(t *testing.T, dir string) {
			replaceIn(t, filepath.Join(dir, headsName), `"seq":3`, `"seq":4`)
		}, Finding{"heads.jsonl", 2, 2, "isn't signed with the gateway's key"}},
		{"heads exchanged", func(t *testing.T, dir string) {
			path := filepath.Join(dir, headsName)
			l := lines(mustRead(t, path))
			l[1], l[2] = l[2], l[1]
			mustWrite(t, path, join(l))
		}, Finding{"heads.jsonl", 3, 0, "behind a newer one"}},
		{"a head that is none", func(t *testing.T, dir string) {
			replaceIn(t, filepath.Join(dir, headsName), `"seq":3`, `"seq":"three"`)
		}, Finding{"heads.jsonl", 2, 2, "damaged"}},
		{"all heads removed", func(t *testing.T, dir string) { mustRemove(t, filepath.Join(dir, headsName)) }, Finding{"heads.jsonl", 0, 0, "no head is signed"}},
		{"the key exchanged", func(t *testing.T, dir string) {
			if err := writePublicKey(dir, newKey(9).Public().(ed25519.PublicKey)); err != nil {
				t.Fatal(err)
			}
		}, Finding{"audit.pub", 0, 0, "another key"}},
		{"a change behind a change of a head", func(t *testing.T, dir string) {
			in(1, replacing("two", "TWO"))(t, dir)
			replaceIn(t, filepath.Join(dir, headsName), `"seq":5`, `"seq":6`)
		}, Finding{one, 2, 2, "it was changed"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			dir := t.TempDir()
			v := fill(t, dir)
			c.harm(t, dir)
			_, err := Verify(t.Context(), dir, Check{Key: v.public()})
			var got *Finding
			if !errors.As(err, &got) {
				t.Fatalf("Verify: %v, want a finding", err)
			}
			if got.File != c.want.File || got.Line != c.want.Line || got.Seq != c.want.Seq || !strings.Contains(got.Problem, c.want.Problem) {
				t.Errorf("found %+v\nwant  %+v", *got, c.want)
			}
		})
	}
}

// Between other files none may be missing.
func TestVerifyMissingFile(t *testing.T) {
	dir := t.TempDir()
	l := mustOpen(t, dir)
	for i := range 4 {
		mustAppend(t, l, Entry{Event: "one", Time: noon.AddDate(0, i, 0)})
	}
	l.Close()
	mustRemove(t, filePath(dir, 2))
	_, err := Verify(t.Context(), dir, Check{})
	var got *Finding
	if !errors.As(err, &got) || *got != (Finding{"audit-000002.jsonl", 0, 2, "the file is missing"}) {
		t.Errorf("Verify: %v", err)
	}
}

// What the files alone can't tell, a head from elsewhere does.
func TestVerifyAgainstASavedHead(t *testing.T) {
	for name, harm := range map[string]func(t *testing.T, dir string){
		"the end cut off with its head": func(t *testing.T, dir string) {
			in(2, without(1))(t, dir)
			cutLines(t, filepath.Join(dir, headsName), 1)
		},
		"the end written anew": func(t *testing.T, dir string) {
			cutLines(t, filepath.Join(dir, headsName), 1)
			in(2, replacing("five", "FIVE"))(t, dir)
		},
	} {
		t.Run(name, func(t *testing.T) {
			dir := t.TempDir()
			v := fill(t, dir)
			harm(t, dir)
			if _, err := Verify(t.Context(), dir, Check{}); err != nil {
				t.Errorf("without the head: %v", err)
			}
			_, err := Verify(t.Context(), dir, Check{Head: v.newest()})
			var got *Finding
			if !errors.As(err, &got) || got.Seq != 5 && got.Seq != 4 {
				t.Errorf("Verify: %v, want a finding", err)
			}
		})
	}
}

// The oldest files may be put away, if one says so: the head at their end vouches
// for the rest.
func TestVerifyArchived(t *testing.T) {
	dir := t.TempDir()
	v := fill(t, dir)
	mustRemove(t, filePath(dir, 1))
	report, err := Verify(t.Context(), dir, Check{Archived: true, Head: v.newest()})
	if err != nil || report.First != 4 || report.Last != 5 || report.Signed != 5 {
		t.Errorf("Verify: %+v, %v", report, err)
	}
	dir = t.TempDir()
	fill(t, dir)
	mustRemove(t, filePath(dir, 1))
	in(2, func(b []byte) []byte {
		at := bytes.Index(b, []byte(`"prev":"`)) + len(`"prev":"`)
		b[at] ^= 1 // another hexadecimal digit
		return b
	})(t, dir)
	_, err = Verify(t.Context(), dir, Check{Archived: true})
	var got *Finding
	if !errors.As(err, &got) || got.Seq != 4 || !strings.Contains(got.Problem, "doesn't follow the entry 3") {
		t.Errorf("Verify: %v", err)
	}
}

// The gateway writes, rotates and signs meanwhile: no false alarm.
func TestVerifyWhileWriting(t *testing.T) {
	dir := t.TempDir()
	v := newVault()
	l := mustOpenWith(t, dir, v)
	mustAppend(t, l, Entry{Event: "first"})
	for v.newest().Seq == 0 {
		time.Sleep(time.Millisecond)
	}
	stop := make(chan struct{})
	var writers sync.WaitGroup
	for i := range 4 {
		writers.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
					mustAppend(t, l, Entry{Event: "verify", User: fmt.Sprint(i), Time: noon.AddDate(0, n/50, 0)})
				}
			}
		})
	}
	for files := 0; files < 4; {
		if _, err := Verify(t.Context(), dir, Check{Head: v.newest()}); err != nil {
			t.Errorf("Verify: %v", err)
			break
		}
		numbers, err := listFiles(dir)
		if err != nil {
			t.Error(err)
			break
		}
		files = len(numbers)
	}
	close(stop)
	writers.Wait()
}

func TestReadPublicKey(t *testing.T) {
	path := filepath.Join(t.TempDir(), "key")
	for _, text := range []string{"", "x", "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n"} {
		mustWrite(t, path, []byte(text))
		if _, err := ReadPublicKey(path); !errors.Is(err, ErrNoKey) {
			t.Errorf("%q: %v, want ErrNoKey", text, err)
		}
	}
}

// FuzzHead: a head that is read can be written and read again, and no line but
// ours is signed by us.
func FuzzHead(f *testing.F) {
	key := newVault().key
	line, err := json.Marshal(signHead(key, 7, strings.Repeat("ab", 32), noon))
	if err != nil {
		f.Fatal(err)
	}
	f.Add(line)
	f.Add([]byte(`{"seq":1}`))
	f.Add(bytes.Replace(line, []byte("7"), []byte("8"), 1))
	f.Fuzz(func(t *testing.T, text []byte) {
		h, err := decodeHead(text)
		if err != nil {
			if !errors.Is(err, ErrDamaged) {
				t.Errorf("decodeHead: %v", err)
			}
			return
		}
		again, err := json.Marshal(h)
		if err != nil {
			return // a year that JSON has no room for
		}
		if second, err := decodeHead(again); err != nil || !bytes.Equal(second.message(), h.message()) {
			t.Errorf("%s became %s, %v", text, again, err)
		}
		if h.SignedBy(key.Public().(ed25519.PublicKey)) && (h.Seq != 7 || !h.Time.Equal(noon)) {
			t.Errorf("%s is signed", text)
		}
	})
}

// FuzzVerify: whatever stands in the files, Verify ends with a finding or finds
// what was there.
func FuzzVerify(f *testing.F) {
	dir := f.TempDir()
	l, err := Open(dir, newVault().options())
	if err != nil {
		f.Fatal(err)
	}
	for range 3 {
		if err := l.Append(f.Context(), Entry{Event: "one"}); err != nil {
			f.Fatal(err)
		}
	}
	l.Close()
	log, heads := mustRead(f, filePath(dir, 1)), mustRead(f, filepath.Join(dir, headsName))
	f.Add(log, heads)
	f.Add(log[:len(log)-1], heads)
	f.Add(log, []byte("{}\n"))
	f.Fuzz(func(t *testing.T, text, signed []byte) {
		dir := t.TempDir()
		mustWrite(t, filePath(dir, 1), text)
		mustWrite(t, filepath.Join(dir, headsName), signed)
		report, err := Verify(t.Context(), dir, Check{Key: newVault().public()})
		var finding *Finding
		if err != nil && !errors.As(err, &finding) {
			t.Errorf("Verify: %v", err)
		}
		if err == nil && report.Entries > 0 && !bytes.HasPrefix(text, log[:bytes.IndexByte(log, '\n')]) {
			t.Errorf("%q was found good", text)
		}
	})
}

// fill makes a log of five entries in two files, with heads of 1, 3 and 5.
func fill(t testing.TB, dir string) *vault {
	t.Helper()
	v := newVault()
	l := mustOpenWith(t, dir, v)
	mustAppend(t, l, Entry{Event: "one"})
	for v.newest().Seq == 0 {
		time.Sleep(time.Millisecond)
	}
	mustAppend(t, l, Entry{Event: "two"})
	mustAppend(t, l, Entry{Event: "three"})
	mustAppend(t, l, Entry{Event: "four", Time: december})
	mustAppend(t, l, Entry{Event: "five", Time: december})
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	return v
}

// grow writes file n of a log with entries of some kilobyte until it has size
// bytes, without waiting for the disk at each, and returns how many.
func grow(t testing.TB, dir string, n int, size int) {
	t.Helper()
	l := &Log{}
	if n > 1 {
		last, err := endOfFile(filePath(dir, n-1))
		if err != nil {
			t.Fatal(err)
		}
		if err := l.continueFrom(last); err != nil {
			t.Fatal(err)
		}
	}
	for i := 0; len(l.group) < size; i++ {
		e := Entry{Time: noon.UTC(), Event: "verify", User: fmt.Sprint("u", i%1000), Detail: strings.Repeat("x", maxDetailBytes)}
		if err := l.addLine(e); err != nil {
			t.Fatal(err)
		}
	}
	mustWrite(t, filePath(dir, n), l.group)
}

func newKey(b byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{b}, ed25519.SeedSize))
}

// in harms file n.
func in(n int, change func([]byte) []byte) func(*testing.T, string) {
	return func(t *testing.T, dir string) {
		t.Helper()
		before := mustRead(t, filePath(dir, n))
		after := change(bytes.Clone(before))
		if bytes.Equal(before, after) {
			t.Fatal("nothing was harmed")
		}
		mustWrite(t, filePath(dir, n), after)
	}
}

func replacing(pairs ...string) func([]byte) []byte {
	return func(b []byte) []byte {
		for i := 0; i < len(pairs); i += 2 {
			b = bytes.Replace(b, []byte(pairs[i]), []byte(pairs[i+1]), 1)
		}
		return b
	}
}

func without(i int) func([]byte) []byte {
	return func(b []byte) []byte { l := lines(b); return join(slices.Delete(l, i, i+1)) }
}

// inserting puts an entry before line i that follows the one before it rightly.
func inserting(i int) func([]byte) []byte {
	return func(b []byte) []byte {
		l := lines(b)
		line, err := encode(Entry{Seq: uint64(i + 1), Prev: hashOf(l[i-1]), Time: noon.UTC(), Event: "forged"})
		if err != nil {
			panic(err)
		}
		return join(slices.Insert(l, i, line))
	}
}

// lines splits a file into its lines, join is the inverse.
func lines(b []byte) [][]byte { return bytes.Split(bytes.TrimSuffix(b, []byte("\n")), []byte("\n")) }

func join(lines [][]byte) []byte {
	var b []byte
	for _, line := range lines {
		b = append(append(b, line...), '\n')
	}
	return b
}

// rechain numbers and chains all entries anew, as somebody would who has changed
// some.
func rechain(t *testing.T, dir string) {
	t.Helper()
	numbers, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{}
	for _, n := range numbers {
		l.group = nil
		for _, line := range lines(mustRead(t, filePath(dir, n))) {
			e, err := decode(line)
			if err == nil {
				err = l.addLine(e)
			}
			if err != nil {
				t.Fatal(err)
			}
		}
		mustWrite(t, filePath(dir, n), l.group)
	}
}

// forgeHeads signs all heads for what the log holds now.
func forgeHeads(t *testing.T, dir string, key ed25519.PrivateKey) {
	t.Helper()
	hashes := map[uint64]string{}
	numbers, err := listFiles(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range numbers {
		for _, line := range lines(mustRead(t, filePath(dir, n))) {
			hashes[uint64(len(hashes)+1)] = hashOf(line)
		}
	}
	path := filepath.Join(dir, headsName)
	var forged [][]byte
	for _, line := range lines(mustRead(t, path)) {
		h, err := decodeHead(line)
		if err != nil {
			t.Fatal(err)
		}
		text, err := json.Marshal(signHead(key, h.Seq, hashes[h.Seq], h.Time))
		if err != nil {
			t.Fatal(err)
		}
		forged = append(forged, text)
	}
	mustWrite(t, path, join(forged))
}

func cutLines(t *testing.T, path string, n int) {
	t.Helper()
	l := lines(mustRead(t, path))
	mustWrite(t, path, join(l[:len(l)-n]))
}

func replaceIn(t *testing.T, path, from, to string) {
	t.Helper()
	before := mustRead(t, path)
	after := bytes.Replace(before, []byte(from), []byte(to), 1)
	if bytes.Equal(before, after) {
		t.Fatal("nothing was harmed")
	}
	mustWrite(t, path, after)
}

func mustRemove(t *testing.T, path string) {
	t.Helper()
	if err := os.RemoveAll(path); err != nil {
		t.Fatal(err)
	}
}
