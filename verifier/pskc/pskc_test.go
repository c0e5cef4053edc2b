package pskc_test

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/verifier/otp"
	"otpgate/verifier/pskc"
)

// read collects everything that Read yields.
func read(r io.Reader, o pskc.Options) (keys []pskc.Key, faults []*pskc.KeyError, end error) {
	for k, err := range pskc.Read(r, o) {
		var fault *pskc.KeyError
		switch {
		case errors.As(err, &fault):
			faults = append(faults, fault)
		case err != nil:
			end = err
		default:
			keys = append(keys, k)
		}
	}
	return keys, faults, end
}

func figure(t testing.TB, n int) []byte {
	t.Helper()
	b, err := os.ReadFile(fmt.Sprintf("testdata/rfc6030-figure%d.xml", n))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

var figure6Key = []byte{0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12, 0x34, 0x56, 0x78, 0x90, 0x12}

// The figures of RFC 6030 itself.
func TestFigures(t *testing.T) {
	eight := otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 8}
	at := func(month time.Month, day int) time.Time { return time.Date(2006, month, day, 0, 0, 0, 0, time.UTC) }
	bulk := func(line int, serial, id string, from, to time.Time) pskc.Key {
		return pskc.Key{
			Line: line, Serial: serial, ID: id, Secret: []byte(secret), Params: eight, NotBefore: from, NotAfter: to, Manufacturer: "TokenVendorAcme",
		}
	}
	one := func(line int, manufacturer, id string) []pskc.Key {
		return []pskc.Key{{Line: line, Serial: "987654321", ID: id, Secret: []byte(secret), Params: eight, Manufacturer: manufacturer}}
	}
	for _, f := range []struct {
		figure  int
		options pskc.Options
		keys    []pskc.Key
		fault   string // of a key
		end     string // of the file
	}{
		{figure: 2, fault: "the file doesn't say how many digits"},
		{figure: 3, keys: one(6, "Manufacturer", "12345678")},
		{figure: 4, fault: "the file doesn't hold the secret"},
		{figure: 5, keys: one(6, "Manufacturer", "12345678")}, // its PIN is checked by the token
		{figure: 6, options: pskc.Options{Key: figure6Key}, keys: one(21, "Manufacturer", "12345678")},
		{figure: 6, end: "under a pre-shared key: name it with --key-file"},
		{figure: 6, options: pskc.Options{Key: make([]byte, 16)}, end: "the key doesn't fit: name the right --key-file"},
		{figure: 6, options: pskc.Options{Key: make([]byte, 32)}, end: "the key has 256 bits, the encryption takes 128"},
		{figure: 7, options: pskc.Options{Password: []byte("qwerty")}, keys: one(39, "TokenVendorAcme", "123456")},
		{figure: 7, options: pskc.Options{Password: []byte("qwertz")}, end: "the key doesn't fit: name the right --password-file"},
		{figure: 7, options: pskc.Options{Key: figure6Key}, end: "under a password: name it with --password-file"},
		{figure: 8, end: "encrypted for a certificate"},
		{figure: 9, keys: []pskc.Key{{
			Line: 8, Serial: "0755225266", ID: "123", Secret: []byte(secret), Manufacturer: "TokenVendorAcme",
			Params: otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6},
		}}, end: "the file is signed"},
		{figure: 10, keys: []pskc.Key{
			bulk(5, "654321", "1", at(5, 1), at(5, 31)), bulk(32, "123456", "2", at(5, 1), at(5, 31)),
			bulk(59, "9999999", "3", at(3, 1), at(3, 31)), bulk(86, "9999999", "4", at(4, 1), at(4, 30)),
		}},
	} {
		keys, faults, end := read(bytes.NewReader(figure(t, f.figure)), f.options)
		if diff := cmp.Diff(f.keys, keys); diff != "" {
			t.Errorf("figure %d: %s", f.figure, diff)
		}
		if f.fault != "" && (len(faults) != 1 || !strings.Contains(faults[0].Problem, f.fault)) || f.fault == "" && len(faults) > 0 {
			t.Errorf("figure %d: faults %v, want %q", f.figure, faults, f.fault)
		}
		if f.end == "" && end != nil || f.end != "" && (end == nil || !strings.Contains(end.Error(), f.end)) {
			t.Errorf("figure %d: %v, want %q", f.figure, end, f.end)
		}
	}
}

