package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"otpgate/config"
	"otpgate/internal/audit"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
)

// data is what the gateway keeps on disk, opened.
type data struct {
	db     *bolt.Store
	master seal.Master // seal's, for the data keys to come
	seal   *seal.Box
	audit  *audit.Log
	tls    *tls.Config
}

// openData opens the data directory. The first start makes it: master key,
// shared secrets and certificate, and the database last, whose presence tells
// the next start that the rest must be there. Each file appears whole or not at
// all, so a first start that was cut off is followed by another.
func openData(ctx context.Context, cfg *config.Config, log *slog.Logger) (*data, error) {
	exists, err := bolt.Exists(cfg.DatabaseFile())
	if err != nil {
		return nil, dataError(cfg, err)
	}
	if !exists {
		if err := firstStart(cfg, log); err != nil {
			return nil, dataError(cfg, err)
		}
	}
	master, err := seal.LoadMaster(cfg.MasterKeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &usageError{
			"the master key " + cfg.MasterKeyFile + " is missing, and the database " + cfg.DatabaseFile() + " can't be read without it",
			"restore the file from your backup of it",
		}
	case err != nil:
		return nil, &usageError{err.Error(), ""}
	}
	d := &data{}
	if err := d.open(ctx, cfg, master, log); err != nil {
		return nil, errors.Join(dataError(cfg, err), d.close())
	}
	return d, nil
}

func firstStart(cfg *config.Config, log *slog.Logger) error {
	if err := checkNoPast(cfg); err != nil {
		return err
	}
	for _, dir := range []string{cfg.DataDir, filepath.Dir(cfg.MasterKeyFile)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if _, err := seal.CreateMaster(cfg.MasterKeyFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	if err := cfg.MakeSecrets(); err != nil {
		return err
	}
	_, err := serverTLS(cfg, time.Now(), log)
	return err
}

// checkNoPast refuses a first start where there was one before: an empty
// database would know neither the users nor which codes are used up.
func checkNoPast(cfg *config.Config) error {
	files, err := os.ReadDir(auditDir(cfg))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	for _, f := range files {
		if info, err := f.Info(); err == nil && info.Mode().IsRegular() && info.Size() > 0 {
			return &usageError{
				"the database " + cfg.DatabaseFile() + " is missing, but the audit log beside it has entries: with a new one, used codes would be accepted again",
				"restore a backup, or move " + auditDir(cfg) + " away to begin anew",
			}
		}
	}
	return nil
}

func (d *data) open(ctx context.Context, cfg *config.Config, master seal.Master, log *slog.Logger) (err error) {
	if d.db, err = bolt.Open(cfg.DatabaseFile(), bolt.Options{}); err != nil {
		return err
	}
	if d.seal, err = seal.Open(ctx, d.db, master); err != nil {
		return err
	}
	d.master = master
	if d.tls, err = serverTLS(cfg, time.Now(), log); err != nil {
		return err
	}
	d.audit, err = openAudit(ctx, cfg, d.db, d.seal)
	return err
}

// auditDir is where the audit log is.
func auditDir(cfg *config.Config) string { return filepath.Join(cfg.DataDir, "audit") }

// err says what keeps the data from taking writes; nil if nothing does.
func (d *data) err() error { return errors.Join(d.db.Err(), d.audit.Err()) }

func (d *data) close() error {
	var errs []error
	if d.audit != nil {
		errs = append(errs, d.audit.Close())
	}
	if d.db != nil {
		errs = append(errs, d.db.Close())
	}
	return errors.Join(errs...)
}

// dataError says in one sentence what is wrong with the data directory.
func dataError(cfg *config.Config, err error) error {
	var known *usageError
	switch {
	case errors.As(err, &known), errors.Is(err, context.Canceled):
		return err
	case errors.Is(err, seal.ErrWrongMaster):
		return &usageError{
			"the master key " + cfg.MasterKeyFile + " is not the one that " + cfg.DatabaseFile() + " was written with",
			"put the right file in its place; nothing was changed",
		}
	case errors.Is(err, audit.ErrTampered):
		return &usageError{
			err.Error(),
			"put the files back from a backup, or, if they are lost for good, see otpgate audit accept --help",
		}
	case errors.Is(err, audit.ErrOtherKey):
		return &usageError{
			err.Error(),
			"the folder belongs to another database: put the right one in its place, or, if that is lost for good, move this one away and see otpgate audit accept --help",
		}
	case errors.Is(err, bolt.ErrInUse):
		return &usageError{"another otpgate is running on the data in " + cfg.DataDir, "stop it first, or give this one a data_dir of its own"}
	}
	var hint string
	switch {
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOTDIR):
		hint = "make it writable for the user that otpgate runs as, or name another data_dir in gateway.yaml"
	case errors.Is(err, syscall.EROFS):
		hint = "it is mounted read-only; in a systemd unit that is ProtectSystem, and ReadWritePaths= or StateDirectory= opens it"
	case errors.Is(err, syscall.ENOSPC), errors.Is(err, syscall.EDQUOT):
		hint = "the disk or its quota is full: make room"
	default:
		return &usageError{err.Error(), ""}
	}
	return &usageError{fmt.Sprintf("can't write to the data directory %s: %v", cfg.DataDir, err), hint}
}

// replaceFile writes a file that appears whole or not at all, in place of one
// that may be there.
func replaceFile(path string, content []byte, mode fs.FileMode) (err error) {
	tmp, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.Remove(tmp.Name()))
		}
	}()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Chmod(mode), tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	return os.Rename(tmp.Name(), path)
}
