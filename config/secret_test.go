package config_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"otpgate/config"
)

const twoClients = minimal + `radius:
  udp: [":1812"]
  clients:
    - {name: a, address: 10.0.0.1, secret_file: data/in/s, realm: staff}
    - {name: b, address: 10.0.0.2, secret_file: data/in/s, realm: staff}
`

func TestFirstStartMakesSecrets(t *testing.T) {
	write(t, map[string]string{"gateway.yaml": twoClients})
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := c.MakeSecrets(); err != nil {
		t.Fatal(err)
	}
	if left := c.SecretsToMake(); len(left) != 0 {
		t.Errorf("still to make: %q", left)
	}
	again, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	secret := string(again.Radius.Clients[0].Secret.Bytes())
	if !regexp.MustCompile(`^[A-Za-z0-9_-]{32}$`).MatchString(secret) {
		t.Errorf("the secret has %d characters, or odd ones", len(secret))
	}
	for _, client := range c.Radius.Clients {
		if string(client.Secret.Bytes()) != secret {
			t.Errorf("%s has another secret than the file", client.Name)
		}
	}
	info, err := os.Stat("data/in/s")
	if err != nil || info.Mode() != 0o600 {
		t.Errorf("the file is %v, %v; want mode 0600", info.Mode(), err)
	}
	if entries, _ := os.ReadDir("data/in"); len(entries) != 1 {
		t.Errorf("something was left beside the secret: %v", entries)
	}
}

func TestSecretIsNeverReplaced(t *testing.T) {
	write(t, map[string]string{"s": "what the VPN already knows"})
	if _, err := config.CreateSecret("s"); !errors.Is(err, fs.ErrExist) {
		t.Errorf("CreateSecret on an existing file: %v, want ErrExist", err)
	}
	if text, _ := os.ReadFile("s"); string(text) != "what the VPN already knows" {
		t.Errorf("the file was changed to %q", text)
	}
	if entries, _ := os.ReadDir("."); len(entries) != 1 {
		t.Errorf("something was left beside the secret: %v", entries)
	}
}

// Only what the first start makes may be missing.
func TestMissingSecretIsAFault(t *testing.T) {
	missing := "8:49: radius.clients[0].secret_file: %s can't be read: no such file or directory: " +
		"(umask 077; openssl rand -base64 24 > FILE) makes one"
	t.Run("once there is a database", func(t *testing.T) {
		write(t, map[string]string{"gateway.yaml": twoClients})
		if err := os.Mkdir("data", 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile("data/otpgate.db", nil, 0o600); err != nil {
			t.Fatal(err)
		}
		if got, want := faultsOf(t)[0], fmt.Sprintf(missing, "data/in/s"); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	})
	for _, file := range []string{"s", "data/../s", "database/s", "data.secret"} {
		t.Run("outside data_dir: "+file, func(t *testing.T) {
			write(t, map[string]string{"gateway.yaml": strings.ReplaceAll(twoClients, "data/in/s", file)})
			if got := faultsOf(t)[0]; !strings.HasPrefix(got, "8:49: ") || !strings.Contains(got, "no such file") {
				t.Errorf("got %s", got)
			}
		})
	}
}

func TestSecretThatOthersCanRead(t *testing.T) {
	write(t, map[string]string{"gateway.yaml": strings.ReplaceAll(twoClients, "data/in/s", "s"), "s": "0123456789abcdef"})
	if err := os.Chmod("s", 0o640); err != nil {
		t.Fatal(err)
	}
	want := []string{
		"8:49: radius.clients[0].secret_file: s can be read by others than its owner (mode 0640): chmod 600 s",
		"9:49: radius.clients[1].secret_file: s can be read by others than its owner (mode 0640): chmod 600 s",
	}
	if diff := cmp.Diff(want, faultsOf(t)); diff != "" {
		t.Error(diff)
	}
}

func TestMasterKeyThatOthersCanRead(t *testing.T) {
	write(t, map[string]string{"gateway.yaml": minimal + "master_key_file: key\n", "key": "k"})
	if _, err := config.Load("gateway.yaml"); err != nil {
		t.Errorf("mode 0600: %v", err)
	}
	if err := os.Chmod("key", 0o604); err != nil {
		t.Fatal(err)
	}
	want := []string{"5:18: master_key_file: key can be read by others than its owner (mode 0604): chmod 600 key"}
	if diff := cmp.Diff(want, faultsOf(t)); diff != "" {
		t.Error(diff)
	}
}

func TestSecretFromTheEnvironment(t *testing.T) {
	t.Setenv("VPN_SECRET", "from the environment")
	write(t, map[string]string{"gateway.yaml": strings.ReplaceAll(twoClients, "secret_file: data/in/s", "secret_env: VPN_SECRET")})
	c, err := config.Load("gateway.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if got := string(c.Radius.Clients[0].Secret.Bytes()); got != "from the environment" {
		t.Errorf("secret = %q", got)
	}
}

func TestSecretDoesNotPrintItself(t *testing.T) {
	const value = "correct horse battery"
	client := config.RadiusClient{Name: "vpn", Secret: config.NewSecret([]byte(value))}
	wrapped := struct{ private config.RadiusClient }{client}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d"} {
		fmt.Fprintf(&out, verb+verb+verb+verb+"\n", client.Secret, client, &client, wrapped)
	}
	out.WriteString(client.Secret.String())
	slog.New(slog.NewJSONHandler(&out, nil)).Info("client", "c", client, "s", client.Secret)
	slog.New(slog.NewTextHandler(&out, nil)).Info("client", "c", client, "s", client.Secret)
	if err := json.NewEncoder(&out).Encode(client); err != nil {
		t.Fatal(err)
	}
	for _, form := range []string{value, fmt.Sprintf("%x", value), fmt.Sprintf("%d", []byte(value)), strings.Trim(fmt.Sprintf("%#v", []byte(value)), "[]byte{}")} {
		if strings.Contains(out.String(), form) {
			t.Errorf("the secret was printed as %q", form)
		}
	}
	if !strings.Contains(out.String(), "[secret]") {
		t.Error("nothing was printed in its place")
	}
}
