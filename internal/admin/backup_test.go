package admin

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"otpgate/verifier"
)

// backupFunc is a Backups.
type backupFunc func(ctx context.Context, by string, w io.Writer) error

func (f backupFunc) Backup(ctx context.Context, by string, w io.Writer) error { return f(ctx, by, w) }

// backupFrom takes a backup from a server that makes it with f.
func backupFrom(t *testing.T, f backupFunc) (string, error) {
	t.Helper()
	dir, err := os.MkdirTemp("", "otpgate-admin-") // short: a socket's path has 107 bytes at most
	if err != nil {
		t.Fatal(err)
	}
	defer os.RemoveAll(dir)
	path := filepath.Join(dir, "admin.sock")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	srv := (&Server{Backups: f, Log: slog.New(slog.DiscardHandler)}).HTTP(t.Context())
	go func() { _ = srv.Serve(l) }() // until Close
	defer srv.Close()
	var got []byte
	err = NewClient(path).Backup(t.Context(), func(r io.Reader) (err error) {
		got, err = io.ReadAll(r)
		return err
	})
	return string(got), err
}

func TestBackup(t *testing.T) {
	content := strings.Repeat("otpgate ", 1<<17)
	who := ""
	got, err := backupFrom(t, func(_ context.Context, by string, w io.Writer) error {
		who = by
		_, err := io.WriteString(w, content)
		return err
	})
	if err != nil || got != content || who == "" || who == "unknown" {
		t.Errorf("%d bytes of %d for %q, %v", len(got), len(content), who, err)
	}
}

// One that fails on the way is never taken for a whole one.
func TestBackupCutOff(t *testing.T) {
	for _, size := range []int{1, 1 << 20} {
		got, err := backupFrom(t, func(_ context.Context, _ string, w io.Writer) error {
			_, err := w.Write(make([]byte, size))
			return errors.Join(err, errors.New("disk on fire"))
		})
		if err == nil {
			t.Errorf("%d bytes, and no error", len(got))
		}
	}
}

func TestBackupRefused(t *testing.T) {
	_, err := backupFrom(t, func(context.Context, string, io.Writer) error {
		return &verifier.Refusal{Problem: "another backup is being made", Hint: "wait"}
	})
	var problem *Problem
	if !errors.As(err, &problem) || problem.Problem != "another backup is being made" {
		t.Errorf("%v", err)
	}
}
