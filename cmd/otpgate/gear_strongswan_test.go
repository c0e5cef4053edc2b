package main

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// ikeVPN is a bank's network with strongSwan and the gateway in it, and, on the
// other side of a cable, somebody's home with another strongSwan.
type ikeVPN struct {
	site       site
	bank, home ikeHost
}

// ikeHost is a network with a strongSwan of its own in it, whose files are in dir.
type ikeHost struct {
	network
	dir      string
	programs map[string]string // paths
}

// newIKEVPN starts the gateway and both strongSwans. ESP is done by a plugin over
// TUN devices (kernel-libipsec), since not every kernel has it.
func newIKEVPN(t *testing.T, s site) ikeVPN {
	t.Helper()
	programs := map[string]string{
		"charon-systemd": needPeer(t, "charon-systemd", "charon-systemd"), "swanctl": needPeer(t, "swanctl", "strongswan-swanctl"),
	}
	for name, path := range programs { // AppArmor holds the packages' own, by their paths, to /etc and /run
		programs[name] = filepath.Join(s.dir, name)
		if out, err := exec.Command("cp", path, programs[name]).CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	for plugin, debianPackage := range map[string]string{
		"eap-radius": "libcharon-extra-plugins", "eap-mschapv2": "libcharon-extauth-plugins", "gcrypt": "libstrongswan-extra-plugins",
	} {
		if _, err := os.Stat("/usr/lib/ipsec/plugins/libstrongswan-" + plugin + ".so"); err != nil {
			missingPeer(t, "strongSwan's plugin "+plugin, debianPackage)
		}
	}
	v := ikeVPN{
		s, ikeHost{newNetwork(t), filepath.Join(s.dir, "bank"), programs}, ikeHost{newNetwork(t), filepath.Join(s.dir, "home"), programs},
	}
	v.bank.needTUN()
	v.bank.wire("192.0.2.1/24", v.home.network, "192.0.2.2/24")
	v.bank.run("ip", "address", "add", "198.51.100.1/32", "dev", "lo")
	v.bank.serve(s)

	certificate, key := rsaCertificate(t, "vpn.example")
	for file, text := range map[string]string{
		"bank/swanctl/x509/vpn.pem": certificate, "bank/swanctl/private/vpn.pem": key, "home/swanctl/x509ca/vpn.pem": certificate,
		"bank/swanctl/swanctl.conf": ikeBank, "home/swanctl/swanctl.conf": "",
	} {
		if err := os.MkdirAll(filepath.Dir(filepath.Join(s.dir, file)), 0o700); err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(s.dir, file), text)
	}
	v.bank.charon("eap-radius", `eap-radius { servers { otpgate {
		address = 127.0.0.1
		auth_port = `+port(s.radius)+`
		secret = `+s.vpnSecret(t)+`
	} } }`)
	v.home.charon("gcrypt eap-gtc eap-mschapv2", "")
	return v
}

// ikeBank is the VPN server's connection: its certificate, and EAP by the gateway.
const ikeBank = `connections { staff {
	version = 2
	encap = yes
	pools = staff
	local {
		auth = pubkey
		certs = vpn.pem
		id = vpn.example
	}
	remote {
		auth = eap-radius
		eap_id = %any
	}
	children { net {
		local_ts = 198.51.100.1/32
		esp_proposals = aes128-sha256
	} }
} }
pools { staff { addrs = 203.0.113.128/25 } }
`

// ikeHome is somebody's connection, by an EAP method.
const ikeHome = `connections { bank {
	version = 2
	encap = yes
	remote_addrs = 192.0.2.1
	vips = 0.0.0.0
	local {
		auth = METHOD
		eap_id = USER
	}
	remote {
		auth = pubkey
		id = vpn.example
	}
	children { net {
		remote_ts = 198.51.100.1/32
		esp_proposals = aes128-sha256
	} }
} }
secrets { eap {
	id = USER
	secret = "CODE"
} }
`

