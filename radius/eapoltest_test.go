package radius

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"otpgate/radius/eap"
	"otpgate/verifier"
)

// eapCertificate is a throw-away one, and its PEM.
func eapCertificate(t testing.TB) (tls.Certificate, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "otpgate"},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		IsCA: true, BasicConstraintsValid: true, DNSNames: []string{"otpgate.test"},
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
}

func eapConfig(t testing.TB, certificate tls.Certificate, methods ...eap.Method) *eap.Config {
	t.Helper()
	if methods == nil {
		methods = []eap.Method{eap.PEAP, eap.TTLS, eap.MSCHAPv2, eap.GTC}
	}
	config, err := eap.NewConfig(methods, certificate)
	if err != nil {
		t.Fatal(err)
	}
	return config
}

// onceGate accepts rightCode of hanako once.
type onceGate struct {
	*fakeGate
	mu   sync.Mutex
	used bool
}

func newOnceGate() *onceGate {
	g := &onceGate{fakeGate: newFakeGate()}
	g.verify = func(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
		g.mu.Lock()
		defer g.mu.Unlock()
		switch {
		case !a.Match(rightCode) || a.User != "hanako" || a.Realm != "staff":
			return verifier.Result{Outcome: verifier.Wrong}, nil
		case g.used:
			return verifier.Result{Outcome: verifier.Replayed}, nil
		}
		g.used = true
		return verifier.Result{Outcome: verifier.Accepted}, nil
	}
	return g
}

func (g *onceGate) last() verifier.Attempt {
	g.fakeGate.mu.Lock()
	defer g.fakeGate.mu.Unlock()
	return g.attempts[len(g.attempts)-1]
}

// eapolServer is a real server on loopback, and what eapol_test is told of it.
type eapolServer struct {
	*Server
	address *net.UDPAddr
	ca      string // a file
	program string
	logs    *logBuffer
}

func newEAPOLServer(t *testing.T, gate Gate, client Client) *eapolServer {
	t.Helper()
	program, err := exec.LookPath("eapol_test")
	if err != nil {
		const want = "eapol_test is not in PATH: apt-get install eapoltest"
		if os.Getenv("CI") != "" {
			t.Fatal(want)
		}
		t.Skip(want)
	}
	certificate, authority := eapCertificate(t)
	s := &eapolServer{program: program, ca: filepath.Join(t.TempDir(), "ca.pem"), logs: &logBuffer{}}
	if err := os.WriteFile(s.ca, authority, 0o600); err != nil {
		t.Fatal(err)
	}
	s.Server = newServer(t, gate, s.logs)
	s.EAP = eapConfig(t, certificate)
	client.Name, client.Prefix, client.Secret, client.Realm = "wlan", netip.MustParsePrefix("127.0.0.1/32"), Secret(secret), "staff"
	client.RequireMessageAuthenticator = true
	if s.Clients, err = NewClients([]Client{client}); err != nil {
		t.Fatal(err)
	}
	conn, err := net.ListenUDP("udp", net.UDPAddrFromAddrPort(netip.MustParseAddrPort("127.0.0.1:0")))
	if err != nil {
		t.Fatal(err)
	}
	s.address = conn.LocalAddr().(*net.UDPAddr)
	served := make(chan error, 1)
	go func() { served <- s.Serve(conn) }()
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := s.Shutdown(ctx); err != nil {
			t.Errorf("Shutdown: %v", err)
		}
		if err := <-served; err != nil {
			t.Errorf("Serve: %v", err)
		}
		for _, code := range []string{rightCode, wrongCode, secret} {
			if strings.Contains(s.logs.String(), code) {
				t.Errorf("the log has %q in it", code)
			}
		}
	})
	return s
}

// run has eapol_test log in, and returns what it says.
func (s *eapolServer) run(t *testing.T, network string, arguments ...string) (ok bool, out string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "eapol.conf")
	text := "network={\n\tkey_mgmt=WPA-EAP\n" + strings.ReplaceAll(network, "CA", `ca_cert="`+s.ca+`"`) + "\n}\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	arguments = append([]string{"-c", file, "-a", "127.0.0.1", "-p", fmt.Sprint(s.address.Port), "-s", secret, "-t", "4"}, arguments...)
	b, err := exec.CommandContext(t.Context(), s.program, arguments...).CombinedOutput()
	return err == nil, string(b)
}

// credentials as eapol_test has them, which knows no escapes.
func credentials(outer, inner, code string) string {
	return fmt.Sprintf("\tanonymous_identity=\"%s\"\n\tidentity=\"%s\"\n\tpassword=\"%s\"\n", outer, inner, code)
}

