package storetest

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"otpgate/internal/store"
)

// Passing tests store.Passing. open makes an empty one; it must take its time
// from package time, which the suite lets pass by testing/synctest.
func Passing(t *testing.T, open func(t *testing.T) store.Passing) {
	tests := map[string]func(t *testing.T, p store.Passing){
		"put, get, take":        putGetTake,
		"add":                   add,
		"time":                  ttl,
		"copies":                passingCopies,
		"parallel single use":   singleUse,
		"a context that's over": passingContext,
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { test(t, open(t)) })
		})
	}
}

func putGetTake(t *testing.T, p store.Passing) {
	wantGet(t, p, "k", nil)
	wantTake(t, p, "k", nil)
	passingPut(t, p, "k", "1", time.Minute)
	passingPut(t, p, "other", "x", time.Minute)
	wantGet(t, p, "k", []byte("1"))
	passingPut(t, p, "k", "2", time.Minute)
	wantGet(t, p, "k", []byte("2"))
	wantTake(t, p, "k", []byte("2"))
	wantTake(t, p, "k", nil)
	wantGet(t, p, "k", nil)
	wantGet(t, p, "other", []byte("x"))

	passingPut(t, p, "empty", "", time.Minute) // a value, unlike none
	wantGet(t, p, "empty", []byte{})
	wantTake(t, p, "empty", []byte{})
	wantTake(t, p, "empty", nil)
}

func add(t *testing.T, p store.Passing) {
	wantAdd(t, p, "k", "1", true)
	wantAdd(t, p, "k", "2", false)
	wantGet(t, p, "k", []byte("1"))
	wantTake(t, p, "k", []byte("1"))
	wantAdd(t, p, "k", "3", true)
	time.Sleep(time.Minute)
	wantAdd(t, p, "k", "4", true)
	wantGet(t, p, "k", []byte("4"))
}

func ttl(t *testing.T, p store.Passing) {
	passingPut(t, p, "short", "1", time.Second)
	passingPut(t, p, "long", "1", time.Hour)
	passingPut(t, p, "renewed", "1", time.Second)
	passingPut(t, p, "renewed", "2", time.Hour)
	passingPut(t, p, "shortened", "1", time.Hour)
	passingPut(t, p, "shortened", "2", time.Second)
	passingPut(t, p, "over", "1", 0)
	wantGet(t, p, "over", nil)
	time.Sleep(time.Second - 1)
	wantGet(t, p, "short", []byte("1"))
	time.Sleep(time.Nanosecond)
	wantGet(t, p, "short", nil)
	wantTake(t, p, "short", nil)
	wantGet(t, p, "shortened", nil)
	passingPut(t, p, "new", "1", time.Second) // a write in which engines may clear up
	wantGet(t, p, "long", []byte("1"))
	wantGet(t, p, "renewed", []byte("2"))
	time.Sleep(time.Hour)
	wantTake(t, p, "long", nil)
}

func passingCopies(t *testing.T, p store.Passing) {
	value := []byte("before")
	if err := p.Put(t.Context(), "k", value, time.Minute); err != nil {
		t.Errorf("Put: %v", err)
	}
	copy(value, "after!")
	got, err := p.Get(t.Context(), "k")
	if err != nil {
		t.Errorf("Get: %v", err)
	}
	copy(got, "spoilt")
	wantGet(t, p, "k", []byte("before"))
}

func singleUse(t *testing.T, p store.Passing) {
	const callers, rounds = 16, 50
	for range rounds {
		var added, taken atomic.Int32
		parallel(callers, func() {
			ok, err := p.Add(t.Context(), "k", []byte("1"), time.Minute)
			if err != nil {
				t.Errorf("Add: %v", err)
			}
			if ok {
				added.Add(1)
			}
		})
		parallel(callers, func() {
			value, err := p.Take(t.Context(), "k")
			if err != nil {
				t.Errorf("Take: %v", err)
			}
			if value != nil {
				taken.Add(1)
			}
		})
		if added.Load() != 1 || taken.Load() != 1 {
			t.Fatalf("added %d times and taken %d times, want once each", added.Load(), taken.Load())
		}
	}
}

// passingContext: a call that fails must not have used anything up.
func passingContext(t *testing.T, p store.Passing) {
	over, cancel := context.WithCancel(t.Context())
	cancel()
	passingPut(t, p, "k", "1", time.Minute)
	_, addErr := p.Add(over, "new", []byte("1"), time.Minute)
	_, getErr := p.Get(over, "k")
	_, takeErr := p.Take(over, "k")
	for name, err := range map[string]error{
		"Put": p.Put(over, "k", []byte("2"), time.Minute), "Add": addErr, "Get": getErr, "Take": takeErr,
	} {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v, want context.Canceled", name, err)
		}
	}
	wantGet(t, p, "new", nil)
	wantTake(t, p, "k", []byte("1"))
}

func parallel(n int, fn func()) {
	var all sync.WaitGroup
	for range n {
		all.Go(fn)
	}
	all.Wait()
}

func passingPut(t *testing.T, p store.Passing, key, value string, ttl time.Duration) {
	t.Helper()
	if err := p.Put(t.Context(), key, []byte(value), ttl); err != nil {
		t.Errorf("Put: %v", err)
	}
}

func wantAdd(t *testing.T, p store.Passing, key, value string, want bool) {
	t.Helper()
	if got, err := p.Add(t.Context(), key, []byte(value), time.Minute); err != nil || got != want {
		t.Errorf("Add(%q) = %v, %v; want %v", key, got, err, want)
	}
}

func wantGet(t *testing.T, p store.Passing, key string, want []byte) {
	t.Helper()
	got, err := p.Get(t.Context(), key)
	if err != nil || string(got) != string(want) || (got == nil) != (want == nil) {
		t.Errorf("Get(%q) = %q, %v; want %q", key, got, err, want)
	}
}

func wantTake(t *testing.T, p store.Passing, key string, want []byte) {
	t.Helper()
	got, err := p.Take(t.Context(), key)
	if err != nil || string(got) != string(want) || (got == nil) != (want == nil) {
		t.Errorf("Take(%q) = %q, %v; want %q", key, got, err, want)
	}
}
