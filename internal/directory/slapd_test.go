package directory

import (
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"io"
	"log/slog"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	accountDN       = "cn=gateway,dc=example"
	accountPassword = "service-account-password"
)

// slapdConf lets nobody but the service account read anything, so a search over
// a connection bound as a person would find nothing. It takes unauthenticated
// binds, as some directories do.
const slapdConf = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
include /etc/ldap/schema/nis.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload memberof
moduleload ppolicy
allow bind_anon_cred
threads 16
%s
database mdb
suffix "dc=example"
directory %s
maxsize 8388608
dbnosync
overlay memberof
overlay ppolicy
ppolicy_default "cn=policy,dc=example"
ppolicy_use_lockout
access to * by dn.exact="cn=gateway,dc=example" read by anonymous auth by * none
`

const entries = `
dn: dc=example
objectClass: domain
dc: example

dn: cn=gateway,dc=example
objectClass: person
cn: gateway
sn: gateway
userPassword: service-account-password

dn: cn=policy,dc=example
objectClass: device
objectClass: pwdPolicy
cn: policy
pwdAttribute: userPassword
pwdLockout: TRUE
pwdMustChange: TRUE

dn: ou=people,dc=example
objectClass: organizationalUnit
ou: people

dn: ou=contractors,dc=example
objectClass: organizationalUnit
ou: contractors

dn: ou=groups,dc=example
objectClass: organizationalUnit
ou: groups

dn: uid=alice,ou=people,dc=example
objectClass: inetOrgPerson
uid: alice
cn: alice
sn: alice
userPassword: alice-password
memberOf: cn=vpn,ou=groups,dc=example
memberOf: cn=admins,ou=groups,dc=example
memberOf: cn=Trading\2C Tokyo,ou=groups,dc=example

dn: uid=bob,ou=people,dc=example
objectClass: inetOrgPerson
uid: bob
cn: bob
sn: bob
userPassword: bob-password

dn: uid=o'neil (x)*\2C\2B\5C=1,ou=people,dc=example
objectClass: inetOrgPerson
uid: o'neil (x)*,+\=1
cn: oneil
sn: oneil
userPassword: oneil-password

dn: uid=twin,ou=people,dc=example
objectClass: inetOrgPerson
uid: twin
cn: twin
sn: twin
userPassword: twin-password

dn: uid=twin,ou=contractors,dc=example
objectClass: inetOrgPerson
uid: twin
cn: twin
sn: twin
userPassword: twin-password

dn: uid=locked,ou=people,dc=example
objectClass: inetOrgPerson
uid: locked
cn: locked
sn: locked
userPassword: locked-password
pwdAccountLockedTime: 000001010000Z

dn: uid=changing,ou=people,dc=example
objectClass: inetOrgPerson
uid: changing
cn: changing
sn: changing
userPassword: changing-password
pwdReset: TRUE

dn: cn=vpn,ou=groups,dc=example
objectClass: groupOfNames
cn: vpn
member: uid=alice,ou=people,dc=example
member: uid=o'neil (x)*\2C\2B\5C=1,ou=people,dc=example

dn: cn=Trading\2C Tokyo,ou=groups,dc=example
objectClass: groupOfNames
cn: Trading, Tokyo
member: uid=alice,ou=people,dc=example