// Every method, with both versions of TLS, gets in with a right code, with keys
// that are the same on both sides, and with no other.
func TestEAPOLTest(t *testing.T) {
	const tls12, tls13 = ` tls_disable_tlsv1_3=1`, ` tls_disable_tlsv1_3=0`
	for name, test := range map[string]struct {
		network, phase1 string
		noKeys          bool
	}{
		"GTC":      {network: "eap=GTC", noKeys: true},
		"MSCHAPv2": {network: "eap=MSCHAPV2"},

		"TTLS/PAP":      {network: "eap=TTLS\nCA\nphase2=\"auth=PAP\"", phase1: tls12},
		"TTLS/MSCHAPv2": {network: "eap=TTLS\nCA\nphase2=\"auth=MSCHAPV2\"", phase1: tls12},
		"TTLS/EAP-GTC":  {network: "eap=TTLS\nCA\nphase2=\"autheap=GTC\"", phase1: tls12},
		"TTLS/EAP-MS":   {network: "eap=TTLS\nCA\nphase2=\"autheap=MSCHAPV2\"", phase1: tls12},
		"PEAP/GTC":      {network: "eap=PEAP\nCA\nphase2=\"auth=GTC\"", phase1: tls12},
		"PEAP/MSCHAPv2": {network: "eap=PEAP\nCA\nphase2=\"auth=MSCHAPV2\"", phase1: tls12},

		"TTLS/PAP 1.3":      {network: "eap=TTLS\nCA\nphase2=\"auth=PAP\"", phase1: tls13},
		"TTLS/MSCHAPv2 1.3": {network: "eap=TTLS\nCA\nphase2=\"auth=MSCHAPV2\"", phase1: tls13},
		"TTLS/EAP-GTC 1.3":  {network: "eap=TTLS\nCA\nphase2=\"autheap=GTC\"", phase1: tls13},
		"TTLS/EAP-MS 1.3":   {network: "eap=TTLS\nCA\nphase2=\"autheap=MSCHAPV2\"", phase1: tls13},
		"PEAP/GTC 1.3":      {network: "eap=PEAP\nCA\nphase2=\"auth=GTC\"", phase1: tls13},
		"PEAP/MSCHAPv2 1.3": {network: "eap=PEAP\nCA\nphase2=\"auth=MSCHAPV2\"", phase1: tls13},

		"small fragments": {network: "eap=TTLS\nCA\nphase2=\"auth=PAP\"\nfragment_size=100", phase1: tls12},
	} {
		t.Run(name, func(t *testing.T) {
			gate := newOnceGate()
			s := newEAPOLServer(t, gate, Client{})
			outer := "anonymous"
			if test.phase1 == "" {
				outer = "hanako"
			}
			network := test.network + "\nphase1=\"peapver=0" + test.phase1 + "\"\n"
			var arguments []string
			if name == "small fragments" {
				arguments = []string{"-N12:d:128"} // Framed-MTU
			}
			if test.noKeys {
				arguments = append(arguments, "-n")
			}
			ok, out := s.run(t, network+credentials(outer, "hanako", rightCode), arguments...)
			if !ok || !strings.Contains(out, "SUCCESS") {
				t.Fatalf("not in with the right code:\n%s\n%s", tail(out), s.logs)
			}
			if !test.noKeys && !strings.Contains(out, "MPPE keys OK: 1  mismatch: 0") {
				t.Errorf("the keys differ:\n%s", tail(out))
			}
			if version := "TLSv1.3"; test.phase1 == tls13 && !strings.Contains(out, version) {
				t.Errorf("no %s:\n%s", version, tail(out))
			}
			for wrong, network := range map[string]string{
				"a code that was used": network + credentials(outer, "hanako", rightCode),
				"a wrong code":         network + credentials(outer, "hanako", wrongCode),
				"another user":         network + credentials("hanako", "taro", rightCode),
			} {
				before := gate.calls()
				if ok, out := s.run(t, network, arguments...); ok || !strings.Contains(out, "CTRL-EVENT-EAP-FAILURE") {
					t.Errorf("with %s: no EAP-Failure:\n%s\n%s", wrong, tail(out), s.logs)
				}
				if n := gate.calls() - before; n != 1 {
					t.Errorf("with %s: the gate was asked %d times", wrong, n)
				}
			}
		})
	}
}

func tail(s string) string { return s[max(0, len(s)-3000):] }
