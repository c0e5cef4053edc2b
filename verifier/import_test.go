package verifier_test

import (
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"otpgate/internal/audit"
	"otpgate/internal/store"
	"otpgate/internal/store/seal"
	"otpgate/verifier"
	"otpgate/verifier/otp"
)

// fileKey is the key of the nth token of a file.
func fileKey(n int) []byte { return fmt.Appendf(nil, "key of token %08d", n) }

func fileSerial(n int) string { return fmt.Sprintf("H%06d", n) }

const fileHeader = "serial,secret_hex,type,digits,period,algorithm,user\n"

func fileLine(n int, user string) string {
	return fmt.Sprintf("%s,%x,totp,6,60,SHA1,%s\n", fileSerial(n), fileKey(n), user)
}

// tokenFile is a CSV of count tokens; every userEvery-th has a user.
func tokenFile(count, userEvery int) string {
	var b strings.Builder
	b.WriteString(fileHeader)
	for n := range count {
		user := ""
		if userEvery > 0 && n%userEvery == 0 {
			user = fmt.Sprintf("user%d", n)
		}
		b.WriteString(fileLine(n, user))
	}
	return b.String()
}

// verdicts imports source and returns what was said of each token that is not
// taken, by line, too.
func (g *gate) verdicts(source iter.Seq2[verifier.Imported, error], o verifier.ImportOptions) (verifier.ImportReport, map[int]string, error) {
	said := map[int]string{}
	o.Each = func(t verifier.Imported, problem string) error {
		if t.Key != nil {
			g.t.Errorf("line %d: the key is handed on", t.Line)
		}
		if problem != "" {
			said[t.Line] = problem
		}
		return nil
	}
	if o.Progress == nil {
		o.Progress = func(int, int) {}
	}
	if o.File == "" {
		o.File = "batch.csv"
	}
	r, err := g.Import(g.t.Context(), because(""), source, o)
	return r, said, err
}

func (g *gate) importCSV(file string) (verifier.ImportReport, map[int]string, error) {
	return g.verdicts(verifier.ReadCSV(strings.NewReader(file)), verifier.ImportOptions{Realm: "retail"})
}

// dump is every record.
func (g *gate) dump() map[string]string {
	g.t.Helper()
	all := map[string]string{}
	g.must(g.Records.View(g.t.Context(), func(r store.Reader) error {
		return r.Scan("", func(key string, value []byte) error {
			all[key] = string(value)
			return nil
		})
	}))
	return all
}

func (g *gate) turnedDown(err error, want string) {
	g.t.Helper()
	var refusal *verifier.Refusal
	if !errors.As(err, &refusal) || !strings.Contains(err.Error(), want) {
		g.t.Errorf("%v, want a refusal: %s", err, want)
	}
}

func TestImport(t *testing.T) {
	g := newGate(t)
	g.addUser("user0")
	r, said, err := g.importCSV(tokenFile(300, 100))
	g.must(err)
	if len(said) > 0 || r.Tokens != 300 || r.Users != 3 || r.Batch.Stock != 297 || r.Batch.State != verifier.BatchChecking {
		t.Errorf("%+v, %v", r, said)
	}
	for n := range 300 {
		g.keys[fileSerial(n)] = fileKey(n)
	}
	// Who is named in the file can log in; the others' tokens are nobody's.
	for _, n := range []int{0, 100, 200} {
		g.expect(fmt.Sprintf("user%d", n), g.code(fileSerial(n), 0), verifier.Accepted)
	}
	info, err := g.Token(t.Context(), fileSerial(1))
	if err != nil || info.State != verifier.InStock || info.Carrier != verifier.Hardware || info.Batch != r.Batch.ID || info.User != "" {
		t.Errorf("%+v, %v", info.Token, err)
	}
	want := fmt.Sprintf("300 tokens from batch.csv as batch %s, 3 of them for users", r.Batch.ID)
	if !slices.ContainsFunc(g.log.entries, func(e audit.Entry) bool {
		return e.Event == "token.import" && e.Receipt == r.Receipt.Number && e.Receipt != "" && e.Detail == want
	}) {
		t.Errorf("not in the audit log: %+v", g.log.entries)
	}
}