// A file that was cut off anywhere is never taken for a whole one.
func TestCutOff(t *testing.T) {
	whole := bytes.TrimSpace(figure(t, 6))
	for n := range whole {
		if _, _, end := read(bytes.NewReader(whole[:n]), pskc.Options{Key: figure6Key}); end == nil {
			t.Fatalf("cut off after %d of %d bytes, and nothing was noticed", n, len(whole))
		}
	}
}

// Whatever is changed in what is encrypted, no key comes out.
func TestTampering(t *testing.T) {
	whole := string(figure(t, 6))
	for _, encoded := range []string{
		"ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX", // the MAC key
		"AAECAwQFBgcICQoLDA0OD+cIHItlB3Wra1DUpxVvOx2lef1VmNPCMl8jwZqIUqGv", // the secret
		"Su+NvtQfmvfJzF6bmQiJqoLRExc=",                                     // the MAC
	} {
		value, err := base64.StdEncoding.DecodeString(encoded)
		if err != nil || !strings.Contains(whole, encoded) {
			t.Fatal(encoded, err)
		}
		for bit := range len(value) * 8 {
			changed := bytes.Clone(value)
			changed[bit/8] ^= 1 << (bit % 8)
			file := strings.Replace(whole, encoded, base64.StdEncoding.EncodeToString(changed), 1)
			if keys, faults, end := read(strings.NewReader(file), pskc.Options{Key: figure6Key}); len(keys) > 0 || len(faults) == 0 && end == nil {
				t.Fatalf("bit %d of %s was changed: %v", bit, encoded, keys)
			}
		}
	}
}

func TestEncryption(t *testing.T) {
	long := []byte("0123456789abcdef0123456789abcdef")
	for _, mac := range []string{"hmac-sha1", "hmac-sha224", "hmac-sha256", "hmac-sha384", "hmac-sha512"} {
		for _, bits := range []int{128, 192, 256} {
			for _, algorithm := range []string{
				fmt.Sprintf("http://www.w3.org/2001/04/xmlenc#aes%d-cbc", bits),
				fmt.Sprintf("http://www.w3.org/2001/04/xmlenc#kw-aes%d", bits),
				fmt.Sprintf("http://www.w3.org/2009/xmlenc11#kw-aes-%d-pad", bits),
			} {
				s := newSealer(long[:bits/8], algorithm, mac)
				p := plainToken("T1")
				p.data = s.datum("Secret", long) + datum("TimeInterval", "60")
				keys, faults, end := read(strings.NewReader(document(preShared, s.method(), p)), pskc.Options{Key: s.key})
				if len(keys) != 1 || !bytes.Equal(keys[0].Secret, long) {
					t.Errorf("%s, %s: %v, %v, %v", algorithm, mac, keys, faults, end)
				}
				changed := s
				changed.macKey = make([]byte, 24)
				p.data = changed.datum("Secret", long) + datum("TimeInterval", "60")
				keys, faults, _ = read(strings.NewReader(document(preShared, s.method(), p)), pskc.Options{Key: s.key})
				if len(keys) != 0 || len(faults) != 1 || !strings.Contains(faults[0].Problem, "its MAC is wrong") {
					t.Errorf("%s, %s, MAC of another key: %v, %v", algorithm, mac, keys, faults)
				}
			}
		}
	}
}

// Every datum may be encrypted, a number as digits or as two's complement.
func TestEncryptedNumbers(t *testing.T) {
	s := newSealer(figure6Key, "http://www.w3.org/2001/04/xmlenc#aes128-cbc", "hmac-sha1")
	clock, event := plainToken("T1"), plainToken("T2")
	clock.data = s.datum("Secret", []byte(secret)) + s.datum("Time", []byte("7")) +
		s.datum("TimeInterval", []byte{0, 0, 0, 30}) + s.datum("TimeDrift", []byte{0xff, 0xff, 0xff, 0xfe})
	event.algorithm = hotp
	event.data = s.datum("Secret", []byte(secret)) + s.datum("Counter", []byte{0, 0, 0, 0, 0, 0, 1, 0})
	keys, faults, end := read(strings.NewReader(document(preShared, s.method(), clock, event)), pskc.Options{Key: figure6Key})
	if len(keys) != 2 {
		t.Fatal(faults, end)
	}
	if k := keys[0]; k.First != 7 || k.Params.Period != 30 || k.Drift != -time.Minute {
		t.Errorf("%+v", k)
	}
	if k := keys[1]; k.First != 256 {
		t.Errorf("%+v", k)
	}
}

