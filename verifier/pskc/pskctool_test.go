package pskc_test

import (
	"encoding/base64"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"otpgate/verifier/otp"
	"otpgate/verifier/pskc"
)

// The OATH Toolkit, by others, finds these files valid and reads the same from
// them.
func TestPskctoolReads(t *testing.T) {
	tool := needTool(t, "pskctool", "pskctool")
	clock, event := plainToken("T1"), plainToken("T2")
	clock.suite = "<Suite>HMAC-SHA256</Suite>"
	event.algorithm = hotp
	event.response = `<ResponseFormat Encoding="DECIMAL" Length="8"/>`
	event.data = datum("Secret", base64.StdEncoding.EncodeToString([]byte(secret))) + datum("Counter", "42")
	path := filepath.Join(t.TempDir(), "batch.xml")
	file := document(clock, event)
	if err := os.WriteFile(path, []byte(file), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(tool, "--validate", path).CombinedOutput(); err != nil || !strings.Contains(string(out), "OK") {
		t.Fatalf("not valid: %v\n%s", err, out)
	}
	out, err := exec.Command(tool, "--info", "--strict", path).Output()
	if err != nil {
		t.Fatal(err)
	}
	keys, faults, end := read(strings.NewReader(file), pskc.Options{})
	if len(keys) != 2 {
		t.Fatal(faults, end)
	}
	for i, part := range strings.Split(string(out), "KeyPackage ")[1:] {
		k := keys[i]
		want := []string{
			"SerialNo: " + k.Serial, "Key Secret (base64): " + base64.StdEncoding.EncodeToString(k.Secret),
			fmt.Sprint("Response Format Length: ", k.Params.Digits),
		}
		if k.Params.Type == otp.HOTP {
			want = append(want, fmt.Sprint("Key Counter: ", k.First))
		} else {
			want = append(want, fmt.Sprint("Key TimeInterval: ", k.Params.Period), "Suite: HMAC-"+string(k.Params.Algorithm))
		}
		for _, line := range want {
			if !strings.Contains(part, line) {
				t.Errorf("%q isn't in\n%s", line, part)
			}
		}
	}
}

// A file that pskctool has written, signed: refused as it is, read once the
// signature is taken out, as the message says.
func TestPskctoolWrites(t *testing.T) {
	tool, openssl := needTool(t, "pskctool", "pskctool"), needTool(t, "openssl", "openssl")
	dir := t.TempDir()
	at := func(name string) string { return filepath.Join(dir, name) }
	if err := os.WriteFile(at("batch.xml"), []byte(document(plainToken("T1"), plainToken("T2"))), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=vendor",
		"-keyout", at("key.pem"), "-out", at("crt.pem")).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	signed, err := exec.Command(tool, "--sign", "--sign-key="+at("key.pem"), "--sign-crt="+at("crt.pem"), at("batch.xml")).Output()
	if err != nil {
		t.Fatal(err)
	}
	if _, _, end := read(strings.NewReader(string(signed)), pskc.Options{}); end == nil || !strings.Contains(end.Error(), "pskctool --verify") {
		t.Errorf("signed: %v", end)
	}
	bare := regexp.MustCompile(`(?s)<Signature.*</Signature>`).ReplaceAllString(string(signed), "")
	keys, faults, end := read(strings.NewReader(bare), pskc.Options{})
	if len(keys) != 2 || keys[1].Serial != "T2" || string(keys[1].Secret) != secret || keys[1].Params.Period != 60 {
		t.Errorf("%+v, %v, %v", keys, faults, end)
	}
}

// needTool skips the test where a program that others wrote is missing; in CI
// that is a failure.
func needTool(t *testing.T, program, debianPackage string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%s is missing; make test installs Debian's %s", program, debianPackage)
		}
		t.Skipf("%s is missing: apt-get install %s", program, debianPackage)
	}
	return path
}
