package main

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

const (
	gearSecret = "a secret of all the gear here"
	// pinClients are each a machine of its own on the loopback network.
	pinClients = `    - { name: one-field, address: 127.0.0.2, secret_file: gear.secret, realm: staff, mode: password+otp, first_factor: pin }
    - { name: dialogue, address: 127.0.0.3, secret_file: gear.secret, realm: staff, mode: challenge, first_factor: pin }
    - { name: code-first, address: 127.0.0.4, secret_file: gear.secret, realm: staff, mode: password+otp, first_factor: pin, code_position: first }
`
)

// factorSite is a site with the clients, which share gearSecret with it.
func factorSite(t *testing.T, clients string) site {
	t.Helper()
	s := newSite(t, clients, "")
	s.write(t, "gear.secret", gearSecret)
	return s
}

func (s site) write(t *testing.T, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(s.dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// visitor logs in at one piece of gear.
type visitor struct {
	t     *testing.T
	site  site
	from  string // the gear's address
	name  string
	state string // of the last challenge
}

func (s site) visitor(t *testing.T, from, name string) *visitor {
	return &visitor{t: t, site: s, from: from, name: name}
}

var (
	stateLine   = regexp.MustCompile(`\tState = (0x[0-9a-f]+)`)
	messageLine = regexp.MustCompile(`\tReply-Message = "(.*)"`)
)

// types sends what the person types, and returns what the gear has received: the
// code, and what it shows.
func (p *visitor) types(typed string) (code, shown string) {
	p.t.Helper()
	attributes := []string{"User-Name=" + p.name, "User-Password=\"" + typed + "\"", "NAS-IP-Address=192.0.2.1", signed, "Packet-Src-IP-Address=" + p.from}
	if p.state != "" {
		attributes = append(attributes, "State="+p.state)
	}
	out := radclientOutput(p.t, p.site.radius, filepath.Join(p.site.dir, "gear.secret"), "auth", attributes...)
	if strings.Contains(out, "Error parsing") {
		p.t.Fatalf("radclient: %s", out)
	}
	p.state = ""
	_, received, _ := strings.Cut(out, "Received Access-")
	if m := stateLine.FindStringSubmatch(received); m != nil {
		p.state = m[1]
	}
	if m := messageLine.FindStringSubmatch(received); m != nil {
		shown = m[1]
	}
	if code, _, _ = strings.Cut(received, " "); code == "" {
		code = "none"
	}
	return code, shown
}

// wants types each text in turn, and checks what comes of it.
func (p *visitor) wants(steps ...[2]string) {
	p.t.Helper()
	for i, step := range steps {
		if got, shown := p.types(step[0]); got != step[1] {
			p.t.Errorf("%s at %s, step %d: %s (%q), want %s; log:\n%s", p.name, p.from, i+1, got, shown, step[1], p.site.logged(p.t))
		}
	}
}

func (s site) setPIN(t *testing.T, who, pin string) {
	t.Helper()
	cmd := exec.Command(binary, "user", "pin", who, "--set-stdin", "-c", s.config)
	cmd.Stdin = strings.NewReader(pin + "\n")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("otpgate user pin: %v\n%s", err, out)
	}
}

const goodPIN = "482915"

func TestPasswordAndCodeInOneField(t *testing.T) {
	s := factorSite(t, pinClients)
	s.serve(t)
	key := employee(t, s.client(), "taro")
	s.setPIN(t, "taro@staff", goodPIN)
	now, next := codeNow(key, 30, 0), codeNow(key, 30, 1)
	s.visitor(t, "127.0.0.2", "taro").wants(
		[2]string{"111222" + now, "Reject"}, // the code isn't used up by that
		[2]string{now, "Reject"},
		[2]string{goodPIN, "Reject"},
		[2]string{now + goodPIN, "Reject"},
		[2]string{goodPIN + now, "Accept"},
		[2]string{goodPIN + now, "Reject"},
	)
	s.visitor(t, "127.0.0.4", "taro").wants([2]string{goodPIN + next, "Reject"}, [2]string{next + goodPIN, "Accept"})
	s.visitor(t, "127.0.0.2", "nobody").wants([2]string{goodPIN + now, "Reject"})
}

func TestChallengeWithPIN(t *testing.T) {
	s := factorSite(t, pinClients)
	running := s.serve(t)
	key := employee(t, s.client(), "taro")
	s.setPIN(t, "taro@staff", goodPIN)
	code := codeNow(key, 30, 0)

	// A wrong PIN, and nobody at all, are asked in the same words, and rejected.
	_, right := s.visitor(t, "127.0.0.3", "taro").types(goodPIN)
	for _, try := range []struct{ name, pin string }{{"taro", "111222"}, {"nobody", goodPIN}} {
		p := s.visitor(t, "127.0.0.3", try.name)
		if got, shown := p.types(try.pin); got != "Challenge" || shown != right || shown == "" {
			t.Errorf("%s with %s: %s %q, want a challenge with %q", try.name, try.pin, got, shown, right)
		}
		p.wants([2]string{code, "Reject"})
	}

	// A restart and a new data key in the middle of it break nothing.
	p := s.visitor(t, "127.0.0.3", "taro")
	p.wants([2]string{goodPIN, "Challenge"})
	if out, err := s.otpgate("key", "rotate", "--no-wait"); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if _, err := running.stop(); err != nil {
		t.Fatal(err)
	}
	s.serve(t)
	p.wants([2]string{code, "Accept"})

	// Another client can't go on with it.
	p.wants([2]string{goodPIN, "Challenge"})
	p.from = "127.0.0.2"
	p.wants([2]string{codeNow(key, 30, 1), "Reject"})
	out, err := s.otpgate("radius", "clients")
	if err != nil || !strings.Contains(out, "state_foreign") {
		t.Errorf("%v; the operator isn't told:\n%s", err, out)
	}
}

// The person chooses the PIN with the first code.
func TestFirstPIN(t *testing.T) {
	s := factorSite(t, pinClients)
	s.serve(t)
	key := employee(t, s.client(), "taro")
	p := s.visitor(t, "127.0.0.3", "taro")
	p.wants(
		[2]string{"whatever", "Challenge"},
		[2]string{codeNow(key, 30, 0), "Challenge"},
		[2]string{"1234", "Challenge"},  // not allowed
		[2]string{goodPIN, "Challenge"}, // once more
		[2]string{"482916", "Challenge"},
		[2]string{goodPIN, "Challenge"},
		[2]string{goodPIN, "Accept"},
	)
	s.visitor(t, "127.0.0.2", "taro").wants([2]string{goodPIN + codeNow(key, 30, 1), "Accept"})
	out, err := s.otpgate("user", "show", "taro@staff")
	if err != nil || !strings.Contains(out, "PIN set ") {
		t.Errorf("%v\n%s", err, out)
	}
	if logged := s.logged(t); strings.Contains(logged, goodPIN) {
		t.Error("the log has the PIN in it")
	}
}

const (
	bindPassword = "the bind password"
	slapdConf    = `
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
TLSCertificateFile %[1]s/ldap.crt
TLSCertificateKeyFile %[1]s/ldap.key
database mdb
suffix "dc=example"
directory %[1]s/ldap
maxsize 8388608
access to * by dn.exact="cn=gateway,dc=example" read by anonymous auth by * none
`
	slapdEntries = `dn: dc=example
objectClass: domain
dc: example

dn: cn=gateway,dc=example
objectClass: person
cn: gateway
sn: gateway
userPassword: the bind password

dn: uid=taro,dc=example
objectClass: inetOrgPerson
uid: taro
cn: taro
sn: taro
userPassword: horse battery 9

dn: cn=vpn-users,dc=example
objectClass: groupOfNames
cn: vpn-users
member: uid=taro,dc=example
`
	ldapSite = `    - { name: gear, address: 127.0.0.2, secret_file: gear.secret, realm: staff, mode: challenge, first_factor: ad, reply: { Filter-Id: "{group}" } }
  first_factors:
    - name: ad
      ldap:
        servers: ["ldap://%s"]
        ca_file: ldap.crt
        bind_dn: cn=gateway,dc=example
        bind_password_file: bind.password
        base_dn: dc=example
        filter: (uid={user})
        groups: { base_dn: dc=example, filter: "(member={dn})" }
`
)

// ldapFiles writes what both the gateway and its directory need.
func ldapFiles(t *testing.T, s site) {
	t.Helper()
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"ldap.crt": string(cert), "ldap.key": string(key), "bind.password": bindPassword + "\n",
		"slapd.conf": fmt.Sprintf(slapdConf, s.dir), "entries.ldif": slapdEntries,
	} {
		s.write(t, name, text)
	}
}

