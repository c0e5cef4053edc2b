package main

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"hash"
	"io"
	"regexp"
	"slices"
	"strings"
	"time"

	"otpgate/internal/audit"
)

// A backup is a tar archive, compressed with gzip in its file:
//
//	otpgate.db      the database as it was at one moment
//	audit/…         the audit log, at least as far as that database knows of it
//	manifest.json   a manifest: what stands before it
//	manifest.seal   the manifest's SHA-256, sealed under a data key of that
//	                database: who made the archive had the gateway's keys
//
// Nothing else may be in it, and nothing may be missing.
const (
	archivedDatabase = "otpgate.db"
	archivedAudit    = "audit/" // and a file's name
	manifestName     = "manifest.json"
	manifestSeal     = "manifest.seal"
	archiveVersion   = 1

	// The record key and purpose of manifest.seal.
	manifestRecord, manifestPurpose = "backup", "manifest"

	// maxArchived bounds the files of an archive: audit files of 64 MiB each.
	maxArchived = 100_000
	// maxManifestBytes holds the manifest of as many.
	maxManifestBytes = 32 << 20
	// maxSealBytes is more than a sealed SHA-256.
	maxSealBytes = 1 << 10
	// maxAuditFileBytes is where a file of the audit log ends, and the entry that
	// went over it.
	maxAuditFileBytes = audit.MaxFileBytes + 1<<20
)

// errArchive means that a file is no backup, or no longer what was made.
var errArchive = errors.New("it is no sound backup of an otpgate")

var auditFileName = regexp.MustCompile(`^audit/[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

// unendedFiles are those of the audit log that no size ends: the signed heads, and
// the one file of the first version's logs.
var unendedFiles = []string{archivedAudit + "heads.jsonl", archivedAudit + "audit-000001.jsonl"}

// manifest says what an archive holds.
type manifest struct {
	V       int        `json:"v"` // archiveVersion
	Made    time.Time  `json:"made"`
	Program string     `json:"program"` // version of the otpgate that made it
	Files   []archived `json:"files"`
}

type archived struct {
	Name   string `json:"name"`
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"` // hex
}

// bytes is the size of the files together.
func (m manifest) bytes() (n int64) {
	for _, f := range m.Files {
		n += f.Bytes
	}
	return n
}

// archiveWriter writes an archive and its manifest.
type archiveWriter struct {
	tar      *tar.Writer
	manifest manifest
}

func newArchiveWriter(w io.Writer, made time.Time, program string) *archiveWriter {
	return &archiveWriter{tar.NewWriter(w), manifest{V: archiveVersion, Made: made.UTC().Truncate(time.Second), Program: program}}
}

// add adds a file of the given size.
func (a *archiveWriter) add(name string, size int64, content io.WriterTo) error {
	if err := a.header(name, size); err != nil {
		return err
	}
	sum := sha256.New()
	if _, err := content.WriteTo(io.MultiWriter(a.tar, sum)); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	a.manifest.Files = append(a.manifest.Files, archived{name, size, hexSum(sum)})
	return nil
}

// finish adds the manifest and what sign makes of its SHA-256.
func (a *archiveWriter) finish(sign func(sum []byte) []byte) error {
	text, err := json.MarshalIndent(a.manifest, "", "  ")
	if err != nil {
		return err
	}
	sum := sha256.Sum256(text)
	for _, f := range []struct {
		name    string
		content []byte
	}{{manifestName, text}, {manifestSeal, sign(sum[:])}} {
		if err := a.header(f.name, int64(len(f.content))); err != nil {
			return err
		}
		if _, err := a.tar.Write(f.content); err != nil {
			return err
		}
	}
	return a.tar.Close()
}

func (a *archiveWriter) header(name string, size int64) error {
	return a.tar.WriteHeader(&tar.Header{
		Typeflag: tar.TypeReg, Name: name, Size: size, Mode: 0o600, ModTime: a.manifest.Made,
	})
}

// archive is what there is to know of an archive that was read to its end.
type archive struct {
	manifest
	sum  []byte // SHA-256 of the manifest
	seal []byte
}

