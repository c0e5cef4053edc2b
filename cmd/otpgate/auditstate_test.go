package main

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/internal/store"
)

// Whoever can write to the files, and has no master key, can take the audit log
// away, and out of the database what it is held against. The gateway sees that.
func TestAuditWiped(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	employee(t, s.client(), "taro")
	if _, err := p.stop(); err != nil {
		t.Fatal(err)
	}
	logs := filepath.Join(s.dir, "data", "audit")
	whole := filepath.Join(s.dir, "whole")
	if err := os.Rename(logs, whole); err != nil {
		t.Fatal(err)
	}
	inDatabase(t, s, func(tx store.Txn) error { return tx.Delete(auditRecordKey()) })
	for name, left := range map[string][]string{
		"nothing left":            {},
		"all left":                {"audit-000001.jsonl", "heads.jsonl", "audit.pub"},
		"a log of version 1 left": {"audit-000001.jsonl"},
		"a key left":              {"audit.pub"},
	} {
		if err := errors.Join(os.RemoveAll(logs), os.Mkdir(logs, 0o700)); err != nil {
			t.Fatal(err)
		}
		for _, file := range left {
			copyFile(t, filepath.Join(whole, file), filepath.Join(logs, file))
		}
		before := listing(t, logs)
		out, err := s.otpgate("serve")
		if err == nil || !strings.Contains(out, "its signing key and newest head aren't in the database: put the files back from a backup") ||
			!strings.Contains(out, "otpgate audit accept --help") {
			t.Errorf("%s: %v\n%s", name, err, out)
		}
		if after := listing(t, logs); after != before {
			t.Errorf("%s: before\n%s\nafter\n%s", name, before, after)
		}
		if len(left) < 2 { // no entries
			if out, err := s.otpgate("audit", "verify"); err == nil || strings.Contains(out, "the audit log is empty") {
				t.Errorf("%s: verify: %v\n%s", name, err, out)
			}
		}
	}

	// The way on.
	if err := errors.Join(os.RemoveAll(logs), os.Mkdir(logs, 0o700)); err != nil {
		t.Fatal(err)
	}
	copyFile(t, filepath.Join(whole, "audit.pub"), filepath.Join(logs, "audit.pub"))
	if out, err := s.otpgate("audit", "accept", "--reason", "wiped"); err == nil || !strings.Contains(out, "move the folder") {
		t.Errorf("beside another key: %v\n%s", err, out)
	}
	if out, err := s.otpgate("serve"); err == nil || !strings.Contains(out, "aren't in the database") {
		t.Errorf("after a loss that wasn't accepted: %v\n%s", err, out)
	}
	if err := os.RemoveAll(logs); err != nil {
		t.Fatal(err)
	}
	if out, err := s.otpgate("audit", "accept", "--reason", "wiped, see ticket 13"); err != nil ||
		!strings.Contains(out, "on record as entry 1: the log goes on behind entry 0, under a new key; the database knows no more what was signed for: wiped, see ticket 13") {
		t.Fatalf("%v\n%s", err, out)
	}
	p = s.serve(t)
	if out, err := s.otpgate("audit", "verify"); err != nil || !strings.Contains(out, "entries 1 to 1") {
		t.Errorf("%v\n%s", err, out)
	}
	if _, err := p.stop(); err != nil {
		t.Error(err)
	}
}

// A log whose files alone were emptied doesn't pass for one that never had any,
// with no gateway and no master key at hand.
func TestVerifyOfAnEmptiedLog(t *testing.T) {
	s := newSite(t, "", "")
	p := s.serve(t)
	if out, err := s.otpgate("audit", "verify"); err != nil || !strings.Contains(out, "the audit log is empty") {
		t.Errorf("a new one: %v\n%s", err, out)
	}
	if _, err := p.stop(); err != nil {
		t.Fatal(err)
	}
	if out, err := s.otpgate("audit", "verify"); err != nil || !strings.Contains(out, "the audit log is empty") {
		t.Errorf("a new one, with no gateway: %v\n%s", err, out)
	}
	p = s.serve(t)
	employee(t, s.client(), "taro")
	if _, err := p.stop(); err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"audit-000001.jsonl", "heads.jsonl"} {
		if err := os.Truncate(filepath.Join(s.dir, "data", "audit", file), 0); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Remove(filepath.Join(s.dir, "data", "master.key")); err != nil {
		t.Fatal(err)
	}
	if out, err := s.otpgate("audit", "verify"); err == nil || !strings.Contains(out, "it is empty, but the database knows that something was decided or done") {
		t.Errorf("%v\n%s", err, out)
	}
	if out, err := s.otpgate("audit", "verify", "--json"); err == nil || !strings.Contains(out, `"ok":false`) {
		t.Errorf("%v\n%s", err, out)
	}
}

// A first start that was cut off between the database and the log's key goes on.
func TestFirstStartWithoutTheAuditKey(t *testing.T) {
	s := newSite(t, "", "")
	if _, err := s.serve(t).stop(); err != nil {
		t.Fatal(err)
	}
	if err := os.RemoveAll(filepath.Join(s.dir, "data", "audit")); err != nil {
		t.Fatal(err)
	}
	inDatabase(t, s, func(tx store.Txn) error {
		var keys []string
		err := tx.Scan("", func(key string, _ []byte) error { keys = append(keys, key); return nil })
		for _, key := range keys {
			if !strings.HasPrefix(key, store.Prefix("datakey")) {
				err = errors.Join(err, tx.Delete(key))
			}
		}
		return err
	})
	s.serve(t)
}