// What can't be taken, with its reason, by line. Nothing of the file is.
func TestImportFaults(t *testing.T) {
	g := newGate(t)
	retail := g.Realms["retail"]
	retail.TokensPerUser = 2
	g.Realms["retail"] = retail
	g.newToken("hanako", "H000001")
	g.create(verifier.NewToken{Realm: "retail", User: "hanako", Serial: "OTHER", InService: true, Key: fileKey(3)})
	before := g.dump()

	key := hex.EncodeToString(fileKey(9))
	file := "serial,secret_hex,type,digits,period,algorithm,user,counter,made\n" +
		"H000001," + hex.EncodeToString(fileKey(1)) + ",totp,6,60,SHA1,,,\n" +
		"H000002," + hex.EncodeToString(fileKey(2)) + ",totp,6,60,SHA1,,,\n" +
		"H000003," + hex.EncodeToString(fileKey(3)) + ",totp,6,60,SHA1,,,\n" +
		"H000002," + hex.EncodeToString(fileKey(4)) + ",totp,6,60,SHA1,,,\n" +
		"H000005," + hex.EncodeToString(fileKey(2)) + ",totp,6,60,SHA1,,,\n" +
		"H000006,00112233,totp,6,60,SHA1,,,\n" +
		"H000007," + key + ",totp,8,60,SHA1,,,\n" +
		"H000008," + key + ",motp,6,60,SHA1,,,\n" +
		"H000009," + key + ",totp,6,60,MD5,,,\n" +
		"H000010," + key + ",totp,6,600,SHA1,,,\n" +
		"H 11," + key + ",totp,6,60,SHA1,,,\n" +
		"H000012,xyz,totp,6,60,SHA1,,,\n" +
		"H000013," + key + ",totp,6,60,SHA1\n" +
		"H000014," + key + ",hotp,6,,SHA1,,-1,\n" +
		"H000015," + key + ",hotp,6,30,SHA1,,,\n" +
		"H000016," + key + ",totp,6,60,SHA1,,7,\n" +
		"H000017," + key + ",totp,6,60,SHA1,,,22.11.2026\n" +
		"H000018," + key + ",totp,6,60,SHA1,,,2030-01-01\n" +
		"H000019," + key + ",hotp,6,,SHA1,,99999999999,\n" +
		"H000020," + hex.EncodeToString(fileKey(20)) + ",totp,6,60,SHA1,hanako,,\n" +
		"H000021," + hex.EncodeToString(fileKey(21)) + ",totp,6,60,SHA1,taro,,\n" +
		"H000022," + hex.EncodeToString(fileKey(22)) + ",totp,6,60,SHA1,taro,,\n" +
		"H000023," + hex.EncodeToString(fileKey(23)) + ",totp,6,60,SHA1,taro,,\n" +
		"H000024," + hex.EncodeToString(fileKey(24)) + ",totp,6,60,SHA1,\x1b[2J,,\n"
	want := map[int]string{
		2: "there is a token H000001 already", 4: "its secret is, or was, that of token OTHER", 5: "its serial is in the file already",
		6: "its secret is in the file already", 7: "its secret has 4 octets", 8: "its codes have 8 digits, and those in realm retail have 6",
		9: `type "motp"`, 10: `algorithm "MD5"`, 11: "period 600", 12: `"H 11" is no serial number`, 13: "what the column secret_hex must hold",
		14: "it has 6 fields, and the first line 9", 15: `counter is "-1"`, 16: "a hotp token hasn't", 17: "a totp token hasn't",
		18: "must be a day like 2026-11-24", 19: "made in the future", 20: "its counter stands at 99999999999",
		21: "hanako@retail has 2 with those of the file", 24: "taro@retail has 2 with those of the file", 25: "can't be printed",
	}
	for _, dry := range []bool{true, false} {
		r, said, err := g.verdicts(verifier.ReadCSV(strings.NewReader(file)), verifier.ImportOptions{Realm: "retail", DryRun: dry})
		g.turnedDown(err, fmt.Sprintf("%d of 24 tokens can't be taken, so none was", len(want)))
		for line := 2; line <= 25; line++ {
			if !strings.Contains(said[line], want[line]) || want[line] == "" && said[line] != "" {
				t.Errorf("dry run %v, line %d: %q, want %q", dry, line, said[line], want[line])
			}
		}
		if r.Receipt.Number != "" || r.Batch.State == verifier.BatchChecking {
			t.Errorf("%+v", r)
		}
		if diff := cmp.Diff(before, g.dump()); diff != "" {
			t.Errorf("dry run %v left something behind: %s", dry, diff)
		}
	}
}