// readArchive reads an archive to its end and hands each file but the manifest
// to keep, with its size, which reads it. errArchive unless everything is there, in place, and
// as its manifest says: until then, what keep has got is not to be trusted.
func readArchive(r io.Reader, keep func(name string, size int64, content io.Reader) error) (archive, error) {
	var a archive
	var found []archived
	r = source{r}
	for files := tar.NewReader(r); ; {
		h, err := files.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return a, unsound(err)
		}
		switch name := h.Name; {
		case h.Typeflag != tar.TypeReg || sparse(h) || a.seal != nil:
			return a, unsound(fmt.Errorf("%.100q has no place in it", name))
		case name == manifestName && a.sum == nil:
			if err := a.readManifest(files); err != nil {
				return a, err
			}
		case name == manifestSeal && a.sum != nil:
			if a.seal, err = readBounded(files, maxSealBytes); err != nil {
				return a, err
			}
		case a.sum == nil && len(found) < maxArchived && expected(name, len(found)):
			if name != archivedDatabase && h.Size > maxAuditFileBytes && !slices.Contains(unendedFiles, name) {
				return a, unsound(fmt.Errorf("%s has %d bytes, more than a file of the audit log", name, h.Size))
			}
			f, err := keepFile(h, files, keep)
			if err != nil {
				return a, err
			}
			found = append(found, f)
		default:
			return a, unsound(fmt.Errorf("%.100q has no place in it", name))
		}
	}
	if _, err := io.Copy(io.Discard, r); err != nil { // the padding; also the checksum of gzip
		return a, unsound(err)
	}
	return a, a.matches(found)
}

// expected says whether name may be file number n: the database is the first.
func expected(name string, n int) bool {
	return (name == archivedDatabase) == (n == 0) && (n == 0 || auditFileName.MatchString(name))
}

// sparse reports whether a file stands in the archive without its holes, in any of
// the ways that archive/tar fills in: a hole takes no room there, and all that it
// is long on the disk. Our writer makes none.
func sparse(h *tar.Header) bool {
	for record := range h.PAXRecords {
		if strings.HasPrefix(record, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func keepFile(h *tar.Header, content io.Reader, keep func(string, int64, io.Reader) error) (archived, error) {
	sum, read := sha256.New(), &counter{}
	tee := io.TeeReader(source{content}, io.MultiWriter(sum, read))
	if err := keep(h.Name, h.Size, tee); err != nil {
		return archived{}, err
	}
	if _, err := io.Copy(io.Discard, tee); err != nil {
		return archived{}, unsound(err)
	}
	return archived{h.Name, read.n, hexSum(sum)}, nil
}

func (a *archive) readManifest(r io.Reader) error {
	text, err := readBounded(r, maxManifestBytes)
	if err != nil {
		return err
	}
	if err := json.Unmarshal(text, &a.manifest); err != nil {
		return unsound(fmt.Errorf("its manifest: %w", err))
	}
	if a.V != archiveVersion {
		return unsound(fmt.Errorf("its layout is %d, and this program knows %d", a.V, archiveVersion))
	}
	sum := sha256.Sum256(text)
	a.sum = sum[:]
	return nil
}

// matches returns errArchive unless found is what the manifest lists.
func (a *archive) matches(found []archived) error {
	if a.seal == nil {
		return unsound(errors.New("its end is missing"))
	}
	if len(found) == 0 || len(found) != len(a.Files) {
		return unsound(fmt.Errorf("it holds %d files, and its manifest lists %d", len(found), len(a.Files)))
	}
	seen := map[string]bool{}
	for i, f := range found {
		if f != a.Files[i] {
			return unsound(fmt.Errorf("%s isn't what the manifest says", f.Name))
		}
		if seen[f.Name] {
			return unsound(fmt.Errorf("%s is in it twice", f.Name))
		}
		seen[f.Name] = true
	}
	return nil
}

func readBounded(r io.Reader, limit int64) ([]byte, error) {
	b, err := io.ReadAll(io.LimitReader(r, limit+1))
	if err == nil && int64(len(b)) > limit {
		err = errors.New("its manifest is too long")
	}
	if err != nil {
		return nil, unsound(err)
	}
	return b, nil
}

func unsound(err error) error {
	if errors.Is(err, errArchive) {
		return err
	}
	return fmt.Errorf("%w: %w", errArchive, err)
}

// source is a reader whose errors are faults of the archive.
type source struct{ r io.Reader }

func (s source) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		err = unsound(err)
	}
	return n, err
}

func hexSum(h hash.Hash) string { return hex.EncodeToString(h.Sum(nil)) }

// counter counts what is written to it.
type counter struct{ n int64 }

func (c *counter) Write(p []byte) (int, error) {
	c.n += int64(len(p))
	return len(p), nil
}