func TestDerivedKey(t *testing.T) {
	const method = "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#pbkdf2"
	// PBKDF2 of "password", salt "salt", two iterations: RFC 6070's second
	// vector, and its like for SHA-256, cut to 16 octets.
	keys := map[string]string{
		`<PRF/>`: "ea6c014dc72d6f8ccd1ed92ace1d41f0",
		`<PRF Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-sha256"/>`: "ae4d0c95af6b46d32d0adff928f06dd0",
	}
	const good = `<Salt><Specified>c2FsdA==</Specified></Salt><IterationCount>2</IterationCount><KeyLength>16</KeyLength>`
	for prf, key := range keys {
		raw, err := hex.DecodeString(key)
		if err != nil {
			t.Fatal(err)
		}
		s := newSealer(raw, "http://www.w3.org/2001/04/xmlenc#aes128-cbc", "hmac-sha1")
		p := plainToken("T1")
		p.data = s.datum("Secret", []byte(secret)) + datum("TimeInterval", "60")
		got, faults, end := read(strings.NewReader(document(derived(method, good+prf), s.method(), p)), pskc.Options{Password: []byte("password")})
		if len(got) != 1 {
			t.Errorf("%s: %v, %v", prf, faults, end)
		}
	}
	for _, bad := range []struct{ method, params, want string }{
		{"http://example.com/scrypt", good, "is not known; PBKDF2 is"},
		{method, good + `<PRF Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-md5"/>`, "pseudo-random function"},
		{method, good + `<PRF OID="1.2.840.113549.2.9"/>`, "names its algorithm in an unknown way"},
		{method, strings.Replace(good, ">2<", ">99999999<", 1), "99999999 iterations"},
		{method, strings.Replace(good, ">2<", ">99999999999<", 1), "is no number"},
		{method, strings.Replace(good, ">16<", ">17<", 1), "makes 17 octets"},
		{method, strings.Replace(good, "c2FsdA==", "", 1), "salt has 0 octets"},
		{method, good + good, "stands twice"},
	} {
		s := newSealer(figure6Key, "http://www.w3.org/2001/04/xmlenc#aes128-cbc", "hmac-sha1")
		file := document(derived(bad.method, bad.params), s.method(), plainToken("T1"))
		if _, _, end := read(strings.NewReader(file), pskc.Options{Password: []byte("password")}); end == nil || !strings.Contains(end.Error(), bad.want) {
			t.Errorf("%s: %v, want %q", bad.params, end, bad.want)
		}
	}
}

