package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"unicode"
)

const (
	// maxSocketPath is what sockaddr_un holds on Linux, less its final NUL.
	maxSocketPath = 107
	// minContrast of a realm's accent against white (WCAG 2.2, 1.4.3, AA).
	minContrast = 4.5
)

// check looks at what no single value shows: references, duplicates, files. A
// value that has a fault already is empty in c, and passed over.
func check(c *Config, d *decoder) {
	checkListen(c, d)
	checkMasterKey(c, d)
	checkRealms(c.Realms, d)
	checkRadius(c, d)
	checkOIDC(c, d)
}

func checkListen(c *Config, d *decoder) {
	l := c.Listen
	if l.HTTPS == l.Metrics && l.HTTPS != "" && !anyPort(l.HTTPS) {
		d.fault("listen.metrics", "is the same address as https: %s", l.HTTPS)
	}
	for _, other := range []string{l.HTTPS, l.Metrics} {
		if l.HTTPSMTLS != "" && l.HTTPSMTLS == other && !anyPort(other) {
			d.fault("listen.https_mtls", "is an address that is taken: %s", other)
		}
	}
	if n := len(l.AdminSocket); n > maxSocketPath {
		d.fault("listen.admin_socket", "is a path of %d bytes, and a unix socket's may have %d: %s", n, maxSocketPath, l.AdminSocket)
	}
	if l.TLS == nil {
		return
	}
	d.certificate("listen.tls", l.TLS.CertFile, l.TLS.KeyFile)
}

// checkMasterKey looks at who may read the key, if it is there: what it opens
// is known only to who has the database.
func checkMasterKey(c *Config, d *decoder) {
	if c.MasterKeyFile == "" {
		return
	}
	if _, err := readFile(c.MasterKeyFile, maxSecret, ownerOnly); err != nil && !errors.Is(err, fs.ErrNotExist) {
		d.fault("master_key_file", "%v", err)
	}
}

func checkRealms(realms []Realm, d *decoder) {
	ids, services := d.unique(), d.unique()
	for i, r := range realms {
		at := fmt.Sprintf("realms[%d]", i)
		ids(r.ID, at+".id")
		services(r.ServiceID, at+".service_id")
		checkCard(r.Card, d, at+".card")
		checkTransactions(r.Transactions, d, at+".transactions")
		if r.Theme.Accent == "" {
			continue
		}
		if contrast := contrastToWhite(r.Theme.Accent); contrast < minContrast {
			d.fault(at+".theme.accent", "%s has a contrast of %.1f:1 against white, and %.1f:1 is needed to read it: take a darker one",
				r.Theme.Accent, math.Floor(contrast*10)/10, minContrast)
		}
	}
}

// checkCard fills in the headings if there are none.
func checkCard(card *Card, d *decoder, at string) {
	if card == nil {
		return
	}
	if !d.has(at + ".columns") {
		card.Columns = []string{"ア", "イ", "ウ", "エ", "オ", "カ", "キ", "ク"}
	}
	headings := d.unique()
	for i, heading := range card.Columns {
		path := fmt.Sprintf("%s.columns[%d]", at, i)
		headings(heading, path)
		if strings.ContainsFunc(heading, unicode.IsSpace) {
			d.fault(path, "must have no space in it")
		}
	}
	if cells := len(card.Columns) * card.Rows; 2*card.Asked > cells && cells > 0 {
		d.fault(at+".asked", "must be at most half of the card's %d cells, or the same ones are asked for again and again", cells)
	}
}

func checkRadius(c *Config, d *decoder) {
	addresses := d.unique()
	for i, a := range c.Radius.UDP {
		if !anyPort(a) {
			addresses(a, fmt.Sprintf("radius.udp[%d]", i))
		}
	}
	checkRadiusTLS(c.Radius.TLS, d)
	checkEAP(c.Radius.EAP, d)
	checkFirstFactors(&c.Radius, d)
	checkWaysIn(c, d)
	names, networks, certificates := d.unique(), d.unique(), d.unique()
	for i := range c.Radius.Clients {
		client, at := &c.Radius.Clients[i], fmt.Sprintf("radius.clients[%d]", i)
		names(client.Name, at+".name")
		if client.Address.IsValid() && client.Certificate == nil {
			networks(client.Address.String(), at+".address")
		}
		if client.Certificate != nil {
			checkClientCertificate(client.Certificate, certificates, d, at+".certificate")
			checkOverUDPOnly(d, at)
		}
		checkRealmOf(c, d, client.Realm, at+".realm")
		others := d.unique()
		others(client.Realm, at+".realm")
		for j, id := range client.Realms {
			path := fmt.Sprintf("%s.realms[%d]", at, j)
			others(id, path)
			checkRealmOf(c, d, id, path)
		}
		checkSecret(c, d, client, at)
		checkMode(c, d, client, at)
	}
	checkAnswers(c, d)
}

