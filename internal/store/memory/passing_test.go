package memory

import (
	"errors"
	"fmt"
	"otpgate/internal/store"
	"otpgate/internal/store/storetest"
	"testing"
	"testing/synctest"
	"time"
)

func TestContract(t *testing.T) {
	storetest.Passing(t, func(*testing.T) store.Passing { return New(time.Now) })
}

// A flood is refused, what was there stays, and its end makes room again.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(time.Now)
		ctx := t.Context()
		if err := p.Put(ctx, "early", []byte("1"), time.Hour); err != nil {
			t.Fatal(err)
		}
		value := make([]byte, 1<<20)
		n := 0
		var err error
		for ; err == nil; n++ {
			err = p.Put(ctx, fmt.Sprint(n), value, time.Minute)
		}
		if !errors.Is(err, store.ErrFull) || n > maxBytes/len(value)+1 || n < maxBytes/len(value)-1 {
			t.Fatalf("after %d MiB: %v", n, err)
		}
		if ok, err := p.Add(ctx, "added", value, time.Minute); ok || !errors.Is(err, store.ErrFull) {
			t.Errorf("Add: %v, %v; want ErrFull", ok, err)
		}
		if err := p.Put(ctx, "0", value[1:], time.Minute); err != nil {
			t.Errorf("replacing by a smaller one: %v", err)
		}
		if got, _ := p.Get(ctx, "early"); string(got) != "1" {
			t.Errorf("the early entry is now %q", got)
		}
		time.Sleep(time.Minute)
		if err := p.Put(ctx, "late", value, time.Minute); err != nil {
			t.Errorf("after the others' end: %v", err)
		}
		if len(p.entries) != 2 || len(p.byEnd) != 2 {
			t.Errorf("%d entries are kept, %d in the heap; want early and late", len(p.entries), len(p.byEnd))
		}
	})
}

// Tiny entries are bounded as well, and used-up ones take no room.
func TestTakenEntriesTakeNoRoom(t *testing.T) {
	p := New(time.Now)
	for i := range 1000 {
		key := fmt.Sprint(i)
		if err := p.Put(t.Context(), key, nil, time.Hour); err != nil {
			t.Fatal(err)
		}
		if p.bytes < entryOverheadBytes {
			t.Fatalf("an entry counts as %d bytes", p.bytes)
		}
		if _, err := p.Take(t.Context(), key); err != nil {
			t.Fatal(err)
		}
	}
	if p.bytes != 0 || len(p.entries) != 0 || len(p.byEnd) != 0 {
		t.Errorf("left: %d bytes, %d entries, %d in the heap", p.bytes, len(p.entries), len(p.byEnd))
	}
}
