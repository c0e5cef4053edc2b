package otp_test

import (
	"encoding/base32"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	pquerna "github.com/pquerna/otp"
	"github.com/pquerna/otp/hotp"
	"pgregory.net/rapid"

	"otpgate/verifier/otp"
)

// vector is one line of the RFCs' tables.
type vector struct {
	Source    string        `json:"source"`
	Key       string        `json:"key"` // ASCII
	Algorithm otp.Algorithm `json:"algorithm"`
	Digits    int           `json:"digits"`
	Time      *int64        `json:"time"` // unix seconds; nil: Step is given
	Step      int64         `json:"step"`
	Code      string        `json:"code"`
}

func TestVectorsOfTheRFCs(t *testing.T) {
	file, err := os.ReadFile("testdata/vectors.json")
	if err != nil {
		t.Fatal(err)
	}
	var vectors []vector
	if err := json.Unmarshal(file, &vectors); err != nil {
		t.Fatal(err)
	}
	if len(vectors) != 10+18 {
		t.Fatalf("%d vectors, want the 10 of RFC 4226 and the 18 of RFC 6238", len(vectors))
	}
	for _, v := range vectors {
		t.Run(fmt.Sprintf("%s/%s/%d", v.Source, v.Algorithm, v.Step), func(t *testing.T) {
			p := otp.Params{Type: otp.TOTP, Algorithm: v.Algorithm, Digits: v.Digits, Period: 30}
			if v.Time != nil {
				if got := p.Step(time.Unix(*v.Time, 0)); got != v.Step {
					t.Errorf("step at %d is %d, want %d", *v.Time, got, v.Step)
				}
			}
			if got := otp.NewGenerator([]byte(v.Key), p).Code(v.Step); got != v.Code {
				t.Errorf("code is %s, want %s", got, v.Code)
			}
		})
	}
}

// anyKey is a key, its parameters and a step, as tokens in the field have them.
func anyKey(t *rapid.T) ([]byte, otp.Params, int64) {
	key := rapid.SliceOfN(rapid.Byte(), otp.MinKey, otp.MaxKey).Draw(t, "key")
	p := otp.Params{
		Type:      otp.TOTP,
		Algorithm: rapid.SampledFrom([]otp.Algorithm{otp.SHA1, otp.SHA256, otp.SHA512}).Draw(t, "algorithm"),
		Digits:    rapid.IntRange(otp.MinDigits, otp.MaxDigits).Draw(t, "digits"),
		Period:    rapid.IntRange(otp.MinPeriod, otp.MaxPeriod).Draw(t, "period"),
	}
	return key, p, rapid.Int64Range(0, 1<<40).Draw(t, "step")
}

func TestSameCodesAsPquerna(t *testing.T) {
	algorithms := map[otp.Algorithm]pquerna.Algorithm{
		otp.SHA1: pquerna.AlgorithmSHA1, otp.SHA256: pquerna.AlgorithmSHA256, otp.SHA512: pquerna.AlgorithmSHA512,
	}
	rapid.Check(t, func(t *rapid.T) {
		key, p, step := anyKey(t)
		if err := p.Check(); err != nil {
			t.Fatal(err)
		}
		want, err := hotp.GenerateCodeCustom(base32.StdEncoding.EncodeToString(key), uint64(step),
			hotp.ValidateOpts{Digits: pquerna.Digits(p.Digits), Algorithm: algorithms[p.Algorithm]})
		if err != nil {
			t.Fatal(err)
		}
		g := otp.NewGenerator(key, p)
		g.Code(step + 1) // what went before must not matter
		if got := g.Code(step); got != want {
			t.Fatalf("code is %s, want %s", got, want)
		}
	})
}

func TestSameCodesAsOathtool(t *testing.T) {
	oathtool, err := exec.LookPath("oathtool")
	if err != nil {
		if os.Getenv("CI") != "" {
			t.Fatal("oathtool is missing; make test installs it")
		}
		t.Skip("oathtool is missing: apt-get install oathtool")
	}
	const processes = 40 // some milliseconds each
	tried := 0
	rapid.Check(t, func(r *rapid.T) {
		if tried++; tried > processes {
			return
		}
		key, p, _ := anyKey(r)
		at := rapid.Int64Range(0, 4e9).Draw(r, "time")
		out, err := exec.Command(oathtool, "--totp="+strings.ToLower(string(p.Algorithm)), fmt.Sprintf("--digits=%d", p.Digits),
			fmt.Sprintf("--time-step-size=%ds", p.Period), fmt.Sprintf("--now=@%d", at), hex.EncodeToString(key)).Output()
		if err != nil {
			r.Fatal(err)
		}
		if got, want := otp.NewGenerator(key, p).Code(p.Step(time.Unix(at, 0))), strings.TrimSpace(string(out)); got != want {
			r.Fatalf("code is %s, want %s", got, want)
		}
	})
}

func TestStepIsAFloor(t *testing.T) {
	p := otp.Params{Type: otp.TOTP, Period: 60}
	for at, want := range map[int64]int64{-61: -2, -60: -1, -1: -1, 0: 0, 59: 0, 60: 1} {
		if got := p.Step(time.Unix(at, 999)); got != want {
			t.Errorf("step at %d is %d, want %d", at, got, want)
		}
	}
}

func TestCheckNamesWhatIsOutside(t *testing.T) {
	good := otp.Params{Type: otp.TOTP, Algorithm: otp.SHA1, Digits: 6, Period: 30}
	if err := good.Check(); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(*otp.Params){
		"type":      func(p *otp.Params) { p.Type = "motp" },
		"algorithm": func(p *otp.Params) { p.Algorithm = "MD5" },
		"digits":    func(p *otp.Params) { p.Digits = 5 },
		"period":    func(p *otp.Params) { p.Period = 121 },
	} {
		p := good
		change(&p)
		if err := p.Check(); err == nil || !strings.HasPrefix(err.Error(), name) {
			t.Errorf("%s: error is %v", name, err)
		}
	}
}

func BenchmarkCode(b *testing.B) {
	g := otp.NewGenerator(make([]byte, 20), otp.Params{Algorithm: otp.SHA1, Digits: 6})
	b.ReportAllocs()
	for i := int64(0); b.Loop(); i++ {
		g.Code(i)
	}
}