dn: cn=admins,ou=groups,dc=example
objectClass: groupOfNames
cn: admins
member: uid=alice,ou=people,dc=example
`

// slapd is a running OpenLDAP server with a directory of its own.
type slapd struct {
	t            *testing.T
	dir, program string
	plain, tls   string // HOST:PORT
	roots        *x509.CertPool
	process      *exec.Cmd
}

// newSlapd starts one. It takes its certificate from dir or, without one, does
// no TLS.
func newSlapd(t *testing.T, certificates *authority) *slapd {
	t.Helper()
	s := &slapd{t: t, dir: t.TempDir(), program: needPeer(t, "slapd", "slapd"), plain: freeAddress(t), tls: freeAddress(t)}
	var keys string
	if certificates != nil {
		s.roots = certificates.roots
		keys = "TLSCertificateFile " + certificates.certFile + "\nTLSCertificateKeyFile " + certificates.keyFile
	}
	data := filepath.Join(s.dir, "data")
	if err := os.Mkdir(data, 0o700); err != nil {
		t.Fatal(err)
	}
	s.write("slapd.conf", fmt.Sprintf(slapdConf, keys, data))
	s.write("entries.ldif", entries)
	if out, err := exec.Command(needPeer(t, "slapadd", "slapd"), "-f", s.file("slapd.conf"), "-l", s.file("entries.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	s.start()
	return s
}

func (s *slapd) start() {
	s.t.Helper()
	listen := "ldap://" + s.plain
	if s.roots != nil {
		listen += " ldaps://" + s.tls
	}
	var out bytes.Buffer
	s.process = exec.Command(s.program, "-f", s.file("slapd.conf"), "-h", listen, "-d", "0")
	s.process.Stdout, s.process.Stderr = &out, &out
	if err := s.process.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(s.kill)
	for range 500 {
		if conn, err := net.Dial("tcp", s.plain); err == nil {
			conn.Close()
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	s.kill()
	s.t.Fatalf("slapd doesn't listen:\n%s", out.Bytes())
}

func (s *slapd) kill() {
	_ = s.process.Process.Kill()
	_ = s.process.Wait()
}

func (s *slapd) file(name string) string { return filepath.Join(s.dir, name) }

func (s *slapd) write(name, text string) {
	s.t.Helper()
	if err := os.WriteFile(s.file(name), []byte(text), 0o600); err != nil {
		s.t.Fatal(err)
	}
}

// needPeer skips the test where a program that others wrote is missing; in CI
// that is a failure.
func needPeer(t *testing.T, program, debianPackage string) string {
	t.Helper()
	for _, dir := range append(filepath.SplitList(os.Getenv("PATH")), "/usr/sbin") {
		if path, err := exec.LookPath(filepath.Join(dir, program)); err == nil {
			return path
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("%s is missing; make test installs Debian's %s", program, debianPackage)
	}
	t.Skipf("%s is missing: apt-get install %s", program, debianPackage)
	return ""
}

func freeAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// authority has signed a certificate for 127.0.0.1.
type authority struct {
	roots             *x509.CertPool
	certFile, keyFile string
}

func newAuthority(t *testing.T) *authority {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	cert, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	a := &authority{roots: x509.NewCertPool(), certFile: filepath.Join(t.TempDir(), "cert"), keyFile: filepath.Join(t.TempDir(), "key")}
	certPEM := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: cert})
	a.roots.AppendCertsFromPEM(certPEM)
	for name, text := range map[string][]byte{a.certFile: certPEM, a.keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})} {
		if err := os.WriteFile(name, text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return a
}

// tap passes connections on, and keeps what goes by.
type tap struct {
	address  string
	accepted atomic.Int64
	cut      atomic.Int64 // the first so many connections break when somebody writes to them

	mu   sync.Mutex // guards seen
	seen bytes.Buffer
}

func newTap(t *testing.T, to string) *tap {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	p := &tap{address: l.Addr().String()}
	go func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			go p.pass(p.accepted.Add(1), in, to)
		}
	}()
	return p
}

func (p *tap) pass(number int64, in net.Conn, to string) {
	defer in.Close()
	out, err := net.Dial("tcp", to)
	if err != nil {
		return
	}
	defer out.Close()
	go func() {
		defer in.Close()
		_, _ = io.Copy(io.MultiWriter(in, p), out)
	}()
	_, _ = io.Copy(io.MultiWriter(writer(func(b []byte) (int, error) {
		if number <= p.cut.Load() {
			return 0, net.ErrClosed
		}
		return out.Write(b)
	}), p), in)
}

type writer func([]byte) (int, error)

func (w writer) Write(b []byte) (int, error) { return w(b) }

func (p *tap) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.seen.Write(b)
}

func (p *tap) has(text string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return bytes.Contains(p.seen.Bytes(), []byte(text))
}

// logLines is a log to look into.
type logLines struct {
	mu sync.Mutex // guards b
	b  strings.Builder
}

func (l *logLines) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logLines) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

// clock is set by hand.
type clock struct{ ahead atomic.Int64 }

func (c *clock) now() time.Time          { return time.Now().Add(time.Duration(c.ahead.Load())) }
func (c *clock) advance(d time.Duration) { c.ahead.Add(int64(d)) }
func searching(servers ...string) Config {
	return Config{Name: "corp", Servers: servers, Account: account, Users: byUID, Limit: generous}
}

func templating(servers ...string) Config {
	return Config{Name: "corp", Servers: servers, Users: Users{Template: "uid={user},ou=people,dc=example"}, Limit: generous}
}

// generous is a limit that a loaded machine doesn't reach.
const generous = 10 * time.Second

var (
	account = Account{DN: accountDN, Password: Secret(accountPassword)}
	byUID   = Users{Base: "dc=example", Filter: "(&(objectClass=inetOrgPerson)(uid={user}))"}
)

// site is a directory under test, with what it logs and counts.
type site struct {
	*Directory
	log   *logLines
	clock *clock
	reg   *prometheus.Registry
}

func newSite(t *testing.T, cfg Config) *site {
	t.Helper()
	s := &site{log: &logLines{}, clock: &clock{}, reg: prometheus.NewRegistry()}
	cfg.Now, cfg.Log, cfg.Metrics = s.clock.now, slog.New(slog.NewTextHandler(s.log, nil)), NewMetrics(s.reg)
	d, err := New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s.Directory = d
	t.Cleanup(func() {
		d.Close()
		if n := s.metric(t, "otpgate_directory_connections"); n != 0 {
			t.Errorf("%v connections are open after Close", n)
		}
	})
	return s
}

// metric is the sum of a metric over those of its labels that have value as one.
func (s *site) metric(t *testing.T, name string, values ...string) float64 {
	t.Helper()
	families, err := s.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			labels := ""
			for _, l := range m.GetLabel() {
				labels += l.GetValue() + "\n"
			}
			fits := true
			for _, v := range values {
				fits = fits && strings.Contains(labels, v+"\n")
			}
			if fits {
				sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return sum
}

func (s *site) wantCheck(t *testing.T, user, password string, want bool) {
	t.Helper()
	if right, err := s.Check(t.Context(), user, password); err != nil || right != want {
		t.Errorf("%q with %q: %v, %v; want %v", user, password, right, err, want)
	}
}