func TestDryRunChangesNothing(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	before := g.dump()
	r, said, err := g.verdicts(verifier.ReadCSV(strings.NewReader(tokenFile(300, 2))), verifier.ImportOptions{Realm: "retail", DryRun: true})
	if err != nil || r.Tokens != 300 || r.Users != 150 || len(said) > 0 {
		t.Errorf("%+v, %v, %v", r, said, err)
	}
	if diff := cmp.Diff(before, g.dump()); diff != "" {
		t.Error(diff)
	}
}

// What ends a file early leaves nothing behind, however much was read.
func TestImportEndsEarly(t *testing.T) {
	errBroken := errors.New("cable pulled")
	for name, c := range map[string]struct {
		source iter.Seq2[verifier.Imported, error]
		each   error
		want   string
	}{
		"reader":      {verifier.ReadCSV(io.MultiReader(strings.NewReader(tokenFile(300, 3)), failingReader{errBroken})), nil, "cable pulled"},
		"quotes":      {verifier.ReadCSV(strings.NewReader(tokenFile(300, 3) + `a"b,c` + "\n")), nil, "line 302: the quotes"},
		"caller":      {verifier.ReadCSV(strings.NewReader(tokenFile(300, 3))), errBroken, "cable pulled"},
		"PSKC":        {verifier.ReadPSKC(strings.NewReader("<a/>"), nil, nil), nil, "line 1: this is no PSKC file"},
		"empty":       {verifier.ReadCSV(strings.NewReader("")), nil, "the file is empty"},
		"header only": {verifier.ReadCSV(strings.NewReader(fileHeader)), nil, "the file has no tokens"},
	} {
		g := newGate(t)
		g.newToken("hanako", "T1")
		before, n := g.dump(), 0
		_, err := g.Import(t.Context(), because(""), c.source, verifier.ImportOptions{
			Realm: "retail", File: "x", Progress: func(int, int) {},
			Each: func(verifier.Imported, string) error {
				if n++; n > 200 {
					return c.each
				}
				return nil
			},
		})
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if diff := cmp.Diff(before, g.dump()); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

type failingReader struct{ err error }

func (f failingReader) Read([]byte) (int, error) { return 0, f.err }

// A kill at every write of an import: what is there after the next start is the
// whole file, or nothing, and then it can be imported again.
func TestImportIsCutOff(t *testing.T) {
	const tokens = 300 // three slices
	none, all := 0, 0
	for writes := 0; all < 2; writes++ { // the last ones aren't cut off at all
		g := newGate(t)
		g.newToken("hanako", "T1")
		before := g.dump()
		dying := &dyingStore{Records: g.Records, left: writes}
		g.Records = dying
		_, _, err := g.importCSV(tokenFile(tokens, 3))
		if (err == nil) != (dying.left >= 0) {
			t.Fatalf("%d writes: %v", writes, err)
		}
		g.reopen()
		g.must(g.FinishBatches(t.Context()))
		found := 0
		g.must(g.Tokens(t.Context(), verifier.TokenFilter{}, func(verifier.TokenInfo) error { found++; return nil }))
		switch found {
		case 1:
			none++
			if diff := cmp.Diff(before, g.dump()); diff != "" {
				t.Errorf("%d writes: %s", writes, diff)
			}
			_, _, err := g.importCSV(tokenFile(tokens, 3))
			g.must(err)
		case tokens + 1:
			all++
			for key := range g.dump() {
				if strings.HasPrefix(key, store.Prefix("staged")) {
					t.Errorf("%d writes: %q is left", writes, key)
				}
			}
		default:
			t.Errorf("%d writes: %d tokens are there", writes, found)
		}
		for n := 0; n < tokens; n += 99 {
			g.keys[fileSerial(n)] = fileKey(n)
			g.expect(fmt.Sprintf("user%d", n), g.code(fileSerial(n), 0), verifier.Accepted)
		}
		imported := 0
		for _, e := range g.log.entries {
			if e.Event == "token.import" {
				imported++
			}
		}
		if imported == 0 {
			t.Errorf("%d writes: not in the audit log", writes)
		}
	}
	if none < 4 {
		t.Errorf("%d kills left nothing: the commit comes too early", none)
	}
}

// dyingStore makes that many writes, and then none any more.
type dyingStore struct {
	store.Records
	left int
}

func (s *dyingStore) Update(ctx context.Context, fn func(store.Txn) error) error {
	if s.left--; s.left < 0 {
		return errors.New("killed")
	}
	return s.Records.Update(ctx, fn)
}

// While an import is under way nobody sees its tokens, nobody else can take their
// serials and keys, and there is no second import.
func TestWhileImporting(t *testing.T) {
	g := newGate(t)
	g.addUser("hanako")
	seen := false
	_, err := g.Import(t.Context(), because(""), verifier.ReadCSV(strings.NewReader(tokenFile(300, 3))), verifier.ImportOptions{
		Realm: "retail", File: "x", Progress: func(int, int) {},
		Each: func(imported verifier.Imported, _ string) error {
			if imported.Serial != fileSerial(200) { // the first slice is put aside
				return nil
			}
			seen = true
			g.must(g.Tokens(t.Context(), verifier.TokenFilter{}, func(i verifier.TokenInfo) error {
				t.Errorf("%s is seen", i.Serial)
				return nil
			}))
			_, err := g.Token(t.Context(), fileSerial(1))
			g.turnedDown(err, "there is no token")
			r, err := g.try("user0", "000000")
			if err != nil || r.Outcome != verifier.NoUser {
				t.Errorf("%+v, %v", r, err)
			}
			create := verifier.NewToken{Realm: "retail", User: "hanako", Serial: fileSerial(1), Params: g.Realms["retail"].OTP}
			_, _, _, err = g.CreateToken(t.Context(), because(""), create)
			g.turnedDown(err, "there is a token H000001 already")
			create.Serial, create.Key = "T1", fileKey(1)
			_, _, _, err = g.CreateToken(t.Context(), because(""), create)
			g.turnedDown(err, "that of token H000001")
			_, _, err = g.importCSV(tokenFile(1, 0))
			g.turnedDown(err, "clerk is importing x: wait for its end")
			return nil
		},
	})
	if err != nil || !seen {
		t.Error(err, seen)
	}
}

// A rotation of keys finds what is put aside.
func TestResealWhileImporting(t *testing.T) {
	g := newGate(t)
	_, err := g.Import(t.Context(), because(""), verifier.ReadCSV(strings.NewReader(tokenFile(200, 1))), verifier.ImportOptions{
		Realm: "retail", File: "x", Progress: func(int, int) {},
		Each: func(imported verifier.Imported, _ string) error {
			if imported.Serial == fileSerial(150) { // the first slice is put aside
				g.reseal(store.Prefix("staged"))
			}
			return nil
		},
	})
	g.must(err)
	for _, n := range []int{0, 127, 128, 199} {
		g.keys[fileSerial(n)] = fileKey(n)
		g.expect(fmt.Sprintf("user%d", n), g.code(fileSerial(n), 0), verifier.Accepted)
	}
}

// A file that comes slowly, and a whole rotation of keys while a slice of it waits
// to be put aside: every token opens afterwards, also by the next start's hand.
func TestSlowImportAcrossARotation(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		g := newGate(t)
		box := g.Seal.(*seal.Box)
		rotation := seal.NewRotation(seal.Config{
			Box: box, Records: g.db, Master: g.kek, Owners: verifier.Reseal(box), Log: g.Log,
			Note: func(context.Context, string, string, string) error { return nil },
		})
		ctx, stop := context.WithCancel(t.Context())
		defer stop()
		go rotation.Run(ctx)
		slow := func(yield func(verifier.Imported, error) bool) {
			n := 0
			for token, err := range verifier.ReadCSV(strings.NewReader(tokenFile(200, 1))) {
				if n++; n == 50 || n == 150 {
					g.must(rotation.Start(t.Context(), "clerk"))
					time.Sleep(3 * seal.Settle) // the old key is removed, and forgotten
					if s := rotation.Status(); s.Phase != seal.Idle {
						t.Fatalf("the rotation hasn't ended: %+v", s)
					}
				}
				if !yield(token, err) {
					return
				}
			}
		}
		_, _, err := g.verdicts(slow, verifier.ImportOptions{Realm: "retail"})
		g.must(err)
		g.reopen()
		g.must(g.FinishBatches(t.Context()))
		for _, n := range []int{0, 48, 49, 127, 128, 149, 199} {
			g.keys[fileSerial(n)] = fileKey(n)
			g.expect(fmt.Sprintf("user%d", n), g.code(fileSerial(n), 0), verifier.Accepted)
		}
	})
}