func startSlapd(t *testing.T, s site, address string) {
	t.Helper()
	if err := os.Mkdir(filepath.Join(s.dir, "ldap"), 0o700); err != nil {
		t.Fatal(err)
	}
	conf := filepath.Join(s.dir, "slapd.conf")
	if out, err := exec.Command(needDaemon(t, "slapadd", "slapd"), "-f", conf, "-l", filepath.Join(s.dir, "entries.ldif")).CombinedOutput(); err != nil {
		t.Fatalf("slapadd: %v\n%s", err, out)
	}
	startPeer(t, exec.Command(needDaemon(t, "slapd", "slapd"), "-f", conf, "-h", "ldap://"+address, "-d", "0"), func(string) bool {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		return err == nil
	})
}

// needDaemon is needPeer for what Debian keeps where only root's PATH leads.
func needDaemon(t *testing.T, program, debianPackage string) string {
	t.Helper()
	if path, err := exec.LookPath("/usr/sbin/" + program); err == nil {
		return path
	}
	return needPeer(t, program, debianPackage)
}

// startPeer starts a program that ends with the test, and waits until it is ready.
func startPeer(t *testing.T, cmd *exec.Cmd, ready func(log string) bool) {
	t.Helper()
	log := &syncBuffer{}
	cmd.Stdout, cmd.Stderr = log, log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait()
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		<-ended
	})
	for end := time.After(20 * time.Second); !ready(log.String()); {
		select {
		case <-ended:
			t.Fatalf("%s has ended:\n%s", cmd.Path, log)
		case <-end:
			t.Fatalf("%s isn't ready:\n%s", cmd.Path, log)
		case <-time.After(20 * time.Millisecond):
		}
	}
}