// A key that can't be used is named with its reason, and the next one is read.
func TestKeyFaults(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*token)
		want   string
	}{
		"OCRA":              {func(p *token) { p.algorithm += ":x" }, "is not supported; HOTP and TOTP are"},
		"no algorithm":      {func(p *token) { p.algorithm = "" }, "is not supported; HOTP and TOTP are"},
		"old form":          {func(p *token) { p.algorithm = "urn:ietf:params:xml:ns:keyprov:pskc#hotp" }, "is not supported; HOTP and TOTP are"},
		"unknown suite":     {func(p *token) { p.suite = "<Suite>HMAC-MD5</Suite>" }, `suite "HMAC-MD5" is not supported`},
		"unknown attribute": {func(p *token) { p.suite = `<Suite HashAlgo="sha3"/>` }, `suite "sha3" is not supported`},
		"two suites":        {func(p *token) { p.suite = `<Suite HashAlgo="sha256">HMAC-SHA1</Suite>` }, "given twice"},
		"hexadecimal":       {func(p *token) { p.response = `<ResponseFormat Length="6" Encoding="HEXADECIMAL"/>` }, "only DECIMAL"},
		"check digits":      {func(p *token) { p.response = `<ResponseFormat Length="6" Encoding="DECIMAL" CheckDigits="true"/>` }, "check digit"},
		"nine digits":       {func(p *token) { p.response = `<ResponseFormat Length="9" Encoding="DECIMAL"/>` }, "digits 9"},
		"challenge":         {func(p *token) { p.response = `<ChallengeFormat Encoding="DECIMAL" Min="6" Max="8"/>` + p.response }, "challenges"},
		"no period":         {func(p *token) { p.data = strings.Replace(p.data, datum("TimeInterval", "60"), "", 1) }, "TimeInterval"},
		"period":            {func(p *token) { p.data = strings.Replace(p.data, ">60<", ">600<", 1) }, "period 600"},
		"drift":             {func(p *token) { p.data += datum("TimeDrift", "-1441") }, "off by -1441 intervals"},
		"drift of libpskc":  {func(p *token) { p.data += datum("TimeDrift", "4294967292") }, "TimeDrift is no number"},
		"negative counter":  {func(p *token) { p.algorithm = hotp; p.data += datum("Counter", "-1") }, "negative"},
		"secret":            {func(p *token) { p.data = datum("Secret", "!") + datum("TimeInterval", "60") }, "no base64"},
		"unknown policy":    {func(p *token) { p.policy = "<KeyUsage>OTP</KeyUsage><OnlyOnFridays/>" }, `"OnlyOnFridays", which is not understood`},
		"PIN attribute":     {func(p *token) { p.policy = `<PINPolicy PINUsageMode="Local" OnWeekDaysOnly="TRUE"/>` }, "OnWeekDaysOnly"},
		"PIN child":         {func(p *token) { p.policy = `<PINPolicy PINUsageMode="Local"><Foo/></PINPolicy>` }, "Foo"},
		"PIN at the server": {func(p *token) { p.policy = `<PINPolicy PINUsageMode="Append"/>` }, "wants a PIN checked by the server"},
		"PIN mode":          {func(p *token) { p.policy = `<PINPolicy/>` }, "wants a PIN checked by the server"},
		"usage":             {func(p *token) { p.policy = "<KeyUsage>Encrypt</KeyUsage>" }, "doesn't allow one-time passwords"},
		"uses":              {func(p *token) { p.policy = "<NumberOfTransactions>5</NumberOfTransactions>" }, "bounds the number of uses"},
		"date":              {func(p *token) { p.policy = "<ExpiryDate>2030-01-01</ExpiryDate>" }, "no date and time"},
	} {
		p := plainToken("BAD")
		c.change(&p)
		keys, faults, end := read(strings.NewReader(document(p, plainToken("GOOD"))), pskc.Options{})
		if len(faults) != 1 || faults[0].Serial != "BAD" || !strings.Contains(faults[0].Problem, c.want) {
			t.Errorf("%s: %v, want %q", name, faults, c.want)
		}
		if len(keys) != 1 || keys[0].Serial != "GOOD" || end != nil {
			t.Errorf("%s: the next key: %v, %v", name, keys, end)
		}
	}
}

// An encrypted value without a MAC bars its key, and the next one is read.
func TestNoMAC(t *testing.T) {
	s := newSealer(figure6Key, "http://www.w3.org/2001/04/xmlenc#aes128-cbc", "hmac-sha1")
	good, bad := plainToken("GOOD"), plainToken("BAD")
	good.data = s.datum("Secret", []byte(secret)) + datum("TimeInterval", "60")
	bad.data = good.data[:strings.Index(good.data, "<ValueMAC>")] + "</Secret>" + datum("TimeInterval", "60")
	keys, faults, end := read(strings.NewReader(document(preShared, s.method(), bad, good)), pskc.Options{Key: figure6Key})
	if len(faults) != 1 || faults[0].Serial != "BAD" || !strings.Contains(faults[0].Problem, "encrypted, but has no MAC") {
		t.Errorf("%v", faults)
	}
	if len(keys) != 1 || keys[0].Serial != "GOOD" || end != nil {
		t.Errorf("the next key: %v, %v", keys, end)
	}
}

