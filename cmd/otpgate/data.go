package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"otpgate/config"
	"otpgate/internal/audit"
	"otpgate/internal/store/bolt"
	"otpgate/internal/store/seal"
	"path/filepath"
	"syscall"
	"time"
)

// data is what the gateway keeps on disk, opened.
type data struct {
	db    *bolt.Store
	seal  *seal.Box
	audit *audit.Log
	tls   *tls.Config
}

// openData opens the data directory. The first start makes it: master key,
// shared secrets and certificate, and the database last, whose presence tells
// the next start that the rest must be there.
func openData(ctx context.Context, cfg *config.Config) (*data, error) {
	exists, err := bolt.Exists(cfg.DatabaseFile())
	if err != nil {
		return nil, dataError(cfg, err)
	}
	if !exists {
		if err := firstStart(cfg); err != nil {
			return nil, dataError(cfg, err)
		}
	}
	master, err := seal.LoadMaster(cfg.MasterKeyFile)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, &startError{
			"the master key " + cfg.MasterKeyFile + " is missing, and the database " + cfg.DatabaseFile() + " can't be read without it",
			"restore the file from your backup of it",
		}
	case err != nil:
		return nil, &startError{err.Error(), ""}
	}
	d := &data{}
	if err := d.open(ctx, cfg, master); err != nil {
		return nil, errors.Join(dataError(cfg, err), d.close())
	}
	return d, nil
}

func firstStart(cfg *config.Config) error {
	for _, dir := range []string{cfg.DataDir, filepath.Dir(cfg.MasterKeyFile)} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
	}
	if _, err := seal.CreateMaster(cfg.MasterKeyFile); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return cfg.MakeSecrets()
}

func (d *data) open(ctx context.Context, cfg *config.Config, master seal.Master) (err error) {
	if d.db, err = bolt.Open(cfg.DatabaseFile(), bolt.Options{}); err != nil {
		return err
	}
	if d.seal, err = seal.Open(ctx, d.db, master); err != nil {
		return err
	}
	if d.tls, err = serverTLS(cfg, time.Now()); err != nil {
		return err
	}
	d.audit, err = audit.Open(filepath.Join(cfg.DataDir, "audit"), time.Now)
	return err
}

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
	switch {
	case errors.Is(err, seal.ErrWrongMaster):
		return &startError{
			"the master key " + cfg.MasterKeyFile + " is not the one that " + cfg.DatabaseFile() + " was written with",
			"put the right file in its place; nothing was changed",
		}
	case errors.Is(err, bolt.ErrInUse):
		return &startError{"another otpgate is running on the data in " + cfg.DataDir, "stop it first, or give this one a data_dir of its own"}
	case errors.Is(err, fs.ErrPermission), errors.Is(err, syscall.ENOTDIR):
		return &startError{
			fmt.Sprintf("can't write to the data directory %s: %v", cfg.DataDir, err),
			"make it writable for the user that otpgate runs as, or name another data_dir in gateway.yaml",
		}
	}
	return &startError{err.Error(), ""}
}