// A token that was put aside and can't be opened keeps its batch from landing,
// and nobody from logging in.
func TestUnreadableStagedToken(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	dying := &dyingStore{Records: g.Records, left: 1 << 20}
	g.Records = dying
	r, _, err := g.verdicts(verifier.ReadCSV(strings.NewReader(tokenFile(300, 3))), verifier.ImportOptions{
		Realm: "retail", Progress: func(int, int) { dying.left = 0 }, // behind the first slice
	})
	if err == nil {
		t.Fatal("the import was not cut off")
	}
	for name, damage := range map[string]func(string) string{
		"sealed for something else": func(s string) string { return strings.Replace(s, `"digits":6`, `"digits":7`, 1) },
		"no JSON":                   func(s string) string { return s[1:] },
	} {
		g.reopen()
		at, whole := "", ""
		for key, value := range g.dump() {
			if strings.HasPrefix(key, store.Prefix("staged")) {
				at, whole = key, value
			}
		}
		put := func(value string) {
			g.must(g.Records.Update(t.Context(), func(tx store.Txn) error { return tx.Put(at, []byte(value)) }))
		}
		put(damage(whole))
		g.lines.Reset()
		g.must(g.FinishBatches(t.Context()))
		if b, err := g.Batch(t.Context(), r.Batch.ID); err != nil || b.State != "landing" || !strings.Contains(g.lines.String(), "a batch could not be ended") {
			t.Errorf("%s: %+v, %v; the log is %s", name, b, err, g.lines.String())
		}
		put(whole)
	}
	g.expect("hanako", g.code("T1", 0), verifier.Accepted)
	g.must(g.FinishBatches(t.Context()))
	if b, err := g.Batch(t.Context(), r.Batch.ID); err != nil || b.State != verifier.BatchChecking {
		t.Errorf("with the record put right: %+v, %v", b, err)
	}
}

