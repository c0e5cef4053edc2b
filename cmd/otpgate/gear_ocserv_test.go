package main

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"
)

// vpn is a bank's network with ocserv and the gateway in it, and, on the other
// side of a cable, somebody's home.
type vpn struct {
	t          *testing.T
	site       site
	bank, home network
	pin        string // of ocserv's key, as openconnect wants it
}

const vpnServer = "192.0.2.1:4443"

// newVPN starts the gateway and ocserv. Sessions and addresses come over RADIUS
// (groupconfig), and each session is accounted for.
func newVPN(t *testing.T, s site) vpn {
	t.Helper()
	ocserv := needPeer(t, "ocserv", "ocserv")
	needPeer(t, "openconnect", "openconnect")
	v := vpn{t: t, site: s, bank: newNetwork(t), home: newNetwork(t)}
	v.bank.needTUN()
	v.bank.wire("192.0.2.1/24", v.home, "192.0.2.2/24")
	v.bank.serve(s)

	pki(t, s.dir, "vpn.example")
	v.pin = keyPin(t, filepath.Join(s.dir, "vpn.example.crt"))
	write(t, filepath.Join(s.dir, "servers"), "127.0.0.1 "+s.vpnSecret(t)+"\n")
	write(t, filepath.Join(s.dir, "radiusclient.conf"), strings.NewReplacer("DIR", s.dir, "RADIUS", s.radius).Replace(`authserver RADIUS
acctserver RADIUS
servers DIR/servers
dictionary /etc/radcli/dictionary
default_realm
radius_timeout 3
radius_retries 1
bindaddr *
`))
	config := filepath.Join(s.dir, "ocserv.conf")
	write(t, config, strings.NewReplacer("DIR", s.dir, "ADDRESS", "192.0.2.1").Replace(`auth = "radius[config=DIR/radiusclient.conf,groupconfig=true]"
acct = "radius[config=DIR/radiusclient.conf]"
listen-host = ADDRESS
tcp-port = 4443
run-as-user = root
run-as-group = root
socket-file = DIR/ocserv.socket
server-cert = DIR/vpn.example.crt
server-key = DIR/vpn.example.key
isolate-workers = false
use-occtl = false
max-ban-score = 0
device = vpns
ipv4-network = 198.51.100.0/24
cisco-client-compat = true
pid-file = DIR/ocserv.pid
`))
	startDaemon(t, v.bank.command(ocserv, "--foreground", "--debug", "1", "--config", config)).says(t, "listening (TCP) on "+vpnServer)
	return v
}

// keyPin is the SHA-256 of a certificate's public key.
func keyPin(t *testing.T, file string) string {
	t.Helper()
	block, _ := pem.Decode([]byte(read(t, file)))
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(cert.RawSubjectPublicKeyInfo)
	return "pin-sha256:" + base64.StdEncoding.EncodeToString(sum[:])
}

// connect has somebody at home dial in, who types the lines that are asked for.
func (v vpn) connect(user string, lines ...string) *daemon {
	v.t.Helper()
	script := filepath.Join(v.site.dir, "script")
	write(v.t, script, `[ "$reason" = connect ] || exit 0
ip address add "$INTERNAL_IP4_ADDRESS/32" dev "$TUNDEV" && ip link set "$TUNDEV" up && ip route add 198.51.100.0/24 dev "$TUNDEV"
`)
	cmd := v.home.command("openconnect", "--non-inter", "--passwd-on-stdin", "--no-dtls", "--user="+user, "--servercert="+v.pin,
		"--script=sh "+script, "https://"+vpnServer)
	cmd.Stdin = strings.NewReader(strings.Join(lines, "\n") + "\n")
	return startDaemon(v.t, cmd)
}

// refused waits until openconnect has given up.
func (v vpn) refused(d *daemon) {
	v.t.Helper()
	until(v.t, "openconnect gives up", func() bool { return len(d.done) > 0 })
	if said := d.out.String(); !strings.Contains(said, "Login failed.") && !strings.Contains(said, "401 Authentication failed") || strings.Contains(said, "Configured as") {
		v.t.Errorf("openconnect wasn't refused:\n%s", said)
	}
}

// reaches says whether from home the bank's end of the tunnel can be reached: a
// connection to it has packets in both directions.
func (v vpn) reaches() bool {
	return v.home.command("bash", "-c", "exec 3<>/dev/tcp/198.51.100.1/"+port(v.site.metrics)).Run() == nil
}

// Somebody dials in with a code, works, and leaves.
func TestOcserv(t *testing.T) {
	s := newSite(t, "", "")
	s.edit(t, "realm: staff }", "realm: staff, require_message_authenticator: false, accounting: true, reply: { Framed-IP-Address: 198.51.100.77 } }",
		"metrics: \"127.0.0.1:", "metrics: \":") // what is reached through the tunnel
	v := newVPN(t, s)
	key := employee(t, s.client(), "taro")

	v.refused(v.connect("taro", wrongCode(key)))
	v.refused(v.connect("nobody", "123456"))
	if v.reaches() {
		t.Error("somebody who wasn't let in reaches the bank's network")
	}
	code := codeNow(key, 30, 0)
	tunnel := v.connect("taro", code)
	tunnel.says(t, "Configured as 198.51.100.77")
	until(t, "the tunnel carries a connection", v.reaches)
	v.refused(v.connect("taro", code))
	tunnel.stop()
	if v.reaches() {
		t.Error("the bank's network is reached without the tunnel")
	}
	until(t, "the session's end is accounted for", func() bool {
		out, err := s.otpgate("audit", "tail", "--json", "--user", "taro@staff")
		return err == nil && strings.Contains(out, `"radius.accounting"`) && strings.Contains(out, `"stop"`)
	})
	wantInAudit(t, s, "radius.accounting", "start", "session ")
	wantInAudit(t, s, "verify", "accepted", "")
}