// A secret in clear ends the reading of a file that says it is encrypted, or that
// somebody holds a key for: whoever could write to it could have put it in.
func TestSecretInClear(t *testing.T) {
	s := newSealer(figure6Key, "http://www.w3.org/2001/04/xmlenc#aes128-cbc", "hmac-sha1")
	sealed := plainToken("T1")
	sealed.data = s.datum("Secret", []byte(secret)) + datum("TimeInterval", "60")
	key := pskc.Options{Key: figure6Key}
	const declared, given = "though the file says that its secrets are encrypted", "though a key or password was given"
	for name, c := range map[string]struct {
		file    string
		options pskc.Options
		want    string
		keys    int
	}{
		"among encrypted ones":        {document(preShared, s.method(), sealed, plainToken("T2"), sealed), key, declared, 1},
		"alone":                       {document(preShared, s.method(), plainToken("T2")), key, declared, 0},
		"without a key":               {document(preShared, s.method(), plainToken("T2")), pskc.Options{}, declared, 0},
		"no encryption, but MACs":     {document(s.method(), plainToken("T2")), pskc.Options{}, declared, 0},
		"no MACs":                     {document(preShared, plainToken("T2")), pskc.Options{}, declared, 0},
		"a plain file and a key":      {document(plainToken("T2")), key, given, 0},
		"a plain file and a password": {document(plainToken("T2")), pskc.Options{Password: []byte("qwerty")}, given, 0},
	} {
		keys, faults, end := read(strings.NewReader(c.file), c.options)
		var refused *pskc.FileError
		if !errors.As(end, &refused) || !strings.Contains(refused.Problem, c.want) || refused.Line == 0 || refused.Hint == "" {
			t.Errorf("%s: %v, want %q", name, end, c.want)
		}
		if len(keys) != c.keys || len(faults) > 0 {
			t.Errorf("%s: %v, %v", name, keys, faults)
		}
	}
}

// What is not a fault.
func TestAccepted(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*token)
		want   func(pskc.Key) bool
	}{
		"suite":     {func(p *token) { p.suite = "<Suite>HMAC-SHA256</Suite>" }, func(k pskc.Key) bool { return k.Params.Algorithm == otp.SHA256 }},
		"attribute": {func(p *token) { p.suite = `<Suite hashalgo="sha512"/>` }, func(k pskc.Key) bool { return k.Params.Algorithm == otp.SHA512 }},
		"no suite":  {func(*token) {}, func(k pskc.Key) bool { return k.Params.Algorithm == otp.SHA1 }},
		"drift":     {func(p *token) { p.data += datum("TimeDrift", "-1") }, func(k pskc.Key) bool { return k.Drift == -time.Minute }},
		"extension": {func(p *token) { p.data += `<x:Seal xmlns:x="urn:x"><x:y>z</x:y></x:Seal>` }, func(pskc.Key) bool { return true }},
		"CDATA":     {func(p *token) { p.serial = "<![CDATA[T1]]>" }, func(k pskc.Key) bool { return k.Serial == "T1" }},
		"dates": {func(p *token) {
			p.info = "<ExpiryDate>2031-01-01T00:00:00Z</ExpiryDate>"
			p.policy = "<StartDate>2026-01-01T09:00:00+09:00</StartDate><ExpiryDate>2030-01-01T00:00:00Z</ExpiryDate><KeyUsage>CR</KeyUsage><KeyUsage>OTP</KeyUsage>"
		}, func(k pskc.Key) bool {
			return k.NotAfter.Year() == 2030 && k.NotBefore.Equal(time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC))
		}},
	} {
		p := plainToken("T1")
		c.change(&p)
		file := document(p)
		if name == "CDATA" {
			file = strings.Replace(file, `Id="<![CDATA[T1]]>"`, `Id="T1"`, 1)
		}
		keys, faults, end := read(strings.NewReader(file), pskc.Options{})
		if len(keys) != 1 || !c.want(keys[0]) {
			t.Errorf("%s: %+v, %v, %v", name, keys, faults, end)
		}
	}
}

