package admin

import (
	"context"
	"errors"
	"io"
	"net/http"
	"time"
)

// Backups makes backups.
type Backups interface {
	// Backup writes one to w. by is who asked. The error is a *verifier.Refusal,
	// and nothing is written, if it can't be made now.
	Backup(ctx context.Context, by string, w io.Writer) error
}

const (
	// maxBackup bounds a backup: while it is read, the database grows. 10 million
	// users take a quarter of a minute.
	maxBackup = 30 * time.Minute
	// maxStall is how long the reader of a backup may keep us waiting. A disk
	// under it that is busy with something else takes seconds.
	maxStall = 30 * time.Second
)

// backup streams a backup: a tar archive. One that is cut off has no end.
func (s *Server) backup(w http.ResponseWriter, r *http.Request) {
	ctx, cancel := context.WithTimeout(r.Context(), maxBackup)
	defer cancel()
	connection := http.NewResponseController(w)
	out := &answer{ResponseWriter: patient{w, connection}}
	w.Header().Set("Content-Type", "application/x-tar")
	err := connection.SetReadDeadline(time.Time{}) // the request's: passed while we write, it would end r's context
	if err == nil {
		err = s.Backups.Backup(ctx, peer(r), out)
	}
	if err != nil {
		s.fail(out, r, err)
	}
}

// patient gives each write time of its own, in place of one for the whole answer.
type patient struct {
	http.ResponseWriter
	connection *http.ResponseController
}

func (p patient) Write(b []byte) (int, error) {
	//nolint:forbidigo // a deadline of the kernel's, by its clock
	if err := p.connection.SetWriteDeadline(time.Now().Add(maxStall)); err != nil {
		return 0, err
	}
	return p.ResponseWriter.Write(b)
}

// Backup reads a backup from the gateway: what fn reads until io.EOF is whole.
func (c *Client) Backup(ctx context.Context, fn func(io.Reader) error) error {
	body, err := c.do(ctx, http.MethodPost, "/v1/backup", nil)
	if err != nil {
		return err
	}
	return errors.Join(fn(body), body.Close())
}
