package eap

import (
	"bytes"
	"crypto/tls"
	"errors"
	"io"
	"iter"
	"net"
	"time"
)

const (
	mskLength = 64
	// keyMaterial is MSK and EMSK. TLS 1.3 derives other keys for another length
	// (RFC 8446 §7.1), so all is asked for.
	keyMaterial = 2 * mskLength
	readSize    = 4096
)

// records is crypto/tls without a network: it takes the peer's records and says
// what it read in them, and what it has to send. Since crypto/tls waits for what
// it reads, it runs as a coroutine, which waits while its caller has nothing
// more to read. So no two goroutines ever run at once, and a panic in it is one
// of the caller's.
type records struct {
	conn    *tls.Conn
	in, out bytes.Buffer // records
	plain   []byte       // what was read in them
	err     error        // that ended it

	established bool
	wait        func(struct{}) bool
	resume      func() (struct{}, bool)
	stop        func()
}

func newRecords(certificate tls.Certificate) *records {
	r := &records{}
	r.conn = tls.Server(pipe{r}, &tls.Config{
		Certificates:           []tls.Certificate{certificate},
		MinVersion:             tls.VersionTLS12,
		SessionTicketsDisabled: true, // RFC 9427 §4 leaves resumption to policy
	})
	r.resume, r.stop = iter.Pull(r.run)
	return r
}

// run is the coroutine. It ends with an error, or at stop.
func (r *records) run(wait func(struct{}) bool) {
	r.wait = wait
	if r.err = r.conn.Handshake(); r.err != nil {
		return
	}
	r.established = true
	var b [readSize]byte
	for r.err == nil {
		var n int
		n, r.err = r.conn.Read(b[:])
		r.plain = append(r.plain, b[:n]...)
	}
}

// receive takes records, and returns what was read in them and what is to be
// sent. err is that of TLS; then what is to be sent is an alert.
func (r *records) receive(b []byte) (plain, out []byte, err error) {
	r.in.Write(b)
	if r.err == nil {
		r.resume()
	}
	plain, r.plain = r.plain, nil
	return plain, r.taken(), r.err
}

// send returns the records for plain.
func (r *records) send(plain []byte) ([]byte, error) {
	if _, err := r.conn.Write(plain); err != nil {
		return nil, err
	}
	return r.taken(), nil
}

// causeOf is what the peer's alert says. That of a certificate is one of six
// descriptions (RFC 8446 §6.2), which crypto/tls tells by their text alone.
func causeOf(err error) Cause {
	const badCertificate, unknownCertificate, unknownAuthority = 42, 46, 48
	var remote *net.OpError
	if !errors.As(err, &remote) || remote.Op != "remote error" {
		return Unknown
	}
	said := remote.Err.Error()
	for description := tls.AlertError(badCertificate); description <= unknownCertificate; description++ {
		if said == description.Error() {
			return CertificateRefused
		}
	}
	if said == tls.AlertError(unknownAuthority).Error() {
		return CertificateRefused
	}
	return Unknown
}

func (r *records) taken() []byte {
	out := bytes.Clone(r.out.Bytes())
	r.out.Reset()
	return out
}

// export returns keying material (RFC 5705, RFC 8446 §7.5).
func (r *records) export(label string, context []byte, length int) ([]byte, error) {
	state := r.conn.ConnectionState()
	return state.ExportKeyingMaterial(label, context, length)
}

// msk returns the key of a method, which has this label up to TLS 1.2; since then
// all have one, and their type as the context (RFC 9427 §2.1).
func (r *records) msk(m Method, label string) ([]byte, error) {
	var context []byte
	if r.conn.ConnectionState().Version >= tls.VersionTLS13 {
		label, context = "EXPORTER_EAP_TLS_Key_Material", []byte{byte(m)}
	}
	material, err := r.export(label, context, keyMaterial)
	if err != nil {
		return nil, err
	}
	return material[:mskLength], nil
}

// pipe is the net.Conn under TLS.
type pipe struct{ *records }

// Read waits for records; io.EOF at stop.
func (p pipe) Read(b []byte) (int, error) {
	for p.in.Len() == 0 {
		if !p.wait(struct{}{}) {
			return 0, io.EOF
		}
	}
	return p.in.Read(b)
}

func (p pipe) Write(b []byte) (int, error) { return p.out.Write(b) }

func (pipe) Close() error                     { return nil }
func (pipe) LocalAddr() net.Addr              { return nil }
func (pipe) RemoteAddr() net.Addr             { return nil }
func (pipe) SetDeadline(time.Time) error      { return nil }
func (pipe) SetReadDeadline(time.Time) error  { return nil }
func (pipe) SetWriteDeadline(time.Time) error { return nil }