// charon starts strongSwan's daemon with the plugins that it needs, and loads its
// connections.
func (h ikeHost) charon(plugins, settings string) {
	h.t.Helper()
	const base = "random nonce aes sha1 sha2 hmac kdf gmp pem pkcs1 pkcs8 pubkey x509 constraints md5 xcbc fips-prf " +
		"eap-identity kernel-libipsec kernel-netlink socket-default vici"
	conf := strings.NewReplacer("PLUGINS", base+" "+plugins, "DIR", h.dir, "SETTINGS", settings)
	write(h.t, filepath.Join(h.dir, "strongswan.conf"), conf.Replace(`charon-systemd {
	load = PLUGINS
	journal { default = -1 }
	filelog { stderr { default = 1 } }
	plugins {
		vici { socket = unix://DIR/vici }
		SETTINGS
	}
}
swanctl { load = random aes sha1 sha2 hmac pem pkcs1 pkcs8 pubkey x509 gmp }
`))
	cmd := h.command(h.programs["charon-systemd"])
	cmd.Env = h.environment()
	startDaemon(h.t, cmd)
	until(h.t, "strongSwan answers", func() bool { return h.swanctl("--stats").Run() == nil })
	h.load()
}

func (h ikeHost) environment() []string {
	return append(os.Environ(), "STRONGSWAN_CONF="+filepath.Join(h.dir, "strongswan.conf"), "SWANCTL_DIR="+filepath.Join(h.dir, "swanctl"))
}

func (h ikeHost) swanctl(args ...string) *exec.Cmd {
	cmd := exec.Command(h.programs["swanctl"], append(args, "--uri", "unix://"+filepath.Join(h.dir, "vici"))...)
	cmd.Env = h.environment()
	return cmd
}

func (h ikeHost) load() {
	h.t.Helper()
	if out, err := h.swanctl("--load-all").CombinedOutput(); err != nil {
		h.t.Fatalf("swanctl --load-all: %v\n%s", err, out)
	}
}

// connects says whether somebody at home gets a tunnel with a code.
func (v ikeVPN) connects(t *testing.T, method, user, code string) bool {
	t.Helper()
	text := strings.NewReplacer("METHOD", method, "USER", user, "CODE", code).Replace(ikeHome)
	write(t, filepath.Join(v.home.dir, "swanctl", "swanctl.conf"), text)
	v.home.load()
	out, err := v.home.swanctl("--initiate", "--child", "net", "--timeout", "10").CombinedOutput()
	if err != nil && !strings.Contains(string(out), "EAP authentication failed") && !strings.Contains(string(out), "EAP-MS-CHAPv2 failed") {
		t.Errorf("no tunnel, but not for the code:\n%s", out)
	}
	return err == nil
}

// hangUp ends the tunnel.
func (v ikeVPN) hangUp(t *testing.T) {
	t.Helper()
	if out, err := v.home.swanctl("--terminate", "--ike", "bank").CombinedOutput(); err != nil {
		t.Errorf("swanctl --terminate: %v\n%s", err, out)
	}
}

// reaches says whether from home the bank's network can be reached: a connection to
// it has packets in both directions.
func (v ikeVPN) reaches() bool {
	return v.home.command("timeout", "2", "bash", "-c", "exec 3<>/dev/tcp/198.51.100.1/"+port(v.site.metrics)).Run() == nil
}

// Somebody dials in by IKEv2 with a code, by each EAP method that a VPN client has
// for codes, works, and leaves.
func TestStrongSwan(t *testing.T) {
	s := newSite(t, "", "")
	s.edit(t, "metrics: \"127.0.0.1:", "metrics: \":", // what is reached through the tunnel
		"radius:\n", "radius:\n  eap: { methods: [mschapv2, gtc] }\n")
	v := newIKEVPN(t, s)
	for method, user := range map[string]string{"eap-gtc": "taro", "eap-mschapv2": "hanako"} {
		t.Run(method, func(t *testing.T) {
			key := employee(t, s.client(), user)
			if v.connects(t, method, user, wrongCode(key)) || v.reaches() {
				t.Error("a wrong code made a tunnel")
			}
			code := codeNow(key, 30, 0)
			if !v.connects(t, method, user, code) {
				t.Fatal("the right code made no tunnel")
			}
			until(t, "the tunnel carries a connection", v.reaches)
			v.hangUp(t)
			if v.connects(t, method, user, code) || v.reaches() {
				t.Error("the code made a second tunnel")
			}
		})
	}
	if v.connects(t, "eap-mschapv2", "nobody", "123456") {
		t.Error("nobody made a tunnel")
	}
}

// rsaCertificate is a self-signed certificate, whose kind strongSwan takes without further plugins,
// and its key.
func rsaCertificate(t *testing.T, name string) (certificate, key string) {
	t.Helper()
	private, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, DNSNames: []string{name}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	encode := func(kind string, der []byte) string {
		return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
	}
	return encode("CERTIFICATE", der), encode("RSA PRIVATE KEY", x509.MarshalPKCS1PrivateKey(private))
}