func TestFileNameIsCutBetweenCharacters(t *testing.T) {
	g := newGate(t)
	name := strings.Repeat("x", 199)
	for given, want := range map[string]string{
		name + "日本": name, name + "xx": name + "x", "トークン.csv": "トークン.csv", "a\x1b\xff": "a??",
	} {
		r, _, err := g.verdicts(verifier.ReadCSV(strings.NewReader(tokenFile(1, 0))), verifier.ImportOptions{File: given, DryRun: true})
		if err != nil || r.Batch.File != want {
			t.Errorf("%q became %q, %v", given, r.Batch.File, err)
		}
	}
}

// reseal renews the records under a prefix, of which there must be some.
func (g *gate) reseal(prefix string) {
	g.t.Helper()
	renew, n := verifier.Reseal(again{g.Seal})[prefix], 0
	for key, value := range g.dump() {
		if !strings.HasPrefix(key, prefix) {
			continue
		}
		renewed, changed, err := renew(key, []byte(value))
		if err != nil || !changed || string(renewed) == value {
			g.t.Fatalf("%q: %v, %v", key, changed, err)
		}
		g.must(g.Records.Update(g.t.Context(), func(tx store.Txn) error { return tx.Put(key, renewed) }))
		n++
	}
	if n == 0 {
		g.t.Fatal("nothing is sealed there")
	}
}

