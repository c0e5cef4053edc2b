package main

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"
)

var archivedContents = map[string]string{
	archivedDatabase:                        "the database",
	archivedAudit + "heads.jsonl":           "a head\n",
	archivedAudit + "audit-000001.jsonl":    "an entry\n",
	archivedAudit + "audit-000002.jsonl":    "",
	archivedAudit + "not-in-the-order.json": "x",
}

func testArchive(t testing.TB) []byte {
	t.Helper()
	var out bytes.Buffer
	w := newArchiveWriter(&out, time.Date(2026, 11, 24, 9, 0, 0, 0, time.UTC), "test")
	for _, name := range []string{
		archivedDatabase, archivedAudit + "heads.jsonl", archivedAudit + "audit-000001.jsonl",
		archivedAudit + "audit-000002.jsonl", archivedAudit + "not-in-the-order.json",
	} {
		content := archivedContents[name]
		if err := w.add(name, int64(len(content)), bytes.NewBufferString(content)); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.finish(func(sum []byte) []byte { return append([]byte("sealed"), sum...) }); err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// unarchive returns what an archive holds.
func unarchive(b []byte) (archive, map[string]string, error) {
	files := map[string]string{}
	a, err := readArchive(bytes.NewReader(b), func(name string, _ int64, r io.Reader) error {
		content, err := io.ReadAll(r)
		files[name] = string(content)
		return err
	})
	return a, files, err
}

func same(a, b map[string]string) bool {
	for name, content := range a {
		if got, ok := b[name]; !ok || got != content {
			return false
		}
	}
	return len(a) == len(b)
}

func TestArchive(t *testing.T) {
	a, files, err := unarchive(testArchive(t))
	if err != nil {
		t.Fatal(err)
	}
	if !same(files, archivedContents) || a.Program != "test" || len(a.Files) != len(files) || a.Made.IsZero() {
		t.Errorf("%+v with %q", a.manifest, files)
	}
	if string(a.seal) != "sealed"+string(a.sum) {
		t.Errorf("the seal is %q", a.seal)
	}
}

// Cut anywhere, or with a byte changed: refused, here or by the seal over the
// manifest, or nothing that counts was hit.
func TestArchiveDamaged(t *testing.T) {
	whole := testArchive(t)
	// A tar ends with empty blocks, and its last file with a block's rest: without
	// those all is there. That they are is for gzip to see.
	end := bytes.LastIndexFunc(whole, func(r rune) bool { return r != 0 }) + 1
	for at := range end {
		if _, _, err := unarchive(whole[:at]); !errors.Is(err, errArchive) {
			t.Fatalf("cut at %d of %d: %v", at, len(whole), err)
		}
	}
	for at := range whole {
		changed := bytes.Clone(whole)
		changed[at] ^= 1
		a, files, err := unarchive(changed)
		if err == nil && bytes.HasSuffix(a.seal, a.sum) && !same(files, archivedContents) {
			t.Fatalf("byte %d changed: accepted, with %q", at, files)
		}
		if err != nil && !errors.Is(err, errArchive) {
			t.Fatalf("byte %d changed: %v", at, err)
		}
	}
}

func TestArchiveRefused(t *testing.T) {
	file := func(name, content string) *tar.Header {
		return &tar.Header{Typeflag: tar.TypeReg, Name: name, Size: int64(len(content)), Mode: 0o600}
	}
	for name, first := range map[string]*tar.Header{
		"out of its folder":     file("../otpgate.db", "the database"),
		"absolute":              file("/otpgate.db", "the database"),
		"a folder":              {Typeflag: tar.TypeDir, Name: "otpgate.db"},
		"a link":                {Typeflag: tar.TypeSymlink, Name: "otpgate.db", Linkname: "/etc/passwd"},
		"the audit log first":   file("audit/audit-000001.jsonl", "an entry\n"),
		"something else":        file("passwd", ""),
		"a seal and no content": file(manifestSeal, "x"),
		"a folder in the log":   file("audit/../x", ""),
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			w := tar.NewWriter(&out)
			if err := w.WriteHeader(first); err != nil {
				t.Fatal(err)
			}
			if _, err := io.WriteString(w, strings.Repeat("x", int(first.Size))); err != nil {
				t.Fatal(err)
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			a, files, err := unarchive(out.Bytes())
			if !errors.Is(err, errArchive) || len(files) > 0 {
				t.Errorf("%+v with %q: %v", a, files, err)
			}
		})
	}
}

// A file with holes takes no room in the archive, and as much as it likes on the
// disk.
func TestArchiveSparse(t *testing.T) {
	file := func(h tar.Header, content string) []byte {
		var out bytes.Buffer
		h.Size, h.Mode = int64(len(content)), 0o600
		w := tar.NewWriter(&out)
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, content); err != nil {
			t.Fatal(err)
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	}
	// What archive/tar doesn't write: the records "GNU.sparse.*" in the header of
	// the file behind it, in two versions.
	pax := func(records map[string]string, content string) []byte {
		var text strings.Builder
		for key, value := range records {
			length := len(key) + len(value) + 3 // " ", "=", "\n"
			for digits := 1; ; digits++ {
				if n := fmt.Sprint(length + digits); len(n) == digits {
					fmt.Fprintf(&text, "%s %s=%s\n", n, key, value)
					break
				}
			}
		}
		extended := file(tar.Header{Typeflag: tar.TypeReg, Name: "PaxHeaders/otpgate.db"}, text.String())
		extended[156] = tar.TypeXHeader
		copy(extended[148:], "        ")
		sum := 0
		for _, b := range extended[:512] {
			sum += int(b)
		}
		copy(extended[148:], fmt.Sprintf("%06o\x00 ", sum))
		return append(extended[:len(extended)-1024], file(tar.Header{Typeflag: tar.TypeReg, Name: archivedDatabase}, content)...)
	}
	const size = "3000000000"
	for name, archive := range map[string][]byte{
		"0.1": pax(map[string]string{"GNU.sparse.map": size + ",0", "GNU.sparse.numblocks": "1", "GNU.sparse.size": size}, ""),
		"1.0": pax(map[string]string{
			"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": archivedDatabase, "GNU.sparse.realsize": size,
		}, "1\n"+size+"\n0\n"+strings.Repeat("\x00", 512-14)),
	} {
		if h, err := tar.NewReader(bytes.NewReader(archive)).Next(); err != nil || fmt.Sprint(h.Size) != size {
			t.Fatalf("%s: the test's own archive: %+v, %v", name, h, err)
		}
		kept := false
		_, err := readArchive(bytes.NewReader(archive), func(string, int64, io.Reader) error { kept = true; return nil })
		if !errors.Is(err, errArchive) || kept {
			t.Errorf("%s: kept %v, %v", name, kept, err)
		}
	}
}

// A file that fails to be kept is no fault of the archive.
func TestArchiveNotKept(t *testing.T) {
	full := errors.New("disk full")
	_, err := readArchive(bytes.NewReader(testArchive(t)), func(string, int64, io.Reader) error { return full })
	if !errors.Is(err, full) || errors.Is(err, errArchive) {
		t.Errorf("%v", err)
	}
}

// FuzzReadArchive: whatever is accepted has a database first, audit files below
// audit/ and nothing else, each as its manifest says.
func FuzzReadArchive(f *testing.F) {
	f.Add(testArchive(f))
	f.Add([]byte{})
	f.Add(make([]byte, 1024))
	f.Fuzz(func(t *testing.T, b []byte) {
		a, files, err := unarchive(b)
		if err != nil {
			if !errors.Is(err, errArchive) {
				t.Fatalf("%v", err)
			}
			return
		}
		for i, f := range a.Files {
			if content, ok := files[f.Name]; !ok || int64(len(content)) != f.Bytes || !expected(f.Name, i) {
				t.Fatalf("accepted with %q", f.Name)
			}
		}
		if len(files) != len(a.Files) || len(a.Files) == 0 {
			t.Fatalf("%d files, %d listed", len(files), len(a.Files))
		}
	})
}
