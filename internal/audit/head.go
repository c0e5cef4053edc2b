package audit

import (
	"crypto/ed25519"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"time"
)

// ErrNoKey is returned for a file that holds no public key of an audit log.
var ErrNoKey = errors.New("it holds no Ed25519 public key in PEM")

// Head says, over a signature, what the log's entries were up to one of them:
// each line holds the hash of the one before, so that Hash stands for all.
type Head struct {
	Seq  uint64    `json:"seq"`
	Hash string    `json:"hash"` // SHA-256 (hex) of line Seq
	Time time.Time `json:"time"` // of signing, UTC
	Sig  []byte    `json:"sig"`  // Ed25519, over message
}

// maxKeyBytes is far more than a PEM block of 32 bytes.
const maxKeyBytes = 4 << 10

// SignedBy reports whether h was signed with key's other half.
func (h Head) SignedBy(key ed25519.PublicKey) bool { return ed25519.Verify(key, h.message(), h.Sig) }

// message is what is signed. Its first line keeps a signature for anything else
// from passing for one here.
func (h Head) message() []byte {
	return fmt.Appendf(nil, "otpgate audit head 1\n%d\n%s\n%s\n", h.Seq, h.Hash, h.Time.UTC().Format(time.RFC3339Nano))
}

func signHead(key ed25519.PrivateKey, seq uint64, hash string, now time.Time) Head {
	h := Head{Seq: seq, Hash: hash, Time: now.UTC()}
	h.Sig = ed25519.Sign(key, h.message())
	return h
}

// decodeHead reads one line of heads.jsonl. The signature is for the caller to
// check.
func decodeHead(line []byte) (Head, error) {
	var h Head
	if err := json.Unmarshal(line, &h); err != nil {
		return Head{}, fmt.Errorf("%w: %w", ErrDamaged, err)
	}
	if hash, err := hex.DecodeString(h.Hash); err != nil || len(hash) != sha256.Size || h.Seq == 0 || len(h.Sig) != ed25519.SignatureSize {
		return Head{}, fmt.Errorf("%w: no number, hash or signature", ErrDamaged)
	}
	return h, nil
}

// ReadPublicKey reads a copy of audit.pub.
func ReadPublicKey(path string) (ed25519.PublicKey, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	text, err := io.ReadAll(io.LimitReader(f, maxKeyBytes))
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s: %w", path, ErrNoKey)
	}
	parsed, err := x509.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w: %w", path, ErrNoKey, err)
	}
	key, ok := parsed.(ed25519.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s: %w", path, ErrNoKey)
	}
	return key, nil
}

// checkPublicKey returns ErrOtherKey if dir belongs to another signing key. It
// reports whether audit.pub is there.
func checkPublicKey(dir string, key ed25519.PublicKey) (there bool, err error) {
	stored, err := ReadPublicKey(filepath.Join(dir, keyName))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case !stored.Equal(key):
		return true, fmt.Errorf("%s: %w", filepath.Join(dir, keyName), ErrOtherKey)
	}
	return true, nil
}

// writePublicKey writes audit.pub, whole or not at all.
func writePublicKey(dir string, key ed25519.PublicKey) error {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return err
	}
	path := filepath.Join(dir, keyName)
	f, err := os.OpenFile(path+".new", os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	_, err = f.Write(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	return os.Rename(f.Name(), path)
}