// checkSecret reads the client's secret.
func checkSecret(c *Config, d *decoder, client *RadiusClient, at string) {
	file, env := at+".secret_file", at+".secret_env"
	switch {
	case client.Certificate != nil:
		for _, key := range []string{file, env} {
			if d.has(key) {
				d.fault(key, "is given beside certificate: a client over TLS has no secret; one that asks over UDP as well has a second entry")
			}
		}
	case d.has(file) && d.has(env):
		d.fault(env, "is given beside secret_file: leave one of them out")
	case !d.has(file) && !d.has(env):
		d.fault(at, "has no secret: give secret_file, the path of a file, or secret_env, the name of an environment variable")
	case client.SecretEnv != "":
		secret, err := envSecret(client.SecretEnv, sharedSecret)
		if err != nil {
			d.fault(env, "%v", err)
		}
		client.Secret = secret
	case client.SecretFile != "":
		secret, err := readSecret(client.SecretFile, sharedSecret)
		if errors.Is(err, fs.ErrNotExist) && c.firstStartMakes(client.SecretFile) {
			client.secretToMake = true
			return
		}
		if errors.Is(err, fs.ErrNotExist) {
			err = fmt.Errorf("%w: %s", err, howToMakeSecret)
		}
		if err != nil {
			d.fault(file, "%v", err)
		}
		client.Secret = secret
	}
}

// firstStartMakes says whether path is inside data_dir, and data_dir has never
// had a database. Later a missing secret is a mishap, and a new one in its
// place would only hide it.
func (c *Config) firstStartMakes(path string) bool {
	if c.DataDir == "" { // its own fault is to be corrected first
		return true
	}
	rel, err := relative(c.DataDir, path)
	if err != nil || rel == "." || rel == ".." || strings.HasPrefix(rel, ".."+string(filepath.Separator)) {
		return false
	}
	_, err = os.Lstat(c.DatabaseFile())
	return errors.Is(err, fs.ErrNotExist)
}

func relative(base, path string) (string, error) {
	base, err := filepath.Abs(base)
	if err != nil {
		return "", err
	}
	path, err = filepath.Abs(path)
	if err != nil {
		return "", err
	}
	return filepath.Rel(base, path)
}

// checkIssuer: RFC 8414 §2, https without query and fragment. A path is
// refused as well, since the endpoints stand at the root.
func checkIssuer(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.User != nil || !validPort(u) || !printable(s):
		return fmt.Sprintf("must be https:// and a host, such as https://otp.bank.example, not %s", quote(s))
	case u.Host != strings.ToLower(u.Host):
		return "must be in lower case: browsers and libraries write hosts so, and portals compare letter by letter"
	}
	return ""
}

// checkRedirect: RFC 6749 §3.1.2, absolute and without fragment; FAPI 2.0
// §5.3.2.2, https. Loopback may do without TLS (RFC 8252 §7.3).
func checkRedirect(s string) string {
	u, err := url.Parse(s)
	switch {
	case err != nil || u.Hostname() == "" || u.Opaque != "" || !validPort(u) || !printable(s):
		return fmt.Sprintf("must be an absolute URI, such as https://portal.bank.example/callback, not %s", quote(s))
	case u.User != nil || strings.Contains(s, "#") || strings.Contains(s, "*"):
		return "must have no user, no # and no * in it: it is compared letter by letter"
	case u.Scheme == "http" && !loopback(u.Hostname()), u.Scheme != "http" && u.Scheme != "https":
		return fmt.Sprintf("must be https (http for loopback only), not %s", quote(s))
	}
	return ""
}

// printable says whether s is ASCII without spaces, as URIs are (RFC 3986 §2).
func printable(s string) bool {
	return !strings.ContainsFunc(s, func(r rune) bool { return r <= ' ' || r > '~' })
}

func loopback(host string) bool {
	a, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && a.IsLoopback()
}

// validPort accepts no port, or one from 1 to 65535.
func validPort(u *url.URL) bool {
	if u.Port() == "" {
		return !strings.HasSuffix(u.Host, ":")
	}
	port, err := strconv.ParseUint(u.Port(), 10, 16)
	return err == nil && port > 0
}

// anyPort says whether an address to listen on takes a free port.
func anyPort(address string) bool {
	_, port, err := net.SplitHostPort(address)
	return err == nil && strings.Trim(port, "0") == ""
}

func checkRealmOf(c *Config, d *decoder, id, path string) {
	if id == "" {
		return
	}
	var ids []string
	for _, r := range c.Realms {
		if r.ID == id {
			return
		}
		if r.ID != "" && !slices.Contains(ids, r.ID) { // one taken twice is a fault of its own
			ids = append(ids, r.ID)
		}
	}
	if len(ids) == 0 {
		d.fault(path, "there is no realm %s", quote(id))
		return
	}
	d.fault(path, "there is no realm %s; there is %s", quote(id), clip(strings.Join(ids, ", ")))
}

// unique returns a function that records a fault for a value which it has been
// given before.
func (d *decoder) unique() func(value, path string) {
	first := map[string]string{}
	return func(value, path string) {
		if value == "" {
			return
		}
		if other, taken := first[value]; taken {
			line := ""
			if n := d.at[other]; n != nil {
				line = fmt.Sprintf(" (line %d)", n.Line)
			}
			d.fault(path, "%s is taken by %s%s", quote(value), other, line)
			return
		}
		first[value] = path
	}
}

// contrastToWhite is the contrast ratio of a "#rrggbb" colour against white
// (WCAG 2.2, "contrast ratio" and "relative luminance"), from 1 to 21.
func contrastToWhite(colour string) float64 {
	linear := func(hex string) float64 {
		n, _ := strconv.ParseUint(hex, 16, 8) // the field's pattern has checked it
		c := float64(n) / 255
		if c <= 0.04045 {
			return c / 12.92
		}
		return math.Pow((c+0.055)/1.055, 2.4)
	}
	luminance := 0.2126*linear(colour[1:3]) + 0.7152*linear(colour[3:5]) + 0.0722*linear(colour[5:7])
	return 1.05 / (luminance + 0.05)
}