// What a hostile or broken file is refused for. Nothing of it is yielded behind
// the fault.
func TestFileFaults(t *testing.T) {
	good := document(plainToken("T1"))
	swap := func(from, to string) string {
		if !strings.Contains(good, from) {
			t.Fatalf("no %q", from)
		}
		return strings.Replace(good, from, to, 1)
	}
	deep := strings.Repeat("<a>", 30) + strings.Repeat("</a>", 30)
	for name, c := range map[string]struct{ file, want string }{
		"empty":               {"", "empty"},
		"no XML":              {"serial,secret\n", "this is no XML file"},
		"DTD":                 {`<!DOCTYPE KeyContainer>` + good, "document type definition"},
		"entity bomb":         {`<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>` + swap("T1", "&b;"), "document type definition"},
		"external entity":     {`<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/passwd">]>` + swap("T1", "&a;"), "document type definition"},
		"undefined entity":    {swap(">T1", ">&a;"), "no well-formed XML"},
		"DTD within":          {swap("<KeyPackage>", "<!DOCTYPE a><KeyPackage>"), "document type definition"},
		"processing":          {swap("<KeyPackage>", `<?php x?><KeyPackage>`), "processing instruction"},
		"no namespace":        {swap(` xmlns="urn:ietf:params:xml:ns:keyprov:pskc"`, ""), "this is no PSKC file"},
		"prefix undeclared":   {"<pskc:KeyContainer Version='1.0'/>", "this is no PSKC file"},
		"draft's namespace":   {swap("keyprov:pskc\"", "keyprov:pskc:1.0\""), "this is no PSKC file"},
		"namespace within":    {swap("<Secret>", `<Secret xmlns="urn:other">`), "the file doesn't hold the secret"},
		"namespace of a part": {swap("<SerialNo>T1</SerialNo>", `<SerialNo xmlns="urn:other">T2</SerialNo>`), "not expected here"},
		"two serials":         {swap("<SerialNo>T1</SerialNo>", `<SerialNo>T1</SerialNo><SerialNo>T2</SerialNo>`), "stands twice"},
		"two secrets":         {swap("<TimeInterval>", datum("Secret", "AAAA")+"<TimeInterval>"), "stands twice"},
		"two values":          {swap("</PlainValue>", "</PlainValue><PlainValue>AAAA</PlainValue>"), "stands twice"},
		"attribute twice":     {swap(`Id="T1"`, `Id="T1" Id="T2"`), "twice"},
		"comment in a value":  {swap(">T1<", ">T1<!-- x -->2<"), "a comment stands within a value"},
		"element in a value":  {swap(">T1<", "><b>T1</b><"), "stands where a value must"},
		"text between":        {swap("<KeyPackage>", "x<KeyPackage>"), "text stands between"},
		"version":             {swap(`Version="1.0"`, `Version="2.0"`), `version is "2.0"`},
		"version 01":          {swap(`Version="1.0"`, `Version="01.0"`), `version is "01.0"`},
		"no version":          {swap(` Version="1.0"`, ``), `version is ""`},
		"late encryption":     {swap("</KeyContainer>", preShared+"</KeyContainer>"), "behind the first KeyPackage"},
		"no package":          {document(), "no KeyPackage"},
		"unknown element":     {swap("<KeyPackage>", "<Device/><KeyPackage>"), "not expected here"},
		"deep":                {swap("<KeyPackage>", "<Extensions>"+deep+"</Extensions><KeyPackage>"), "deeper than"},
		"long text":           {swap(">T1<", ">"+strings.Repeat("1", 1<<20)+"<"), "longer than"},
		"long text in pieces": {swap(">T1<", ">"+strings.Repeat("<![CDATA[1111111111111111]]>", 1<<12)+"<"), "longer than"},
		"long name":           {swap("<KeyPackage>", "<"+strings.Repeat("a", 1<<20)+"/>"), "longer than"},
		"long comment":        {swap("<KeyPackage>", "<!--"+strings.Repeat("a", 1<<20)+"-->"), "longer than"},
		"attributes":          {swap("<KeyPackage>", "<KeyPackage "+manyAttributes(100)+">"), "more than 32 attributes"},
		"children":            {swap("<Data>", "<Data>"+manyChildren(100)), "more than 64 others in it"},
		"usages":              {swap("</Data>", "</Data><Policy>"+strings.Repeat("<KeyUsage>OTP</KeyUsage>", 100)+"</Policy>"), "more than 64 others in it"},
		"extensions":          {swap("<KeyPackage>", strings.Repeat("<Extensions/>", 100)+"<KeyPackage>"), "more than 64 others in it"},
		"second document":     {good + good, "follows the end"},
		"text behind":         {good + "x", "text stands between"},
		"Latin-1":             {`<?xml version="1.0" encoding="ISO-8859-1"?>` + good, "can't be read"},
		"UTF-16":              {"\xfe\xff\x00<\x00K", "no well-formed XML"},
		"no UTF-8":            {swap(">T1<", ">\xff<"), "no well-formed XML"},
		"unknown MAC":         {swap("<KeyPackage>", `<MACMethod Algorithm="http://www.w3.org/2001/04/xmldsig-more#hmac-md5"/><KeyPackage>`), "is not known"},
		"MAC by reference":    {swap("<KeyPackage>", `<MACMethod Algorithm="http://www.w3.org/2000/09/xmldsig#hmac-sha1"><MACKeyReference>x</MACKeyReference></MACMethod><KeyPackage>`), "isn't in it"},
	} {
		_, faults, end := read(strings.NewReader(c.file), pskc.Options{})
		got := fmt.Sprint(faults, end)
		if !strings.Contains(got, c.want) {
			t.Errorf("%s: %.300s, want %q", name, got, c.want)
		}
	}
}

