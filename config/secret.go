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

const (
	// minSecret is what RFC 2865 §3 asks of a shared secret, in octets.
	minSecret = 16
	// minClientSecret is what nobody guesses, however it is written: 128 bits in
	// hex, and more in base64.
	minClientSecret = 32
)

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

// kind is what a secret has to be besides a line of text: it returns what is
// wrong with one, in words that follow where it stands.
type kind func(text string) error

// sharedSecret is a secret shared over RADIUS.
func sharedSecret(text string) error {
	if len(text) < minSecret {
		return fmt.Errorf("holds a secret of %d characters; %d are needed (RFC 2865): %s",
			len(text), minSecret, howToMakeSecret)
	}
	return nil
}

// clientSecret is one that a portal authenticates by.
func clientSecret(text string) error {
	if len(text) < minClientSecret {
		return fmt.Errorf("holds a secret of %d characters; %d are needed: %s", len(text), minClientSecret, howToMakeSecret)
	}
	return nil
}

// password is one that another system has chosen.
func password(text string) error {
	if text == "" {
		return errors.New("is empty")
	}
	return nil
}

// readSecret reads the secret in a file. Errors are sentences for the person
// who edits gateway.yaml; errors.Is finds fs.ErrNotExist.
func readSecret(path string, is kind) (Secret, error) {
	data, err := readFile(path, maxSecret, ownerOnly)
	if err != nil {
		return Secret{}, err
	}
	secret, err := newSecretFrom(data, is)
	if err != nil {
		return Secret{}, fmt.Errorf("%s %w", path, err)
	}
	return secret, nil
}

// envSecret reads the secret in an environment variable.
func envSecret(name string, is kind) (Secret, error) {
	value, set := os.LookupEnv(name)
	if !set {
		return Secret{}, fmt.Errorf("the environment variable %s isn't set", name)
	}
	if len(value) > maxSecret {
		return Secret{}, fmt.Errorf("the environment variable %s holds more than %d bytes", name, maxSecret)
	}
	secret, err := newSecretFrom([]byte(value), is)
	if err != nil {
		return Secret{}, fmt.Errorf("the environment variable %s %w", name, err)
	}
	return secret, nil
}

// newSecretFrom checks a secret. The line break that editors and openssl put
// at the end of a file isn't part of it.
func newSecretFrom(data []byte, is kind) (Secret, error) {
	text := strings.TrimRight(string(data), "\r\n")
	switch {
	case strings.ContainsFunc(text, unicode.IsControl) || !utf8.ValidString(text):
		return Secret{}, errors.New("holds something other than one line of text")
	case strings.TrimSpace(text) != text:
		return Secret{}, errors.New("begins or ends with a space: gear would trip over it")
	}
	if err := is(text); err != nil {
		return Secret{}, err
	}
	return NewSecret([]byte(text)), nil
}
