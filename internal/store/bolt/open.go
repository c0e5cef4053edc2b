package bolt

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"go.etcd.io/bbolt"
	"golang.org/x/sys/unix"

	"otpgate/internal/durable"
)

// What Open refuses, beside the operating system's own errors. Each message
// follows the file's name and says what to do. Nothing on disk was changed.
var (
	ErrInUse   = errors.New("another process has it open; stop that one first")
	ErrDamaged = errors.New("the file is damaged; restore it from a backup")
	ErrNewer   = errors.New("it was written by a newer otpgate; run that version, or restore an older backup")
)

// schemaVersion is the layout of the records that this program reads and
// writes. There is no older one yet; the first step up migrates in Open.
const schemaVersion = 1

var (
	recordsBucket = []byte("records")
	metaBucket    = []byte("meta")
	schemaKey     = []byte("schema") // schemaVersion in decimal
)

const (
	pageSize = 4096
	// initialMmapBytes is address space, not memory. Within it the file grows
	// without a new memory map, which would make a commit wait for every View.
	// A million users take 0.4 GiB.
	initialMmapBytes = 8 << 30
	// lockWait covers a restart in which the old process is still closing.
	lockWait  = time.Second
	lockRetry = 20 * time.Millisecond
	// prereadBytes is the size of one read in the sequential pass over the file.
	prereadBytes = 1 << 20
)

// Options for Open. The zero value creates the file if it isn't there.
type Options struct {
	// MustExist makes Open fail with fs.ErrNotExist instead of creating.
	MustExist bool
}

// Exists reports whether there is a file at path, sound or not. A database
// that holds sealed values must never be paired with a new master key: ask
// before making one.
func Exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

// Open opens the database at path, and creates it first (mode 0600) if it isn't
// there; its folder must be. It reads the whole file and checks its structure.
func Open(path string, opts Options) (*Store, error) {
	db, err := open(path, opts)
	if err != nil {
		return nil, fmt.Errorf("database %s: %w", path, err)
	}
	s := &Store{
		db:      db,
		queue:   make(chan *call, maxBatch),
		closing: make(chan struct{}),
		stopped: make(chan struct{}),
	}
	go s.commitAll()
	return s, nil
}

func open(path string, opts Options) (*bbolt.DB, error) {
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if errors.Is(err, fs.ErrNotExist) && !opts.MustExist {
		if err := create(path); err != nil {
			return nil, fmt.Errorf("can't be created: %w", err)
		}
		f, err = os.OpenFile(path, os.O_RDWR, 0)
	}
	if err != nil {
		return nil, err
	}
	if err := lockAndCheck(f); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	db, err := openBolt(f)
	if err != nil {
		return nil, err
	}
	if err := db.View(checkSchema); err != nil {
		return nil, errors.Join(err, db.Close())
	}
	return db, nil
}

// create makes a complete database under another name and then gives it its
// own, so that path never names half of one, nor replaces one that another
// process made meanwhile.
func create(path string) (err error) {
	dir, name := filepath.Split(path)
	f, err := os.CreateTemp(filepath.Clean(dir), "."+name+".new-*") // mode 0600
	if err != nil {
		return err
	}
	temp := f.Name()
	defer func() { err = errors.Join(err, os.Remove(temp)) }()
	db, err := openBolt(f)
	if err != nil {
		return err
	}
	if err := errors.Join(db.Update(writeSchema), db.Close()); err != nil {
		return err
	}
	if err := os.Link(temp, path); err != nil && !errors.Is(err, fs.ErrExist) {
		return err
	}
	return durable.SyncDir(filepath.Clean(dir))
}

// lockAndCheck takes the lock that bbolt's own is made on, and makes sure that
// bbolt can read every page. Done on one open file, so nothing comes between.
func lockAndCheck(f *os.File) error {
	if err := lock(f); err != nil {
		return err
	}
	info, err := f.Stat()
	if err != nil {
		return err
	}
	// A cold file is read in order first: following the tree, and bbolt's scan
	// for free pages, would read it page by page, ten times slower.
	_, err = io.CopyBuffer(struct{ io.Writer }{io.Discard}, struct{ io.Reader }{f}, make([]byte, prereadBytes))
	if err != nil {
		return err
	}
	return checkFile(f, info.Size())
}

func lock(f *os.File) error {
	for deadline := time.Now().Add(lockWait); ; time.Sleep(lockRetry) {
		err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
		if !errors.Is(err, unix.EWOULDBLOCK) {
			return err
		}
		if time.Now().After(deadline) {
			return ErrInUse
		}
	}
}

// openBolt hands f to bbolt, which closes it.
func openBolt(f *os.File) (*bbolt.DB, error) {
	return bbolt.Open(f.Name(), 0o600, &bbolt.Options{
		OpenFile: func(string, int, os.FileMode) (*os.File, error) { return f, nil },
		Timeout:  lockWait,
		PageSize: pageSize,
		// A list of free pages written at each commit grows with the file
		// (1.7 MiB a commit after a hot backup); it is made anew at open.
		NoFreelistSync:  true,
		FreelistType:    bbolt.FreelistMapType,
		InitialMmapSize: initialMmapBytes,
		NoStatistics:    true,
	})
}

func writeSchema(tx *bbolt.Tx) error {
	if _, err := tx.CreateBucket(recordsBucket); err != nil {
		return err
	}
	meta, err := tx.CreateBucket(metaBucket)
	if err != nil {
		return err
	}
	return meta.Put(schemaKey, strconv.AppendInt(nil, schemaVersion, 10))
}

func checkSchema(tx *bbolt.Tx) error {
	meta := tx.Bucket(metaBucket)
	if meta == nil || tx.Bucket(recordsBucket) == nil {
		return fmt.Errorf("%w (no otpgate data in it)", ErrDamaged)
	}
	version, err := strconv.Atoi(string(meta.Get(schemaKey)))
	switch {
	case err != nil || version < schemaVersion:
		return fmt.Errorf("%w (no schema version in it)", ErrDamaged)
	case version > schemaVersion:
		return fmt.Errorf("%w (its schema version is %d, this program's %d)", ErrNewer, version, schemaVersion)
	}
	return nil
}