// manyChildren are of an extension.
func manyChildren(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `<x:a%d xmlns:x="urn:x"/>`, i)
	}
	return b.String()
}

func manyAttributes(n int) string {
	var b strings.Builder
	for i := range n {
		fmt.Fprintf(&b, `a%d="" `, i)
	}
	return b.String()
}

// No error repeats a secret or a password.
func TestErrorsHoldNoSecret(t *testing.T) {
	const leaked = "c2VjcmV0c2VjcmV0c2VjcmV0" // "secretsecretsecret"
	both := pskc.Options{Key: figure6Key, Password: []byte(leaked)}
	inClear := document(token{serial: "T1", algorithm: hotp, data: datum("Secret", leaked)})
	for _, c := range []struct {
		file    string
		options pskc.Options
	}{
		{inClear, pskc.Options{}},
		{inClear, both},
		{strings.Replace(document(plainToken("T1")), "<TimeInterval>", datum("Secret", leaked)+"<TimeInterval>", 1), pskc.Options{}},
		{strings.Replace(string(figure(t, 6)), "ESIzRFVmd4iZABEiM0RVZgKn6WjLaTC1sbeBMSvIhRejN9vJa2BOlSaMrR7I5wSX", leaked, 1), both},
	} {
		keys, faults, end := read(strings.NewReader(c.file), c.options)
		if text := fmt.Sprint(faults, end); len(keys) > 0 || strings.Contains(text, "secret"+"secret") || strings.Contains(text, leaked) {
			t.Errorf("%v, %s", keys, text)
		}
	}
}

// A hundred thousand tokens take the memory of one.
func TestFlatMemory(t *testing.T) {
	const count = 100_000
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, container)
		for i := 0; i < count && err == nil; i++ {
			_, err = io.WriteString(w, plainToken(fmt.Sprint("T", i)).String())
		}
		if err == nil {
			_, err = io.WriteString(w, "</KeyContainer>")
		}
		w.CloseWithError(err)
	}()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, peak, n := m.HeapAlloc, uint64(0), 0
	for _, err := range pskc.Read(r, pskc.Options{}) {
		if err != nil {
			t.Fatal(err)
		}
		if n++; n%1000 == 0 {
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	if n != count {
		t.Errorf("%d keys", n)
	}
	if grown := int64(peak) - int64(before); grown > 16<<20 { // the collector lets 4 MiB of garbage gather
		t.Errorf("the heap grew by %d bytes", grown)
	}
}

// Who stops reading gets nothing more.
func TestStop(t *testing.T) {
	n := 0
	for range pskc.Read(strings.NewReader(document(plainToken("T1"), plainToken("T2"))), pskc.Options{}) {
		n++
		break
	}
	if n != 1 {
		t.Error(n)
	}
}

func FuzzRead(f *testing.F) {
	for n := 2; n <= 10; n++ {
		f.Add(figure(f, n))
	}
	f.Add([]byte(document(plainToken("T1"))))
	f.Fuzz(func(t *testing.T, file []byte) {
		keys, _, _ := read(bytes.NewReader(file), pskc.Options{Key: figure6Key, Password: []byte("qwerty")})
		for _, k := range keys {
			if k.Serial == "" || k.Params.Check() != nil || k.First < 0 {
				t.Errorf("%+v", k)
			}
		}
	})
}
