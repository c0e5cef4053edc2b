package main

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"
)

// Each example in docs/radius.md is one that config check accepts, with the files
// that it names.
func TestRadiusPage(t *testing.T) {
	examples := regexp.MustCompile("(?ms)^```yaml\n(.*?)^```$").FindAllStringSubmatch(read(t, "../../docs/radius.md"), -1)
	if len(examples) < 5 {
		t.Fatalf("only %d examples", len(examples))
	}
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range examples {
		s := newSite(t, "", "")
		for _, file := range regexp.MustCompile(`(\w+_file): ([\w./-]+)`).FindAllStringSubmatch(e[1], -1) {
			text := gearSecret
			switch {
			case file[1] == "cert_file", file[1] == "ca_file":
				text = string(cert)
			case file[1] == "key_file":
				text = string(key)
			case strings.HasPrefix(file[2], "data/vpn"), strings.HasPrefix(file[2], "data/wlan"):
				continue // made at first start
			}
			write(t, filepath.Join(s.dir, filepath.Base(file[2])), text)
		}
		// The directory data is made at first start too: what must be there before stands beside it.
		write(t, s.config, regexp.MustCompile(`data/(old|bind)`).ReplaceAllString(e[1], "$1")+"oidc: { issuer: https://otp.bank.example }\n")
		if out, err := s.otpgate("config", "check"); err != nil {
			t.Errorf("%v\n%s\n%s", err, out, e[1])
		}
	}
}

// The radsecproxy of the distribution takes the example of its configuration.
func TestRadsecproxyExample(t *testing.T) {
	program := needPeer(t, "radsecproxy", "radsecproxy")
	example := regexp.MustCompile("(?ms)^```\n(listenUDP .*?)^```$").FindStringSubmatch(read(t, "../../docs/radius.md"))
	if example == nil {
		t.Fatal("there is no example")
	}
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	for name, text := range map[string]string{"otpgate-ca.crt": string(cert), "proxy.crt": string(cert), "proxy.key": string(key)} {
		write(t, filepath.Join(dir, name), text)
	}
	// The machine of the test need not know the name that the example has.
	text := strings.Replace(strings.ReplaceAll(example[1], "/etc/radsecproxy", dir), "type tls\n", "type tls\n    host 127.0.0.1\n", 1)
	write(t, filepath.Join(dir, "radsecproxy.conf"), text)
	if out, err := exec.Command(program, "-p", "-c", filepath.Join(dir, "radsecproxy.conf")).CombinedOutput(); err != nil {
		t.Errorf("%v\n%s\n%s", err, out, text)
	}
}

// A filter that only the directory's code can judge is found by config check too,
// and by serve.
func TestConfigCheckMakesTheFactors(t *testing.T) {
	s := factorSite(t, strings.Replace(ldapSite, "(uid={user})", `"(uid={user}"`, 1))
	ldapFiles(t, s)
	for _, command := range [][]string{{"config", "check"}, {"serve"}} {
		out, err := s.otpgate(command...)
		if err == nil || !strings.Contains(out, "radius.first_factors, ad: ") || !strings.Contains(out, "(uid={user} is no filter") {
			t.Errorf("%q: %v\n%s", command, err, out)
		}
	}
}

// EAP as gateway.yaml has it, with a device that others wrote.
func TestEAPFromConfig(t *testing.T) {
	program := needPeer(t, "eapol_test", "eapoltest")
	s := factorSite(t, pinClients+"  eap: { cert_file: eap.crt, key_file: eap.key }\n")
	cert, key, err := selfSigned(time.Now())
	if err != nil {
		t.Fatal(err)
	}
	s.write(t, "eap.crt", string(cert))
	s.write(t, "eap.key", string(key))
	s.serve(t)
	token := employee(t, s.client(), "taro")
	s.setPIN(t, "taro@staff", goodPIN)
	log := func(method, password string) string { return eapolTest(t, s, program, method, password) }
	code := codeNow(token, 30, 0)
	if out := log(`eap=TTLS phase2="auth=PAP"`, "111222"+code); strings.HasSuffix(out, "SUCCESS\n") {
		t.Errorf("a wrong PIN by TTLS:\n%s", out)
	}
	if out := log(`eap=TTLS phase2="auth=PAP"`, goodPIN+code); !strings.HasSuffix(out, "SUCCESS\n") {
		t.Errorf("TTLS/PAP:\n%s\n%s", out, s.logged(t))
	}
	if out := log(`eap=PEAP phase2="auth=GTC"`, goodPIN+codeNow(token, 30, 1)); !strings.HasSuffix(out, "SUCCESS\n") {
		t.Errorf("PEAP/GTC:\n%s\n%s", out, s.logged(t))
	}
	if out := log("eap=GTC", goodPIN+code); strings.HasSuffix(out, "SUCCESS\n") {
		t.Errorf("GTC, which isn't offered:\n%s", out)
	}
}

// eapolTest logs taro in at the client for one field, and returns what eapol_test says.
func eapolTest(t *testing.T, s site, program, method, password string) string {
	t.Helper()
	conf := filepath.Join(s.dir, "eapol.conf")
	lines := []string{"network={", "key_mgmt=IEEE8021X", `identity="taro"`, `password="` + password + `"`, `ca_cert="` + filepath.Join(s.dir, "eap.crt") + `"`}
	lines = append(append(lines, strings.SplitN(method, " ", 2)...), "}", "")
	write(t, conf, strings.Join(lines, "\n"))
	host, port, _ := strings.Cut(s.radius, ":")
	out, _ := exec.Command(program, "-c", conf, "-a", host, "-p", port, "-A", "127.0.0.2", "-s", gearSecret, "-t", "5").CombinedOutput() // its exit code tells failures apart
	return string(out)
}
