package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// pki makes certificates in the directory: ca.crt, and NAME.crt and NAME.key for
// each name, which is the certificate's CN and DNS name.
func pki(t *testing.T, dir string, names ...string) {
	t.Helper()
	write := func(file, kind string, der []byte) {
		if err := os.WriteFile(filepath.Join(dir, file), pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	issue := func(serial int64, name string, ca *x509.Certificate, caKey *ecdsa.PrivateKey) (*x509.Certificate, *ecdsa.PrivateKey) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		template := &x509.Certificate{
			SerialNumber: big.NewInt(serial), Subject: pkix.Name{CommonName: name}, NotBefore: time.Now().Add(-time.Hour),
			NotAfter: time.Now().Add(time.Hour), BasicConstraintsValid: true,
		}
		if ca == nil {
			ca, caKey = template, key
			template.IsCA, template.KeyUsage = true, x509.KeyUsageCertSign
		} else {
			template.DNSNames, template.IPAddresses = []string{name}, []net.IP{net.IPv4(127, 0, 0, 1)}
		}
		der, err := x509.CreateCertificate(rand.Reader, template, ca, key.Public(), caKey)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		private, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			t.Fatal(err)
		}
		write(name+".crt", "CERTIFICATE", der)
		write(name+".key", "PRIVATE KEY", private)
		return cert, key
	}
	ca, caKey := issue(1, "ca", nil, nil)
	for i, name := range names {
		issue(int64(i)+2, name, ca, caKey)
	}
}

// radsecSite is a site whose client "proxy" comes over TLS.
func radsecSite(t *testing.T) (s site, radsec string) {
	t.Helper()
	s = newSite(t, "    - { name: proxy, address: 127.0.0.1, certificate: { subject_cn: proxy.example }, realm: staff }\n", "")
	pki(t, s.dir, "radius.example", "proxy.example", "evil.example")
	radsec = freeTCP(t)
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	tls := fmt.Sprintf("radius:\n  tls: { listen: [%q], cert_file: radius.example.crt, key_file: radius.example.key, ca_file: ca.crt }\n", radsec)
	if err := os.WriteFile(s.config, []byte(strings.Replace(string(text), "radius:\n", tls, 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	return s, radsec
}

// startRadsecproxy lets radsecproxy take UDP and pass it on over TLS, with the
// certificate of that name.
func startRadsecproxy(t *testing.T, s site, radsec, name string) (udp, secretFile string) {
	t.Helper()
	program := needPeer(t, "radsecproxy", "radsecproxy")
	udp, secretFile = freeUDP(t), filepath.Join(s.dir, "local.secret")
	const secret = "between radclient and radsecproxy"
	host, port, err := net.SplitHostPort(radsec)
	if err != nil {
		t.Fatal(err)
	}
	text := fmt.Sprintf(`ListenUDP %s
tls default {
    CACertificateFile %[2]s/ca.crt
    CertificateFile %[2]s/%[3]s.crt
    CertificateKeyFile %[2]s/%[3]s.key
}
client local {
    host 127.0.0.1
    type udp
    secret "%[4]s"
}
server otpgate {
    host %[5]s
    port %[6]s
    type tls
    secret radsec
    statusServer on
    certificateNameCheck off
}
realm * {
    server otpgate
}
`, strings.Replace(udp, "[::]", "*", 1), s.dir, name, secret, host, port)
	config := filepath.Join(s.dir, name+".conf")
	for file, text := range map[string]string{config: text, secretFile: secret + "\n"} {
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	log := &syncBuffer{}
	cmd := exec.Command(program, "-f", "-c", config, "-i", filepath.Join(s.dir, name+".pid"))
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("radsecproxy:\n%s", log)
		}
	})
	return udp, secretFile
}

// A NAS that speaks UDP, a proxy that others wrote, and our end over TLS.
func TestRadsecproxy(t *testing.T) {
	s, radsec := radsecSite(t)
	s.serve(t)
	udp, secret := startRadsecproxy(t, s, radsec, "proxy.example")
	key := employee(t, s.client(), "taro")
	ask := func(user, code string) string { return radclient(t, udp, secret, "auth", login(user, code)...) }

	got := ""
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); time.Sleep(100 * time.Millisecond) {
		if got = ask("nobody", "123456"); got == "Access-Reject" { // it has connected
			break
		}
	}
	if got != "Access-Reject" {
		t.Fatalf("nobody: %s, want Access-Reject; log:\n%s", got, s.logged(t))
	}
	code := codeNow(key, 30, 0)
	for _, try := range []struct{ code, want string }{
		{wrongCode(key), "Access-Reject"}, {code, "Access-Accept"}, {code, "Access-Reject"},
	} {
		if got := ask("taro", try.code); got != try.want {
			t.Errorf("%s: %s, want %s", try.code, got, try.want)
		}
	}
	if got := radclient(t, udp, secret, "auth", "User-Name=taro", "CHAP-Password="+codeNow(key, 30, 1), signed); got != "Access-Accept" {
		t.Errorf("CHAP: %s, want Access-Accept", got)
	}
	a, err := s.client().Account(t.Context(), "staff", "taro")
	if err != nil || a.Tries[len(a.Tries)-1].Client != "proxy" {
		t.Errorf("the log has %+v, %v; want the client proxy", a.Tries, err)
	}
}

// A certificate that the authority has signed, but that no client has.
func TestRadsecproxyWithAnotherCertificate(t *testing.T) {
	s, radsec := radsecSite(t)
	s.serve(t)
	udp, secret := startRadsecproxy(t, s, radsec, "evil.example")
	key := employee(t, s.client(), "taro")
	if got := radclient(t, udp, secret, "auth", login("taro", codeNow(key, 30, 0))...); got != "none" {
		t.Errorf("%s, want no answer", got)
	}
	for _, said := range []string{"TLS connection refused", "evil.example", "sha256"} {
		if log := s.logged(t); !strings.Contains(log, said) {
			t.Errorf("the log doesn't say %q:\n%s", said, log)
		}
	}
	out, err := s.otpgate("radius", "clients")
	if want := regexp.MustCompile(`(?m)^TLS connections refused, certificate_unknown: \d+, the last from 127\.0\.0\.1 at 20`); err != nil || !want.MatchString(out) {
		t.Errorf("%v; no %s in\n%s", err, want, out)
	}
	if log := s.logged(t); !strings.Contains(log, "network gear (RADIUS, TLS)") {
		t.Errorf("the start doesn't name the listener:\n%s", log)
	}
}

// An address for all of the machine's is said to be one, at the start.
func TestWildcardAddress(t *testing.T) {
	const warning = "radius.udp has a wildcard address"
	for address, want := range map[string]bool{"127.0.0.1:0": false, "0.0.0.0:0": true, ":0": true} {
		s := newSite(t, "", "")
		s.edit(t, strconv.Quote(s.radius), strconv.Quote(address))
		s.serve(t)
		if log := s.logged(t); strings.Contains(log, warning) != want {
			t.Errorf("%s: warned %v, want %v:\n%s", address, !want, want, log)
		}
	}
}
