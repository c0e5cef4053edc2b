package verifier

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"otpgate/internal/store"
)

// Hot records are written at every try: small, fixed, big-endian, a version
// byte first. An absent record is the zero state of its kind. The exported
// fields below are the layout, in order; a changed layout is a new version.
const hotVersion = 2

// noStep is the last step of a token that has never been accepted.
const noStep = -1

// counter counts wrong codes in a row and holds the lock they lead to.
type counter struct {
	Failures uint16
	LockedAt int64 // unix seconds; 0: not locked
}

// afterTime is the counter as it stands at now: a lock whose time is over is
// gone, and its failures with it.
func (c counter) afterTime(l Lockout, now time.Time) counter {
	if c.LockedAt != 0 && l.UnlockAfter > 0 && now.Unix() >= c.LockedAt+int64(l.UnlockAfter/time.Second) {
		return counter{}
	}
	return c
}

func (c counter) locked() bool { return c.LockedAt != 0 }

// fail counts one more wrong code and locks at the limit.
func (c counter) fail(l Lockout, now time.Time) counter {
	c.Failures = min(c.Failures+1, 1<<16-2)
	if int(c.Failures) >= l.Consecutive && c.LockedAt == 0 {
		c.LockedAt = now.Unix()
	}
	return c
}

// tokenState is the hot record of a token.
type tokenState struct {
	Row    counter
	Last   int64 // highest step ever accepted, or noStep; never falls
	UsedAt int64 // unix seconds of the last acceptance; 0: never
	Clock  clock
	Wanted wanted
	// TriedAt is when this token, lost or suspended, last showed a right code;
	// unix seconds, 0: never.
	TriedAt int64
}

// wanted is a right code far off what the clock allows: only with the next one
// does it count.
type wanted struct {
	Step  int64  // of the first code
	Until int64  // unix seconds: how long the next one is waited for; 0: none is wanted
	Login uint64 // in which log-in; see Attempt.login
}

// userState is the hot record of a user.
type userState struct {
	Row counter
	// LongRun is what success does not reset.
	LongRun  longRun
	Unlocker uint8 // right codes in a row while locked; see Lockout.UnlockCodes
}

// barred says that the user is locked, and that no code can open the lock.
func (u userState) barred(l Lockout, now time.Time) bool {
	return u.LongRun.LockedAt != 0 || l.UnlockCodes == 0 && u.Row.afterTime(l, now).locked()
}

// triesLeft is how many wrong codes in a row a user who isn't locked has left:
// one at least, though the policy may have become stricter meanwhile.
func (u userState) triesLeft(l Lockout, now time.Time) int {
	left := l.Consecutive - int(u.Row.Failures)
	if l.LongRun > 0 {
		left = min(left, l.LongRun-u.LongRun.turn(now.Unix()/week).sum())
	}
	return max(1, left)
}

// realmState is the hot record of a realm.
type realmState struct {
	// Refused counts the tries that changed no user's record. Writing it makes
	// those cost what a counted one costs, so that the time of an answer
	// doesn't tell whether a user exists.
	Refused uint64
	Spray   spray
}

// The first layouts, which older databases hold.
type (
	tokenStateV1 struct {
		Row          counter
		Last, UsedAt int64
	}
	userStateV1  struct{ Row counter }
	realmStateV1 struct{ Refused uint64 }
)

var errHotRecord = errors.New("damaged state record")

// encodeHot is the inverse of decodeHot.
func encodeHot[T tokenState | userState | realmState](state T) []byte {
	b, err := binary.Append([]byte{hotVersion}, binary.BigEndian, state)
	if err != nil {
		panic(err) // a field without a fixed size
	}
	return b
}

// readHot reads the hot record at key: of the current layout, or of the first
// one, which upgrade turns into it. absent is the state if there is none.
func readHot[T tokenState | userState | realmState, V1 any](r store.Reader, key string, absent T, upgrade func(V1) T) (T, error) {
	b, err := r.Get(key)
	if err != nil || b == nil {
		return absent, err
	}
	state, ok := decodeHot(b, upgrade)
	if !ok {
		return absent, fmt.Errorf("%w %q: %d bytes", errHotRecord, key, len(b))
	}
	return state, nil
}

func decodeHot[T any, V1 any](b []byte, upgrade func(V1) T) (state T, ok bool) {
	if len(b) == 0 {
		return state, false
	}
	body := b[1:]
	switch b[0] {
	case hotVersion:
		return state, decodeExactly(body, &state)
	case 1:
		var first V1
		if !decodeExactly(body, &first) {
			return state, false
		}
		return upgrade(first), true
	}
	return state, false
}

func decodeExactly(b []byte, into any) bool {
	n, err := binary.Decode(b, binary.BigEndian, into)
	return err == nil && n == len(b)
}

func readTokenState(r store.Reader, serial string) (tokenState, error) {
	return readHot(r, tokenStateKey(serial), tokenState{Last: noStep}, func(v tokenStateV1) tokenState {
		return tokenState{Row: v.Row, Last: v.Last, UsedAt: v.UsedAt}
	})
}

func readUserState(r store.Reader, realm, user string) (userState, error) {
	return readHot(r, userStateKey(realm, user), userState{}, func(v userStateV1) userState { return userState{Row: v.Row} })
}

func readRealmState(r store.Reader, realm string) (realmState, error) {
	return readHot(r, realmStateKey(realm), realmState{}, func(v realmStateV1) realmState { return realmState{Refused: v.Refused} })
}
