package main

import (
	"context"
	"encoding/base64"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"

	"otpgate/internal/admin"
	"otpgate/verifier"
)

func importKey(n int) []byte { return fmt.Appendf(nil, "key of token %08d", n) }

// csvFile is a token file of count tokens; the first has a user.
func csvFile(count int) string {
	var b strings.Builder
	b.WriteString("serial,secret_hex,type,digits,period,algorithm,user\n")
	for n := range count {
		user := ""
		if n == 0 {
			user = "first"
		}
		fmt.Fprintf(&b, "H%06d,%x,totp,6,30,SHA1,%s\n", n, importKey(n), user)
	}
	return b.String()
}

// A kill -9 at any moment of an import, or a stop, leaves all of its tokens or
// none, and none that can be used before the rest is there.
func TestCutOffWhileImporting(t *testing.T) {
	const tokens, cuts = 3000, 6
	file := csvFile(tokens)
	none, all := 0, 0
	for cut := range cuts {
		s := newSite(t, "", "")
		p := s.serve(t)
		ended := make(chan error, 1)
		go func() {
			in := admin.TokenImport{Format: admin.FormatCSV, File: "batch.csv", Realm: "staff"}
			ended <- s.client().ImportTokens(context.Background(), in, strings.NewReader(file), func(admin.ImportLine) error { return nil })
		}()
		time.Sleep(rand.N(time.Duration(cut+1) * 40 * time.Millisecond))
		if cut%2 == 0 {
			p.kill()
		} else if took, err := p.stop(); err != nil || took > 5*time.Second {
			t.Errorf("the stop took %v: %v", took, err)
		}
		<-ended
		s.serve(t)
		found := 0
		err := s.client().Tokens(t.Context(), verifier.TokenFilter{}, func(admin.Token) error { found++; return nil })
		if err != nil {
			t.Fatal(err)
		}
		_, noUser := s.client().Account(t.Context(), "staff", "first")
		switch {
		case found == 0 && noUser != nil:
			none++
		case found == tokens && noUser == nil:
			all++
		default:
			t.Errorf("%d of %d tokens are there; the user: %v", found, tokens, noUser)
		}
		batches := 0
		if err := s.client().Batches(t.Context(), func(admin.Batch) error { batches++; return nil }); err != nil || batches != found/tokens {
			t.Errorf("%d batches for %d tokens: %v", batches, found, err)
		}
	}
	t.Logf("%d cuts left nothing, %d everything", none, all)
}

// A hundred thousand tokens in one PSKC file: the gateway's memory stays flat,
// and log-ins go on.
func TestImportOfAHundredThousand(t *testing.T) {
	if testing.Short() {
		t.Skip("takes some ten seconds")
	}
	const tokens = 100_000
	s := newSite(t, "", "")
	p := s.serve(t)
	r, w := io.Pipe()
	go func() { w.CloseWithError(writePSKC(w, tokens)) }()

	before, most := anonymousMemory(t, p.cmd.Process.Pid), 0
	var last admin.ImportLine
	in := admin.TokenImport{Format: admin.FormatPSKC, File: "batch.xml", Realm: "staff"}
	err := s.client().ImportTokens(t.Context(), in, r, func(l admin.ImportLine) error {
		if last = l; l.Read%5000 == 0 && l.Landed%5000 == 0 {
			most = max(most, anonymousMemory(t, p.cmd.Process.Pid))
		}
		return nil
	})
	if err != nil || last.Problem != nil || last.Done == nil || last.Done.Tokens != tokens || last.Done.Batch == nil {
		t.Fatalf("%+v, %v", last, err)
	}
	// The serials that were seen, a slice of tokens, and what the collector lets
	// gather; the file alone has 60 MB.
	if grown := most - before; grown > 48<<20 {
		t.Errorf("the gateway grew by %d MiB", grown>>20)
	} else {
		t.Logf("the gateway grew by %d MiB", grown>>20)
	}
}

func writePSKC(w io.Writer, tokens int) error {
	_, err := io.WriteString(w, `<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc">`)
	for n := 0; n < tokens && err == nil; n++ {
		_, err = fmt.Fprintf(w, `<KeyPackage><DeviceInfo><Manufacturer>oath.XX</Manufacturer><SerialNo>H%06d</SerialNo></DeviceInfo>
<Key Id="H%06d" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:totp"><AlgorithmParameters><Suite>HMAC-SHA1</Suite>
<ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters><Data><Secret><PlainValue>%s</PlainValue></Secret>
<Time><PlainValue>0</PlainValue></Time><TimeInterval><PlainValue>30</PlainValue></TimeInterval></Data></Key></KeyPackage>
`, n, n, base64.StdEncoding.EncodeToString(importKey(n)))
	}
	if err == nil {
		_, err = io.WriteString(w, "</KeyContainer>")
	}
	return err
}

var rssAnon = regexp.MustCompile(`RssAnon:\s+(\d+) kB`)

// anonymousMemory is what a process holds that isn't a file's, in bytes.
func anonymousMemory(t *testing.T, pid int) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Skip(err) // no Linux
	}
	found := rssAnon.FindSubmatch(status)
	if found == nil {
		t.Skip("this kernel doesn't say it")
	}
	kib, err := strconv.Atoi(string(found[1]))
	if err != nil {
		t.Fatal(err)
	}
	return kib << 10
}
