package verifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"otpgate/internal/store"
	"time"
)

// Hot records are written at every try: small, fixed, big-endian, with a
// version byte first. An absent record is the zero state of its kind.

const hotVersion = 1

// noStep is the last step of a token that has never been accepted.
const noStep = -1

// counter counts wrong codes in a row and holds the lock they lead to.
type counter struct {
	failures int
	lockedAt int64 // unix seconds; 0: not locked
}

// afterTime is the counter as it stands at now: a lock whose time is over is
// gone, and its failures with it.
func (c counter) afterTime(l Lockout, now time.Time) counter {
	if c.lockedAt != 0 && l.UnlockAfter > 0 && now.Unix() >= c.lockedAt+int64(l.UnlockAfter/time.Second) {
		return counter{}
	}
	return c
}

func (c counter) locked() bool { return c.lockedAt != 0 }

// fail counts one more wrong code and locks at the limit.
func (c counter) fail(l Lockout, now time.Time) counter {
	c.failures++
	if c.failures >= l.Consecutive && c.lockedAt == 0 {
		c.lockedAt = now.Unix()
	}
	return c
}

// tokenState is the hot record of a token.
type tokenState struct {
	counter
	last   int64 // highest step ever accepted, or noStep; never falls
	usedAt int64 // unix seconds of the last acceptance; 0: never
}

// userState is the hot record of a user.
type userState struct {
	counter
}

// realmState is the hot record of a realm.
type realmState struct {
	// refused counts the tries that changed no user's record. Writing it makes
	// those cost what a counted one costs, so that the time of an answer
	// doesn't tell whether a user exists.
	refused uint64
}

const (
	counterSize    = 2 + 8
	userStateSize  = 1 + counterSize
	tokenStateSize = 1 + counterSize + 8 + 8
	realmStateSize = 1 + 8
)

var errHotRecord = errors.New("damaged state record")

func appendCounter(b []byte, c counter) []byte {
	b = binary.BigEndian.AppendUint16(b, uint16(min(c.failures, 1<<16-1)))
	return binary.BigEndian.AppendUint64(b, uint64(c.lockedAt))
}

func decodeCounter(b []byte) counter {
	return counter{failures: int(binary.BigEndian.Uint16(b)), lockedAt: int64(binary.BigEndian.Uint64(b[2:]))}
}

func (s userState) encode() []byte {
	return appendCounter(append(make([]byte, 0, userStateSize), hotVersion), s.counter)
}

func (s tokenState) encode() []byte {
	b := appendCounter(append(make([]byte, 0, tokenStateSize), hotVersion), s.counter)
	b = binary.BigEndian.AppendUint64(b, uint64(s.last))
	return binary.BigEndian.AppendUint64(b, uint64(s.usedAt))
}

func (s realmState) encode() []byte {
	return binary.BigEndian.AppendUint64(append(make([]byte, 0, realmStateSize), hotVersion), s.refused)
}

// hot reads the hot record at key; nil if there is none. It checks version and
// size, so that what decodes it can index freely.
func hot(r store.Reader, key string, size int) ([]byte, error) {
	b, err := r.Get(key)
	if err != nil || b == nil {
		return nil, err
	}
	if len(b) != size || b[0] != hotVersion {
		return nil, fmt.Errorf("%w %q: %d bytes", errHotRecord, key, len(b))
	}
	return b[1:], nil
}

func readUserState(r store.Reader, realm, user string) (userState, error) {
	b, err := hot(r, userStateKey(realm, user), userStateSize)
	if err != nil || b == nil {
		return userState{}, err
	}
	return userState{decodeCounter(b)}, nil
}

func readTokenState(r store.Reader, serial string) (tokenState, error) {
	b, err := hot(r, tokenStateKey(serial), tokenStateSize)
	if err != nil || b == nil {
		return tokenState{last: noStep}, err
	}
	return tokenState{
		counter: decodeCounter(b),
		last:    int64(binary.BigEndian.Uint64(b[counterSize:])),
		usedAt:  int64(binary.BigEndian.Uint64(b[counterSize+8:])),
	}, nil
}

func readRealmState(r store.Reader, realm string) (realmState, error) {
	b, err := hot(r, realmStateKey(realm), realmStateSize)
	if err != nil || b == nil {
		return realmState{}, err
	}
	return realmState{binary.BigEndian.Uint64(b)}, nil
}