func TestChallengeWithDirectory(t *testing.T) {
	address := freeTCP(t)
	s := factorSite(t, fmt.Sprintf(ldapSite, address))
	ldapFiles(t, s)
	startSlapd(t, s, address)
	s.serve(t)
	key := employee(t, s.client(), "taro")
	code := codeNow(key, 30, 0)
	taro := s.visitor(t, "127.0.0.2", "taro")
	taro.wants([2]string{"horse battery 8", "Challenge"}, [2]string{code, "Reject"})
	taro.wants([2]string{"horse battery 9", "Challenge"})
	out := radclientOutput(t, s.radius, filepath.Join(s.dir, "gear.secret"), "auth",
		append(login("taro", code), "Packet-Src-IP-Address=127.0.0.2", "State="+taro.state)...)
	if !strings.Contains(out, "Received Access-Accept") || !strings.Contains(out, `Filter-Id = "vpn-users"`) {
		t.Errorf("want an Access-Accept with the group of the directory:\n%s", out)
	}
	for _, secret := range []string{"horse battery", bindPassword} {
		if strings.Contains(s.logged(t), secret) {
			t.Errorf("the log has %q in it", secret)
		}
	}
}

// A directory that isn't there is a warning, and a log-in that nobody can decide
// gets no answer: the gear turns to its next server.
func TestDirectoryThatIsDown(t *testing.T) {
	s := factorSite(t, fmt.Sprintf(ldapSite, freeTCP(t)))
	ldapFiles(t, s)
	s.serve(t)
	employee(t, s.client(), "taro")
	s.visitor(t, "127.0.0.2", "taro").wants([2]string{"horse battery 9", "none"})
	for _, want := range []string{"a directory isn't ready", "first_factor_unavailable"} {
		if log := s.logged(t); !strings.Contains(log, want) {
			t.Errorf("the log doesn't say %q:\n%s", want, log)
		}
	}
	if out, err := s.otpgate("config", "check"); err != nil {
		t.Errorf("config check: %v\n%s", err, out)
	}
}

