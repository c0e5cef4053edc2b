package main

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"syscall"
)

// adminSocket is the listening unix socket of the operators' door.
type adminSocket struct {
	*net.UnixListener
	file os.FileInfo // what the path named when it was made
}

// listenAdmin opens the admin socket for its owner alone. A kill leaves the file
// of one behind, which nobody answers on: only that is replaced.
func listenAdmin(path string) (*adminSocket, error) {
	switch conn, err := net.Dial("unix", path); {
	case err == nil:
		_ = conn.Close() // nothing was sent on it
		return nil, adminSocketTaken(path)
	case errors.Is(err, syscall.EAGAIN): // its queue is full: somebody is there
		return nil, adminSocketTaken(path)
	case errors.Is(err, syscall.ECONNREFUSED):
		if err := removeDeadSocket(path); err != nil {
			return nil, &usageError{"can't replace the admin socket " + path, err.Error()}
		}
	}
	// The mode must be right from the first moment, not after a chmod.
	old := syscall.Umask(0o177)
	defer syscall.Umask(old)
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: path, Net: "unix"})
	if err != nil {
		return nil, &usageError{"can't make the admin socket " + path + " (listen.admin_socket)", err.Error()}
	}
	l.SetUnlinkOnClose(false) // Close looks first
	file, err := os.Lstat(path)
	if err != nil {
		return nil, errors.Join(&usageError{"the admin socket " + path + " is gone already", err.Error()}, l.Close())
	}
	return &adminSocket{l, file}, nil
}

// Close closes the socket and removes its file, if another gateway hasn't put
// its own there meanwhile.
func (s *adminSocket) Close() error {
	path := s.Addr().String()
	var err error
	if now, statErr := os.Lstat(path); statErr == nil && os.SameFile(now, s.file) {
		err = os.Remove(path)
	}
	return errors.Join(err, s.UnixListener.Close())
}

// removeDeadSocket removes path if it is a socket. Connecting to a regular file
// is refused as well.
func removeDeadSocket(path string) error {
	info, err := os.Lstat(path)
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is no socket: remove it, or name another listen.admin_socket")
	}
	return os.Remove(path)
}

func adminSocketTaken(path string) error {
	return &usageError{
		"another otpgate answers on the admin socket " + path + " (listen.admin_socket)",
		"stop it first, or give this one a socket of its own",
	}
}
