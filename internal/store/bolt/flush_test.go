package bolt

import (
	"path/filepath"
	"testing"
)

// An Update that has returned is on disk: bbolt flushes each commit, and the
// file's growth, unless one of its options says otherwise. No test can tell by
// what is read afterwards, short of a power cut.
func TestCommitsAreFlushed(t *testing.T) {
	s, err := Open(filepath.Join(t.TempDir(), "otpgate.db"), Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	if s.db.NoSync || s.db.NoGrowSync {
		t.Errorf("NoSync is %v, NoGrowSync %v", s.db.NoSync, s.db.NoGrowSync)
	}
}
