// Package pskc reads token batches as manufacturers deliver them: the Portable
// Symmetric Key Container of RFC 6030.
//
//	KeyContainer
//	├ EncryptionKey   how values are encrypted: a shared key, or a password
//	├ MACMethod       how encrypted values are authenticated, and under what key
//	├ KeyPackage …    one token each: DeviceInfo, and Key with AlgorithmParameters,
//	│                 Data (Secret, Counter, Time, TimeInterval, TimeDrift), Policy
//	├ Signature       refused: it covers the whole file, and files are streamed
//	└ Extensions      skipped
//
// Read goes through the file once, package by package: a file of any length
// takes the memory of one package. Two kinds of faults:
//
//	KeyError    one key can't be used; reading goes on
//	FileError   the file can't be read or opened; nothing follows
//
// What is read is never guessed: a value that isn't there and has no default in
// the RFC, an algorithm or policy that isn't known, an encrypted value without a
// MAC are refused. So is a secret in clear where a key or password was given, or
// the file says that it is encrypted: it needs no MAC, and anybody could have put
// it in the place of one that does. What the RFC allows and this package refuses
// stands in docs/divergences.md.
//
//	pskc.go     what callers see
//	scan.go     XML: bounded, without DTDs, entities and tricks with comments
//	package.go  the elements of RFC 6030, as they are written
//	key.go      what they mean
//	open.go     decryption and MACs; keywrap.go: RFC 3394 and 5649
//
// The package knows no clock and no store. Whether a token may be taken is the
// verifier's business.
package pskc

import (
	"fmt"
	"io"
	"iter"
	"time"

	"otpgate/verifier/otp"
)

// Options say how encrypted values are opened. A file uses one of the two, or
// neither.
type Options struct {
	Key      []byte // the pre-shared key, 16, 24 or 32 octets (RFC 6030 §6.1)
	Password []byte // the passphrase (RFC 6030 §6.2)
}

// Key is one token of a file.
type Key struct {
	Line   int    // of its KeyPackage in the file
	Serial string // DeviceInfo's SerialNo, or the Key's Id if there is none
	ID     string
	Secret []byte
	Params otp.Params

	// First is the first counter value or step that may be used: the Counter
	// of an HOTP token, the Time of a TOTP token, 0 if the file has none.
	First int64
	// Drift is how far a TOTP token's clock was ahead of the server's that it
	// was last used at: TimeDrift, which counts intervals (RFC 6030 §4.1).
	Drift time.Duration

	// The key may be used between these times, inclusive; zero: no limit
	// (RFC 6030 §4.3.1 and §5).
	NotBefore, NotAfter time.Time

	Manufacturer, Model string // for people
}

// KeyError is a fault of one key. Reading goes on behind it.
type KeyError struct {
	Line    int    // of the KeyPackage
	Serial  string // empty if the package names none
	Problem string
}

func (e *KeyError) Error() string {
	return fmt.Sprintf("line %d: token %s: %s", e.Line, e.Serial, e.Problem)
}

// FileError is a fault of the file as a whole, or of the key it was to be opened
// with.
type FileError struct {
	Line    int // where reading stopped
	Problem string
	Hint    string // what to do; may be empty
}

func (e *FileError) Error() string {
	text := fmt.Sprintf("line %d: %s", e.Line, e.Problem)
	if e.Hint != "" {
		text += ": " + e.Hint
	}
	return text
}

// Read yields the keys of a file, in its order. The error of a pair is a
// *KeyError, after which there may be more, or the last: a *FileError, or what r
// returned. It goes on without a key for as long as r does: who may lose interest
// lets r end.
func Read(r io.Reader, o Options) iter.Seq2[Key, error] {
	return func(yield func(Key, error) bool) {
		f := &file{scanner: newScanner(r), opener: opener{options: o}, yield: yield}
		if err := f.read(); err != nil && !f.stopped {
			yield(Key{}, err)
		}
	}
}
