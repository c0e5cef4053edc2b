package oidc

import (
	"testing"
	"testing/synctest"
	"time"
)

// A reservation lasts at least as long as what it is for, and is free soon after.
func TestReservationEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(time.Now())
		a.limit = 100
		time.Sleep(1900 * time.Millisecond)
		c, ok := a.reserve(time.Now(), finishing, 60, 90*time.Second)
		if !ok {
			t.Fatal("no room in an empty account")
		}
		time.Sleep(90 * time.Second)
		if _, ok := a.reserve(time.Now(), finishing, 60, time.Second); ok {
			t.Error("free before its time is over")
		}
		time.Sleep(2 * time.Second)
		if _, ok := a.reserve(time.Now(), finishing, 60, 90*time.Second); !ok {
			t.Error("still taken after its time")
		}
		a.release(c) // too late: it was given back already
		if _, ok := a.reserve(time.Now(), finishing, 60, time.Second); ok {
			t.Error("a reservation was given back twice")
		}
	})
}

func TestBeginningLeavesRoomForFinishing(t *testing.T) {
	a := newAccount(time.Unix(0, 0))
	a.limit = 800
	for _, test := range []struct {
		why   purpose
		bytes int
		ok    bool
	}{{beginning, 701, false}, {beginning, 700, true}, {beginning, 1, false}, {finishing, 101, false}, {finishing, 100, true}, {finishing, 1, false}} {
		if _, ok := a.reserve(time.Unix(0, 0), test.why, test.bytes, time.Minute); ok != test.ok {
			t.Errorf("purpose %d, %d bytes: %v", test.why, test.bytes, ok)
		}
	}
}
