package memory

import (
	"errors"
	"fmt"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"otpgate/internal/store"
	"otpgate/internal/store/storetest"
)

const maxBytes = 32 << 20

func TestContract(t *testing.T) {
	storetest.Passing(t, func(*testing.T) store.Passing { return New(time.Now, maxBytes) })
}

// A flood is refused, what was there stays, and its end makes room again.
func TestBound(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		p := New(time.Now, maxBytes)
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
		if !errors.Is(err, store.ErrFull) || n > maxBytes/len(value)+1 || n < maxBytes/len(value)*4/5 {
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

// The bound is one on memory: entries must not take more than is counted.
func TestCountedIsWhatItTakes(t *testing.T) {
	// After a map has grown it has the most unused slots, so the counts are odd.
	for _, n := range []int{3_700, 7_400, 14_500} {
		for _, size := range []int{1, 49, 440, 1025, 2689} {
			p := New(time.Now, 1<<30)
			value := make([]byte, size)
			before := liveBytes()
			for i := range n {
				key := fmt.Sprintf("oidc.transaction\x00%043d", i)
				if err := p.Put(t.Context(), key, value, time.Hour); err != nil {
					t.Fatal(err)
				}
			}
			if took := liveBytes() - before; took > p.bytes {
				t.Errorf("%d entries of %d bytes are counted as %d bytes each and take %d", n, size, p.bytes/n, took/n)
			}
		}
	}
}

func liveBytes() int {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int(m.HeapAlloc)
}

// Tiny entries are bounded as well, and used-up ones take no room.
func TestTakenEntriesTakeNoRoom(t *testing.T) {
	p := New(time.Now, maxBytes)
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
