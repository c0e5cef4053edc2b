package config

import (
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"unicode"
	"unicode/utf8"

	"otpgate/internal/durable"
)

// secretLength is how many octets a secret must have.
type secretLength int

const (
	// minSecret is what RFC 2865 §3 asks of a shared secret.
	minSecret secretLength = 16
	// minClientSecret is what nobody guesses, however it is written: 128 bits in
	// hex, and more in base64.
	minClientSecret secretLength = 32
)

// String says what is needed, and who says so.
func (l secretLength) String() string {
	if l == minSecret {
		return fmt.Sprintf("%d are needed (RFC 2865)", int(l))
	}
	return fmt.Sprintf("%d are needed", int(l))
}

const (
	// maxSecret bounds a secret, in bytes: more than any gear can be given.
	maxSecret = 1024
	// newSecret is the entropy of a secret that we make, in bytes: 32
	// characters in base64url, which every piece of gear can be given.
	newSecret = 24
)

// howToMakeSecret ends the sentences about a secret that isn't there.
const howToMakeSecret = "(umask 077; openssl rand -base64 24 > FILE) makes one"

// redacted is what a Secret shows of itself.
const redacted = "[secret]"

// Secret is a value that doesn't print itself: not with fmt, not as JSON, not
// in a log.
type Secret struct {
	// A function: where fmt reaches it through a private field, and so can't
	// call Format, all it can print is an address.
	reveal func() []byte
}

// NewSecret wraps b.
func NewSecret(b []byte) Secret { return Secret{func() []byte { return b }} }

// Bytes is the secret itself, nil if there is none. Not to be changed.
func (s Secret) Bytes() []byte {
	if s.reveal == nil {
		return nil
	}
	return s.reveal()
}

// Format hides the secret from every verb of fmt.
func (s Secret) Format(f fmt.State, _ rune) { fmt.Fprint(f, redacted) }

// String hides the secret.
func (s Secret) String() string { return redacted }

// MarshalText hides the secret from JSON, YAML and slog.
func (s Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// SecretsToMake lists the RADIUS secret files that are missing and that the
// first start makes: those inside data_dir while it has no database. Load
// reports any other missing file as a fault.
func (c *Config) SecretsToMake() []string {
	var files []string
	seen := map[string]bool{}
	for _, client := range c.Radius.Clients {
		if client.secretToMake && !seen[client.SecretFile] {
			seen[client.SecretFile] = true
			files = append(files, client.SecretFile)
		}
	}
	return files
}

// MakeSecrets makes the files that SecretsToMake lists and fills in their
// clients' secrets. serve calls it before it opens the database: from then on
// a missing secret is a fault.
func (c *Config) MakeSecrets() error {
	for _, file := range c.SecretsToMake() {
		secret, err := CreateSecret(file)
		if err != nil {
			return err
		}
		for i := range c.Radius.Clients {
			if client := &c.Radius.Clients[i]; client.secretToMake && client.SecretFile == file {
				client.Secret, client.secretToMake = secret, false
			}
		}
	}
	return nil
}

// CreateSecret writes a new random secret to path, mode 0600, and returns it.
// The file appears whole or not at all, and an existing one is never replaced:
// the error is fs.ErrExist then. Missing directories are made, mode 0700.
func CreateSecret(path string) (Secret, error) {
	random := make([]byte, newSecret)
	rand.Read(random) // never fails, by its contract
	text := base64.RawURLEncoding.EncodeToString(random)
	err := os.MkdirAll(filepath.Dir(path), 0o700)
	if err == nil {
		err = durable.Create(path, []byte(text+"\n"))
	}
	if err != nil {
		return Secret{}, fmt.Errorf("can't make the secret file %s: %w", path, err)
	}
	return NewSecret([]byte(text)), nil
}

// readSecret reads the secret in a file. Errors are sentences for the person
// who edits gateway.yaml; errors.Is finds fs.ErrNotExist.
func readSecret(path string, least secretLength) (Secret, error) {
	data, err := readFile(path, maxSecret, ownerOnly)
	if err != nil {
		return Secret{}, err
	}
	secret, err := newSecretFrom(data, least)
	if err != nil {
		return Secret{}, fmt.Errorf("%s %w", path, err)
	}
	return secret, nil
}

// envSecret reads the secret in an environment variable.
func envSecret(name string, least secretLength) (Secret, error) {
	value, set := os.LookupEnv(name)
	if !set {
		return Secret{}, fmt.Errorf("the environment variable %s isn't set", name)
	}
	if len(value) > maxSecret {
		return Secret{}, fmt.Errorf("the environment variable %s holds more than %d bytes", name, maxSecret)
	}
	secret, err := newSecretFrom([]byte(value), least)
	if err != nil {
		return Secret{}, fmt.Errorf("the environment variable %s %w", name, err)
	}
	return secret, nil
}

// newSecretFrom checks a secret. The line break that editors and openssl put
// at the end of a file isn't part of it.
func newSecretFrom(data []byte, least secretLength) (Secret, error) {
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text):
		return Secret{}, errors.New("holds something other than one line of text")
	case strings.TrimSpace(text) != text:
		return Secret{}, errors.New("begins or ends with a space: gear would trip over it")
	case len(text) < int(least):
		return Secret{}, fmt.Errorf("holds a secret of %d characters; %v: %s", len(text), least, howToMakeSecret)
	}
	return NewSecret([]byte(text)), nil
}
