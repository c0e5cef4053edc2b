package audit

import (
	"errors"
	"os"
	"testing"
)

// Append returns when the disk has the entry, not when the kernel has: on a file
// that takes every write but can't be flushed, it fails.
func TestAppendWaitsForTheDisk(t *testing.T) {
	l := mustOpen(t, t.TempDir())
	unflushable, err := os.OpenFile(os.DevNull, os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if unflushable.Sync() == nil {
		t.Skip("the null device can be flushed here")
	}
	flushable := l.file
	t.Cleanup(func() { flushable.Close() })
	l.file = unflushable // the writer looks at it when there is an entry, which comes after this
	if err := l.Append(t.Context(), Entry{Event: "verify"}); !errors.Is(err, ErrBroken) {
		t.Errorf("an entry that isn't on disk was appended: %v", err)
	}
	if l.Err() == nil {
		t.Error("the log goes on")
	}
}
