package seal

import (
	"bytes"
	"crypto/cipher"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"syscall"

	"otpgate/internal/durable"
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
)

// Master is a master key from a file. It can't be printed.
type Master struct {
	aead cipher.AEAD
}

var _ Wrapper = Master{}

// LoadMaster reads the key in the file at path: fs.ErrNotExist if there is none,
// ErrMasterFile if others than us and root may use it or it holds something else.
func LoadMaster(path string) (Master, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // doesn't wait at a FIFO
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
	}
	if err := checkMasterFile(path, info); err != nil {
		return Master{}, err
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

// checkMasterFile says why a file's kind, mode or owner keeps it from being
// used.
func checkMasterFile(path string, info fs.FileInfo) error {
	mode := info.Mode()
	switch stat, ok := info.Sys().(*syscall.Stat_t); {
	case !mode.IsRegular():
		return fmt.Errorf("master key file %s is %w: it is no regular file", path, ErrMasterFile)
	case mode.Perm()&0o077 != 0:
		return fmt.Errorf("master key file %s is %w: others may use it (mode %04o); run: chmod 600 %s",
			path, ErrMasterFile, mode.Perm(), path)
	case ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid():
		return fmt.Errorf("master key file %s is %w: it belongs to another user (uid %d); run otpgate as that user, or chown the file",
			path, ErrMasterFile, stat.Uid)
	}
	return nil
}

// CreateMaster makes a key and a file for it at path, mode 0600; fs.ErrExist if
// there is one. The file appears whole or not at all, and is on disk when it
// returns. Only for a database that isn't there yet, or to move one to it
// (Rotation.StartUnder): an existing one opens with no other key than its own.
func CreateMaster(path string) (Master, error) {
	key := make([]byte, keyBytes)
	rand.Read(key) // never fails: the program ends instead
	text := append(base64.StdEncoding.AppendEncode([]byte(masterPrefix), key), '\n')
	if err := durable.Create(path, text); err != nil {
		return Master{}, fmt.Errorf("master key: %w", err)
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
