// Package durable makes files that a power cut leaves whole or absent, and
// that never replace another.
//
// It owns no names, no formats and no locks: those are its callers'.
package durable

import (
	"errors"
	"os"
	"path/filepath"
)

// Create writes a file of mode 0600 under a hidden name and then gives it its
// own, which neither a kill nor a full disk can do by half. It is on disk, with
// its name, when Create returns; fs.ErrExist if path is taken.
func Create(path string, content []byte) (err error) {
	dir, name := filepath.Split(path)
	dir = filepath.Clean(dir)
	tmp, err := os.CreateTemp(dir, "."+name+".new-*") // O_EXCL, mode 0600
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.Remove(tmp.Name())) }()
	_, err = tmp.Write(content)
	if err = errors.Join(err, tmp.Sync(), tmp.Close()); err != nil {
		return err
	}
	if err := os.Link(tmp.Name(), path); err != nil {
		return err
	}
	return SyncDir(dir)
}

// SyncDir makes the names in dir survive a power cut, as they are now.
func SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}
