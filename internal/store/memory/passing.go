// Package memory keeps the store's passing things in the process: pushed
// requests, codes, assertion ids. It implements store.Passing and nothing of
// store.Records.
//
// Everything is lost when the process ends, which the contract allows: users
// of Passing fail closed. Entries end at their time and are removed then by the
// next write, so no goroutine and no timer is needed.
//
// What live entries take is bounded by whoever makes a Passing: when the bound
// is reached, new entries are refused and old ones stay. It holds for what
// lives; Go's collector lets a process grow to twice that before it collects
// (GOGC=100), unless GOMEMLIMIT says otherwise. Who may take how much of it is
// for its users to settle among themselves: the OIDC door gives each of its
// clients a share.
package memory

import (
	"container/heap"
	"context"
	"sync"
	"time"

	"otpgate/internal/store"
)

// What an entry costs beside its key and value, so that the bound is one on
// memory: its struct, its slots in the map and the heap just after they have
// grown, and that the allocator rounds up, by a seventh at the most where that
// matters. TestCountedIsWhatItTakes measures it: 165 bytes at the worst moment.
const (
	entryOverheadBytes = 192
	roundingDivisor    = 7
)

// Passing is a store.Passing in memory. Safe for concurrent use.
type Passing struct {
	now      func() time.Time
	maxBytes int

	mu      sync.Mutex        // guards the rest
	entries map[string]*entry // all entries by key; some may be past their time
	byEnd   endHeap           // the same entries, the next to end first
	bytes   int               // sum of entry.size
}

var _ store.Passing = (*Passing)(nil)

// New returns an empty Passing whose entries end by the clock now and take at
// most maxBytes of memory together.
func New(now func() time.Time, maxBytes int) *Passing {
	return &Passing{now: now, maxBytes: maxBytes, entries: make(map[string]*entry)}
}

// Put implements store.Passing.
func (p *Passing) Put(ctx context.Context, key string, value []byte, ttl time.Duration) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.put(key, value, ttl)
}

// Add implements store.Passing.
func (p *Passing) Add(ctx context.Context, key string, value []byte, ttl time.Duration) (bool, error) {
	if err := ctx.Err(); err != nil {
		return false, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.live(key) != nil {
		return false, nil
	}
	if err := p.put(key, value, ttl); err != nil {
		return false, err
	}
	return true, nil
}

// Get implements store.Passing.
func (p *Passing) Get(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.live(key)
	if e == nil {
		return nil, nil
	}
	return clone(e.value), nil
}

// Take implements store.Passing.
func (p *Passing) Take(ctx context.Context, key string) ([]byte, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	e := p.live(key)
	if e == nil {
		return nil, nil
	}
	p.remove(e)
	return e.value, nil
}

// live returns the entry of key if its time isn't over. p.mu is held.
func (p *Passing) live(key string) *entry {
	e := p.entries[key]
	if e == nil || !p.now().Before(e.end) {
		return nil
	}
	return e
}

// put stores an entry in place of the one under key. p.mu is held.
func (p *Passing) put(key string, value []byte, ttl time.Duration) error {
	now := p.now()
	p.sweep(now)
	e := &entry{key: key, value: clone(value), end: now.Add(ttl)}
	old, replaced := p.entries[key]
	bytes := p.bytes + e.size()
	if replaced {
		bytes -= old.size()
	}
	if bytes > p.maxBytes {
		return store.ErrFull
	}
	if replaced {
		p.remove(old)
	}
	p.entries[key] = e
	heap.Push(&p.byEnd, e)
	p.bytes = bytes
	return nil
}

// sweep removes every entry whose time is over. Each entry is removed once, so
// the cost falls to the write that made it. p.mu is held.
func (p *Passing) sweep(now time.Time) {
	for len(p.byEnd) > 0 && !now.Before(p.byEnd[0].end) {
		p.remove(p.byEnd[0])
	}
}

// remove takes e out. p.mu is held.
func (p *Passing) remove(e *entry) {
	heap.Remove(&p.byEnd, e.index)
	delete(p.entries, e.key)
	p.bytes -= e.size()
}

// entry is one passing thing. Its fields but index don't change.
type entry struct {
	key   string
	value []byte
	end   time.Time
	index int // its place in the heap
}

func (e *entry) size() int {
	return len(e.key) + len(e.value) + len(e.value)/roundingDivisor + entryOverheadBytes
}

// endHeap is a container/heap of entries, the first to end on top.
type endHeap []*entry

func (h endHeap) Len() int           { return len(h) }
func (h endHeap) Less(i, j int) bool { return h[i].end.Before(h[j].end) }
func (h endHeap) Swap(i, j int) {
	h[i], h[j] = h[j], h[i]
	h[i].index, h[j].index = i, j
}

// Push implements heap.Interface.
func (h *endHeap) Push(x any) {
	e := x.(*entry)
	e.index = len(*h)
	*h = append(*h, e)
}

// Pop implements heap.Interface.
func (h *endHeap) Pop() any {
	old := *h
	e := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return e
}

// clone copies b; unlike bytes.Clone it never returns nil, which means absence.
func clone(b []byte) []byte { return append([]byte{}, b...) }
