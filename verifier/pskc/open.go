package pskc

import (
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/pbkdf2"
	"crypto/sha1" //nolint:gosec // RFC 6030 §6.1.1 recommends HMAC-SHA-1; vendors' files use it.
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"hash"
	"strings"
)

const (
	// maxIterations bounds what a file may make us compute: some seconds.
	maxIterations = 10_000_000
	maxSalt       = 1 << 10
	// minMACKey is the shortest key of an HMAC that is worth the name; a
	// shorter one comes out when the wrong key opens it.
	minMACKey = 16
)

// hashes by the name of the HMAC made of them.
var hashes = map[string]func() hash.Hash{
	"hmac-sha1":   sha1.New,
	"hmac-sha224": sha256.New224,
	"hmac-sha256": sha256.New,
	"hmac-sha384": sha512.New384,
	"hmac-sha512": sha512.New,
}

// hmacName is the name of an HMAC in its identifier (RFC 6931 §2.2), "" for an
// unknown one.
func hmacName(identifier string) string {
	for _, space := range []string{nsDS, "http://www.w3.org/2001/04/xmldsig-more#", nsPKCS5} {
		if name, ok := strings.CutPrefix(identifier, space); ok && hashes[name] != nil {
			return name
		}
	}
	return ""
}

// opener opens encrypted values.
type opener struct {
	options    Options
	declared   bool        // the file has an EncryptionKey
	derivation *derivation // nil: the key is pre-shared
	mac        *macMethod  // nil: the file has none

	key    []byte // made at the first value that needs it
	macKey []byte
}

type macMethod struct {
	hash func() hash.Hash
	key  *encrypted // nil: none is given
}

// derivation is PBKDF2 (RFC 8018 §5.2).
type derivation struct {
	salt       []byte
	iterations int
	keyBytes   int
	prf        string
}

// encrypted is an xenc:EncryptedDataType.
type encrypted struct {
	algorithm string
	value     []byte
}

func (d *derivation) check() error {
	switch {
	case hashes[d.prf] == nil:
		return &FileError{Problem: "the key derivation's pseudo-random function (PRF) is not known"}
	case len(d.salt) == 0 || len(d.salt) > maxSalt:
		return &FileError{Problem: fmt.Sprintf("the key derivation's salt has %d octets: it must have from 1 to %d", len(d.salt), maxSalt)}
	case d.iterations < 1 || d.iterations > maxIterations:
		return &FileError{Problem: fmt.Sprintf("the key derivation takes %d iterations: from 1 to %d are allowed", d.iterations, maxIterations)}
	case d.keyBytes != 16 && d.keyBytes != 24 && d.keyBytes != 32:
		return &FileError{Problem: fmt.Sprintf("the key derivation makes %d octets: AES takes 16, 24 or 32", d.keyBytes)}
	}
	return nil
}

// open returns what v holds. The MAC is checked first, in constant time. A
// *FileError means that nothing in the file can be opened.
func (o *opener) open(v *value, fromText func(string) ([]byte, error)) ([]byte, error) {
	if v.encrypted == nil {
		if v.mac != nil {
			return nil, errors.New("a MAC over a value in clear is not supported")
		}
		return fromText(v.plain)
	}
	if err := o.prepare(); err != nil {
		return nil, err
	}
	if v.mac == nil {
		return nil, errors.New("it is encrypted, but has no MAC")
	}
	// RFC 6030 §6.1.1: over the encrypted value, the IV included.
	mac := hmac.New(o.mac.hash, o.macKey)
	mac.Write(v.encrypted.value)
	if !hmac.Equal(mac.Sum(nil), v.mac) {
		return nil, errors.New("its MAC is wrong: the value was changed, or the key is another file's")
	}
	return decrypt(o.key, v.encrypted)
}

