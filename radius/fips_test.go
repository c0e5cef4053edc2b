package radius

import (
	"crypto/tls"
	"errors"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
)

func TestFIPSOnlyIsRefused(t *testing.T) {
	if os.Getenv("RADIUS_TEST_FIPS") != "" {
		err := (&Server{}).Serve(newMemConn())
		if !errors.Is(err, errFIPS) {
			t.Errorf("Serve: %v, want %v", err, errFIPS)
		}
		return
	}
	underFIPSOnly(t)
}

// underFIPSOnly runs the calling test once more, in a process that allows approved
// algorithms alone.
func underFIPSOnly(t *testing.T) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+t.Name()+"$", "-test.v")
	cmd.Env = append(os.Environ(), "RADIUS_TEST_FIPS=1", "GODEBUG=fips140=only")
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "--- PASS: "+t.Name()) {
		t.Errorf("%v\n%s", err, out)
	}
}

// Without MD5 there is RADIUS/1.1, for log-ins and accounting, and nothing else. It
// runs on real time and a real socket: the module's source of randomness measures
// time, which stands still in a synctest bubble.
func TestFIPSOnlyOverTLS(t *testing.T) {
	if os.Getenv("RADIUS_TEST_FIPS") == "" {
		underFIPSOnly(t)
		return
	}
	log, logs, ca := &fakeAccounts{}, &logBuffer{}, newAuthority(t)
	s := newServer(t, &fakeGate{}, logs)
	s.AccountLog = log
	var err error
	if s.Clients, err = NewClients([]Client{{
		Name: "proxy", Prefix: netip.MustParsePrefix("127.0.0.0/8"), Certificate: &Certificate{SubjectCN: "proxy.example"}, Realm: "staff", Accounting: true,
	}}); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	served, certificate := make(chan error, 1), ca.issue("server", "radius.example")
	go func() { served <- s.ServeTLS(l, certificate, ca.roots()) }()
	dial := func(protocols ...string) (*tls.Conn, error) {
		return tls.Dial("tcp", l.Addr().String(), &tls.Config{
			Certificates: []tls.Certificate{ca.issue("proxy.example")}, RootCAs: ca.roots(), ServerName: "radius.example", NextProtos: protocols,
		})
	}

	for _, protocols := range [][]string{nil, {"radius/1.0"}} {
		if conn, err := dial(protocols...); err == nil { // TLS 1.3: the client is done first
			_ = conn.SetReadDeadline(time.Now().Add(4 * time.Second))
			wantClosedOrAlert(t, conn)
		}
	}
	conn, err := dial("radius/1.1", "radius/1.0")
	if err != nil {
		t.Fatal(err)
	}
	wantWithoutMD5(t, conn)
	if err := s.Shutdown(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-served; err != nil {
		t.Error(err)
	}
	if len(log.kept) != 1 || log.kept[0].Session != "s1" || log.kept[0].Client != "proxy" {
		t.Errorf("kept %+v", log.kept)
	}
	if n := (&tlsHarness{harness: &harness{Server: s}}).refusedFor(handshakeFailed); n != 2 || !strings.Contains(logs.String(), "fips140=only") {
		t.Errorf("%v were refused, want 2; log:\n%s", n, logs)
	}
}

// wantWithoutMD5 asks for what is to be had over RADIUS/1.1.
func wantWithoutMD5(t *testing.T, conn *tls.Conn) {
	t.Helper()
	login := func(token uint32, code string) *packet {
		return v11(codec.CodeAccessRequest, token).user("hanako").add(rfc2865.UserPassword_Type, []byte(code))
	}
	ask11(t, conn, login(1, rightCode), codec.CodeAccessAccept)
	ask11(t, conn, login(2, wrongCode), codec.CodeAccessReject)
	ask11(t, conn, v11(codec.CodeAccountingRequest, 3).user("hanako").number(rfc2866.AcctStatusType_Type, 1).
		add(rfc2866.AcctSessionID_Type, []byte("s1")), codec.CodeAccountingResponse)
	// CHAP is MD5 itself: no answer to be had, and no harm done.
	ask11(t, conn, v11(codec.CodeAccessRequest, 4).user("hanako").
		add(rfc2865.CHAPPassword_Type, make([]byte, 17)).add(rfc2865.CHAPChallenge_Type, make([]byte, 16)), codeProtocolError)
	ask11(t, conn, login(5, rightCode), codec.CodeAccessAccept)
}
