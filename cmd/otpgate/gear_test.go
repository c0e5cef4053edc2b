package main

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// What the tests with real gear (gear_*_test.go) share: networks of their own, so
// that a VPN's servers and interfaces are seen by nobody else, and programs that
// end with their test.

// network is a network namespace of the test's own. It goes with its last
// program.
type network struct {
	t      *testing.T
	keeper *exec.Cmd
}

// newNetwork makes a network in which there is a loopback interface and nothing
// else. Where the kernel doesn't let us, the test is skipped.
func newNetwork(t *testing.T) network {
	t.Helper()
	needPeer(t, "nsenter", "util-linux")
	needPeer(t, "ip", "iproute2")
	keeper := exec.Command("cat") // ends with the pipe, and so with this process, whatever becomes of it
	if _, err := keeper.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	keeper.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	if err := keeper.Start(); err != nil {
		t.Skipf("no network namespace to be had: %v", err)
	}
	t.Cleanup(func() { _ = keeper.Process.Kill(); _ = keeper.Wait() })
	n := network{t, keeper}
	n.run("ip", "link", "set", "lo", "up")
	return n
}

// needTUN skips the test where the kernel has no TUN devices.
func (n network) needTUN() {
	n.t.Helper()
	if out, err := n.command("ip", "tuntap", "add", "mode", "tun", "name", "tried").CombinedOutput(); err != nil {
		n.t.Skipf("no TUN device to be had: %v: %s", err, out)
	}
	n.run("ip", "link", "delete", "tried")
}

// command is a program in the network.
func (n network) command(args ...string) *exec.Cmd {
	return exec.Command("nsenter", append([]string{fmt.Sprintf("--net=/proc/%d/ns/net", n.keeper.Process.Pid), "--"}, args...)...)
}

func (n network) run(args ...string) {
	n.t.Helper()
	if out, err := n.command(args...).CombinedOutput(); err != nil {
		n.t.Fatalf("%s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// wire joins two networks by a cable, with an address at each end.
func (n network) wire(address string, to network, toAddress string) {
	n.t.Helper()
	n.run("ip", "link", "add", "wire", "type", "veth", "peer", "name", "wire", "netns", fmt.Sprint(to.keeper.Process.Pid))
	for _, end := range []struct {
		network
		address string
	}{{n, address}, {to, toAddress}} {
		end.run("ip", "address", "add", end.address, "dev", "wire")
		end.run("ip", "link", "set", "wire", "up")
	}
}

// serve starts a site's gateway in the network.
func (n network) serve(s site) {
	n.t.Helper()
	p := s.begin(n.t, n.command(binary, "serve", "-c", s.config))
	until(n.t, "the gateway answers", func() bool {
		select {
		case err := <-p.done:
			p.done <- err
			n.t.Fatalf("the gateway ended: %v\n%s", err, s.logged(n.t))
		default:
		}
		_, err := s.client().RadiusClients(n.t.Context())
		return err == nil
	})
}

// until waits for what is true soon.
func until(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// daemon is a server or client that others wrote.
type daemon struct {
	cmd  *exec.Cmd
	out  *syncBuffer
	done chan error
}

// startDaemon runs cmd until the test is over, and shows what it said if that
// failed.
func startDaemon(t *testing.T, cmd *exec.Cmd) *daemon {
	t.Helper()
	d := &daemon{cmd: cmd, out: &syncBuffer{}, done: make(chan error, 1)}
	cmd.Stdout, cmd.Stderr = d.out, d.out
	cmd.WaitDelay = time.Second // a child of its own may hold its output open
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- cmd.Wait() }()
	t.Cleanup(func() {
		d.stop()
		if t.Failed() {
			t.Logf("%s:\n%s", strings.Join(cmd.Args, " "), d.out)
		}
	})
	return d
}

// stop lets the program tidy up, but not for long.
func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case err := <-d.done:
		d.done <- err
	case <-time.After(5 * time.Second):
		_ = d.cmd.Process.Kill()
		d.done <- <-d.done
	}
}

// says waits until the program has printed text.
func (d *daemon) says(t *testing.T, text string) {
	t.Helper()
	until(t, fmt.Sprintf("%s says %q", filepath.Base(d.cmd.Path), text), func() bool {
		return strings.Contains(d.out.String(), text)
	})
}

// edit changes the site's gateway.yaml.
func (s site) edit(t *testing.T, oldnew ...string) {
	t.Helper()
	text, err := os.ReadFile(s.config)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(oldnew); i += 2 {
		if bytes.Count(text, []byte(oldnew[i])) != 1 {
			t.Fatalf("gateway.yaml doesn't have %q once:\n%s", oldnew[i], text)
		}
		text = bytes.ReplaceAll(text, []byte(oldnew[i]), []byte(oldnew[i+1]))
	}
	if err := os.WriteFile(s.config, text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// vpnSecret is the secret of the client vpn, as the gateway's first start made it.
func (s site) vpnSecret(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(s.dir, "data", "vpn.secret"))
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(string(text))
}
