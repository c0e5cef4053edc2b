package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
)

// ErrMasterFile means that the master key's file can't be used as it is. The message
// around it says why and what to do.
var ErrMasterFile = errors.New("unusable")

const (
	// masterPrefix marks a master key's file, for its reader and for scanners
	// that look for secrets where they shouldn't be.
	masterPrefix = "otpgate-master-key-v1:"
	// maxMasterBytes is far more than the one line of a master key's file.
	maxMasterBytes = 4 << 10
	masterMode     = 0o600
)

// Master is a master key from a file. It can't be printed.
type Master struct {
	aead cipher.AEAD
}

var _ Wrapper = Master{}

// LoadMaster reads the key in the file at path: fs.ErrNotExist if there is none,
// ErrMasterFile if others than its owner may use it or it holds something else.
func LoadMaster(path string) (Master, error) {
	f, err := os.Open(path)
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	if mode := info.Mode().Perm(); mode&0o077 != 0 {
		return Master{}, fmt.Errorf("master key file %s is %w: others may use it (mode %04o); run: chmod 600 %s",
			path, ErrMasterFile, mode, path)
	}
	text, err := io.ReadAll(io.LimitReader(f, maxMasterBytes))
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	m, ok := parseMaster(text)
	if !ok {
		return Master{}, fmt.Errorf("master key file %s is %w: it must hold one line, %s and 32 bytes in Base64; restore it from its backup",
			path, ErrMasterFile, masterPrefix)
	}
	return m, nil
}

// CreateMaster makes a key and a file for it at path, mode 0600; fs.ErrExist if
// there is one. The key is on disk when it returns. Only for a database that
// isn't there yet: an existing one opens with no other key than its own.
func CreateMaster(path string) (Master, error) {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails: the program ends instead
	text := append(base64.StdEncoding.AppendEncode([]byte(masterPrefix), key), '\n')
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_EXCL, masterMode)
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	_, err = f.Write(text)
	if err = errors.Join(err, f.Sync(), f.Close()); err == nil {
		err = syncDir(filepath.Dir(path))
	}
	if err != nil { // half a key would stand in the way of the next start
		return Master{}, fmt.Errorf("master key: %w", errors.Join(err, os.Remove(path)))
	}
	aead, err := newAEAD(key)
	return Master{aead}, err
}

// Wrap implements Wrapper.
func (m Master) Wrap(key, associated []byte) ([]byte, error) {
	return m.aead.Seal(nil, nil, key, associated), nil
}

// Unwrap implements Wrapper.
func (m Master) Unwrap(wrapped, associated []byte) ([]byte, error) {
	key, err := m.aead.Open(nil, nil, wrapped, associated)
	if err != nil {
		return nil, ErrWrongMaster
	}
	return key, nil
}

const redacted = "seal.Master(redacted)"

// Format implements fmt.Formatter: every verb prints the same.
func (Master) Format(f fmt.State, _ rune) { _, _ = io.WriteString(f, redacted) }

// LogValue implements slog.LogValuer.
func (Master) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText implements encoding.TextMarshaler, and with it JSON and YAML.
func (Master) MarshalText() ([]byte, error) { return []byte(redacted), nil }

func parseMaster(text []byte) (Master, bool) {
	encoded, ok := bytes.CutPrefix(bytes.TrimSuffix(text, []byte("\n")), []byte(masterPrefix))
	if !ok {
		return Master{}, false
	}
	key, err := base64.StdEncoding.Strict().AppendDecode(nil, encoded)
	if err != nil {
		return Master{}, false
	}
	aead, err := newAEAD(key)
	return Master{aead}, err == nil
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