// again seals whatever it is given anew.
type again struct{ verifier.Sealer }

func (a again) Reseal(recordKey, purpose string, sealed []byte) ([]byte, bool, error) {
	plain, err := a.Open(recordKey, purpose, sealed)
	if err != nil {
		return nil, false, err
	}
	return a.Seal(recordKey, purpose, plain), true, nil
}

// The history that a PSKC file tells: a counter, a drift, dates of validity.
func TestImportPSKC(t *testing.T) {
	g := newGate(t)
	figure, err := os.ReadFile("pskc/testdata/rfc6030-figure10.xml")
	g.must(err)
	file := strings.ReplaceAll(string(figure), `Length="8"`, `Length="6"`)
	_, said, err := g.verdicts(verifier.ReadPSKC(strings.NewReader(file), nil, nil), verifier.ImportOptions{Realm: "retail"})
	g.turnedDown(err, "4 of 4 tokens can't be taken")
	if !strings.Contains(said[5], "may not be used after 2006-05-31") {
		t.Error(said)
	}
	g.now = time.Date(2006, 5, 1, 0, 0, 0, 0, time.UTC)
	_, said, err = g.verdicts(verifier.ReadPSKC(strings.NewReader(file), nil, nil), verifier.ImportOptions{Realm: "retail"})
	g.turnedDown(err, "3 of 4 tokens can't be taken")
	if !strings.Contains(said[32], "its secret is in the file already") {
		t.Error(said)
	}
}

// A TOTP token whose file says that its time lies in the future can't have shown
// it: it would be of no use until then.
func TestImportFromTheFuture(t *testing.T) {
	g := newGate(t)
	now := g.Realms["retail"].OTP.Step(g.now)
	for ahead, future := range map[int64]bool{0: false, 180: false, 182: true, 1 << 20: true} {
		file := fmt.Sprintf(`<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc"><KeyPackage>
<DeviceInfo><Manufacturer>oath.XX</Manufacturer><SerialNo>T1</SerialNo></DeviceInfo>
<Key Id="T1" Algorithm="urn:ietf:params:xml:ns:keyprov:pskc:totp"><AlgorithmParameters><Suite>HMAC-SHA1</Suite>
<ResponseFormat Length="6" Encoding="DECIMAL"/></AlgorithmParameters><Data>
<Secret><PlainValue>MTIzNDU2Nzg5MDEyMzQ1Njc4OTA=</PlainValue></Secret>
<Time><PlainValue>%d</PlainValue></Time><TimeInterval><PlainValue>60</PlainValue></TimeInterval></Data></Key></KeyPackage></KeyContainer>`, now+ahead)
		_, said, err := g.verdicts(verifier.ReadPSKC(strings.NewReader(file), nil, nil), verifier.ImportOptions{Realm: "retail", DryRun: true})
		if refused := err != nil && said[1] == "its time lies in the future"; refused != future || !future && err != nil {
			t.Errorf("%d steps ahead: %v, %v", ahead, said, err)
		}
	}
}