// openSecret is open for the one value that must not be in clear unless the whole
// file is meant to be.
func (o *opener) openSecret(v *value) ([]byte, error) {
	switch {
	case v.encrypted != nil:
	case o.declared || o.mac != nil:
		return nil, &FileError{
			Problem: "a secret stands here in clear, though the file says that its secrets are encrypted: it may have been put in by somebody else",
			Hint:    "import nothing of this file; ask its maker for it anew",
		}
	case len(o.options.Key)+len(o.options.Password) > 0:
		return nil, &FileError{
			Problem: "a secret stands here in clear, though a key or password was given for the file: it may not be the file that its maker encrypted",
			Hint:    "if its maker did send it in clear, import it without --key-file and --password-file",
		}
	}
	return o.open(v, decodeBase64)
}

// prepare makes the keys.
func (o *opener) prepare() error {
	if o.macKey != nil {
		return nil
	}
	if o.mac == nil || o.mac.key == nil {
		return &FileError{Problem: "the file has encrypted values, but no MAC key (MACMethod) to check them with"}
	}
	key, err := o.makeKey()
	if err != nil {
		return err
	}
	macKey, err := decrypt(key, o.mac.key)
	if err == nil && len(macKey) < minMACKey {
		err = errDecrypt
	}
	if err != nil {
		hint := "name the right --key-file"
		if o.derivation != nil {
			hint = "name the right --password-file"
		}
		return &FileError{Problem: "the file's MAC key can't be opened: " + err.Error(), Hint: hint}
	}
	o.key, o.macKey = key, macKey
	return nil
}

func (o *opener) makeKey() ([]byte, error) {
	if o.derivation == nil {
		if len(o.options.Key) == 0 {
			return nil, &FileError{Problem: "the file is encrypted under a pre-shared key", Hint: "name it with --key-file"}
		}
		return o.options.Key, nil
	}
	if len(o.options.Password) == 0 {
		return nil, &FileError{Problem: "the file is encrypted under a password", Hint: "name it with --password-file"}
	}
	d := o.derivation
	key, err := pbkdf2.Key(hashes[d.prf], string(o.options.Password), d.salt, d.iterations, d.keyBytes)
	if err != nil {
		return nil, &FileError{Problem: "the key can't be derived: " + err.Error()}
	}
	return key, nil
}

var errDecrypt = errors.New("the key doesn't fit")

// ciphers are those of RFC 6030 §6.1 that are made of AES.
var ciphers = map[string]struct {
	bits int // of the key
	open func(cipher.Block, []byte) ([]byte, error)
}{
	nsXENC + "aes128-cbc":       {128, decryptCBC},
	nsXENC + "aes192-cbc":       {192, decryptCBC},
	nsXENC + "aes256-cbc":       {256, decryptCBC},
	nsXENC + "kw-aes128":        {128, unwrap},
	nsXENC + "kw-aes192":        {192, unwrap},
	nsXENC + "kw-aes256":        {256, unwrap},
	nsXENC11 + "kw-aes-128-pad": {128, unwrapPadded},
	nsXENC11 + "kw-aes-192-pad": {192, unwrapPadded},
	nsXENC11 + "kw-aes-256-pad": {256, unwrapPadded},
}

// decrypt opens d.
func decrypt(key []byte, d *encrypted) ([]byte, error) {
	c, ok := ciphers[d.algorithm]
	if !ok {
		return nil, fmt.Errorf("the encryption %.100q is not supported", d.algorithm)
	}
	if len(key)*8 != c.bits {
		return nil, fmt.Errorf("the key has %d bits, the encryption takes %d", len(key)*8, c.bits)
	}
	block, err := aes.NewCipher(key)
	if err != nil {
		return nil, err
	}
	return c.open(block, d.value)
}

// decryptCBC: the IV comes first, the last octet counts the padding, the rest
// of which may be anything (XML Encryption §5.2).
func decryptCBC(block cipher.Block, value []byte) ([]byte, error) {
	const size = aes.BlockSize
	if len(value) < 2*size || len(value)%size != 0 {
		return nil, errDecrypt
	}
	plain := make([]byte, len(value)-size)
	cipher.NewCBCDecrypter(block, value[:size]).CryptBlocks(plain, value[size:])
	padding := int(plain[len(plain)-1])
	if padding < 1 || padding > size {
		return nil, errDecrypt
	}
	return plain[:len(plain)-padding], nil
}