const (
	oldServer = `
raddbdir = "%[1]s"
logdir = "%[1]s"
run_dir = "%[1]s"
libdir = /usr/lib/freeradius
security { reject_delay = 0 }
client gateway {
	ipaddr = 127.0.0.1
	secret = "%[2]s"
	require_message_authenticator = yes
}
modules {
	pap { }
	files { usersfile = "%[1]s/users" }
}
server default {
	listen {
		type = auth
		ipaddr = 127.0.0.1
		port = %[3]s
	}
	authorize {
		files
		pap
	}
	authenticate {
		pap
	}
}
`
	migratingSite = `    - { name: gear, address: 127.0.0.2, secret_file: gear.secret, realm: staff, first_factor: old }
  first_factors:
    - name: old
      radius: { servers: ["%s"], secret_file: gear.secret, migrating: true%s }
`
)

func startOldServer(t *testing.T, address string) {
	t.Helper()
	dir := t.TempDir()
	_, port, _ := strings.Cut(address, ":")
	for name, text := range map[string]string{
		"radiusd.conf": fmt.Sprintf(oldServer, dir, gearSecret, port),
		"users":        "taro Cleartext-Password := \"755224\"\njiro Cleartext-Password := \"755224\"\n",
		"dictionary":   "$INCLUDE /usr/share/freeradius/dictionary\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	startPeer(t, exec.Command(needDaemon(t, "freeradius", "freeradius"), "-f", "-l", "stdout", "-x", "-d", dir, "-n", "radiusd"),
		func(log string) bool { return strings.Contains(log, "Ready to process requests") })
}

// While people move here, those who have no token yet pass by the old server's
// word; whoever has one needs its code, and the old server's word is worth nothing.
func TestMigrating(t *testing.T) {
	address := freeUDP(t)
	startOldServer(t, address)
	s := factorSite(t, fmt.Sprintf(migratingSite, address, ", require_message_authenticator: false"))
	s.serve(t)
	key := employee(t, s.client(), "taro")
	s.visitor(t, "127.0.0.2", "jiro").wants([2]string{"755224", "Reject"}) // nobody has said that he moves
	if out, err := s.otpgate("user", "add", "jiro@staff"); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	s.visitor(t, "127.0.0.2", "jiro").wants([2]string{"755224", "Accept"}, [2]string{"755225", "Reject"})
	s.visitor(t, "127.0.0.2", "taro").wants(
		[2]string{"755224", "Reject"},
		[2]string{codeNow(key, 30, 0), "Accept"},
	)
	out, err := s.otpgate("audit", "tail", "--user", "jiro@staff")
	if err != nil || strings.Count(out, "vouched") != 1 || strings.Contains(out, "accepted") || !strings.Contains(out, "(old (radius))") {
		t.Errorf("%v; want the log-in by the old server's word in the audit log:\n%s", err, out)
	}
}

// FreeRADIUS 3.2.1 sends no Message-Authenticator: its word isn't taken unless
// gateway.yaml says so, and the log says what to do.
func TestUpstreamWithoutMessageAuthenticator(t *testing.T) {
	address := freeUDP(t)
	startOldServer(t, address)
	s := factorSite(t, fmt.Sprintf(migratingSite, address, ", timeout: 0.5s"))
	s.serve(t)
	if out, err := s.otpgate("user", "add", "jiro@staff"); err != nil {
		t.Fatalf("%v:\n%s", err, out)
	}
	s.visitor(t, "127.0.0.2", "jiro").wants([2]string{"755224", "none"})
	if log := s.logged(t); !strings.Contains(log, "require_message_authenticator: false in its entry under radius.first_factors") {
		t.Errorf("the log doesn't say what to do:\n%s", log)
	}
}