// A counter and a drift are known from the first code on.
func TestImportHistory(t *testing.T) {
	g := newGate(t)
	source := func(yield func(verifier.Imported, error) bool) {
		hotp := otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6}
		_ = yield(verifier.Imported{Line: 1, Serial: "E1", Key: fileKey(1), Params: hotp, First: 1000, User: "taro"}, nil) &&
			yield(verifier.Imported{Line: 2, Serial: "C1", Key: fileKey(2), Params: g.Realms["retail"].OTP, Drift: 20 * time.Minute, User: "jiro"}, nil)
	}
	_, _, err := g.verdicts(source, verifier.ImportOptions{Realm: "retail"})
	g.must(err)
	events := otp.NewGenerator(fileKey(1), otp.Params{Type: otp.HOTP, Algorithm: otp.SHA1, Digits: 6})
	g.expect("taro", events.Code(999), verifier.Replayed)
	g.expect("taro", events.Code(1000), verifier.Accepted)
	g.keys["C1"] = fileKey(2)
	g.expect("jiro", g.code("C1", 20), verifier.Accepted)
}

// A hundred thousand tokens take a few MiB, those of the serials seen: when they
// are checked, and when they are put aside and brought to their place as well.
func TestImportMemory(t *testing.T) {
	importMemory(t, 100_000, true)
	importMemory(t, 20_000, false)
}

func importMemory(t *testing.T, count int, dry bool) {
	t.Helper()
	g := newGate(t)
	r, w := io.Pipe()
	go func() {
		_, err := io.WriteString(w, fileHeader)
		for n := 0; n < count && err == nil; n++ {
			_, err = io.WriteString(w, fileLine(n, ""))
		}
		w.CloseWithError(err)
	}()
	var m runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&m)
	before, peak, n := m.HeapAlloc, uint64(0), 0
	look := func() {
		if n++; n%5000 == 0 {
			runtime.GC()
			runtime.ReadMemStats(&m)
			peak = max(peak, m.HeapAlloc)
		}
	}
	report, err := g.Import(t.Context(), because(""), verifier.ReadCSV(r), verifier.ImportOptions{
		Realm: "retail", File: "x", DryRun: dry,
		Each: func(verifier.Imported, string) error { look(); return nil },
		Progress: func(landed, _ int) {
			n = landed * 5000 // at each slice
			look()
		},
	})
	if err != nil || report.Tokens != count {
		t.Fatal(report, err)
	}
	if grown := (int64(peak) - int64(before)) >> 10; grown > 2<<10+int64(count)/8 {
		t.Errorf("dry run %v: the heap grew by %d KiB", dry, grown)
	} else {
		t.Logf("dry run %v: the heap grew by %d KiB", dry, grown)
	}
}

// BenchmarkImport measures an import of ten thousand tokens, and how long a
// log-in takes meanwhile.
func BenchmarkImport(b *testing.B) {
	const count = 10_000
	for b.Loop() {
		b.StopTimer()
		g := newGate(b)
		done := make(chan []time.Duration)
		stop := make(chan struct{})
		go func() {
			var took []time.Duration
			for {
				select {
				case <-stop:
					done <- took
					return
				default:
				}
				begun := time.Now()
				_, err := g.Verify(b.Context(), verifier.Attempt{Realm: "retail", User: "nobody", Match: verifier.Typed("1"), Door: "test"})
				if err != nil {
					b.Error(err)
				}
				took = append(took, time.Since(begun))
				time.Sleep(time.Millisecond)
			}
		}()
		b.StartTimer()
		_, err := g.Import(b.Context(), because(""), verifier.ReadCSV(strings.NewReader(tokenFile(count, 0))), verifier.ImportOptions{
			Realm: "retail", File: "x", Each: func(verifier.Imported, string) error { return nil }, Progress: func(int, int) {},
		})
		if err != nil {
			b.Fatal(err)
		}
		close(stop)
		took := <-done
		slices.Sort(took)
		b.ReportMetric(float64(took[len(took)/2].Microseconds()), "µs/login-p50")
		b.ReportMetric(float64(took[len(took)*99/100].Microseconds()), "µs/login-p99")
	}
}
