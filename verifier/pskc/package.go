package pskc

import (
	"encoding/xml"
	"errors"
	"regexp"
	"strconv"
	"strings"
)

// The namespaces (RFC 6030 §1.3). Prefixes mean nothing.
const (
	nsPSKC   = "urn:ietf:params:xml:ns:keyprov:pskc"
	nsDS     = "http://www.w3.org/2000/09/xmldsig#"
	nsXENC   = "http://www.w3.org/2001/04/xmlenc#"
	nsXENC11 = "http://www.w3.org/2009/xmlenc11#"
	nsPKCS5  = "http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#"
)

// version is the layout that this package reads. A higher minor version only
// adds what may be ignored (RFC 6030 §1.2).
var version = regexp.MustCompile(`^1\.(0|[1-9][0-9]{0,2})$`)

var errStopped = errors.New("the caller wants no more")

// file is the state of one Read.
type file struct {
	*scanner
	opener  opener
	yield   func(Key, error) bool
	stopped bool // by the caller: yield must not be called again
	keys    int  // KeyPackages seen
}

// name returns the local name of an element of RFC 6030, else "".
func name(e xml.StartElement) string {
	if e.Name.Space != nsPSKC {
		return ""
	}
	return e.Name.Local
}

func attr(e xml.StartElement, local string) string {
	for _, a := range e.Attr {
		if a.Name.Space == "" && a.Name.Local == local {
			return a.Value
		}
	}
	return ""
}

// read goes through the container (RFC 6030 §4).
func (f *file) read() error {
	root, err := f.root()
	if err != nil {
		return err
	}
	if name(root) != "KeyContainer" {
		return f.fail("this is no PSKC file: its element is <%.40s> of %.80q, not <KeyContainer> of %q", root.Name.Local, root.Name.Space, nsPSKC)
	}
	if v := attr(root, "Version"); !version.MatchString(v) {
		return f.fail("the file's version is %.20q: only 1.0 can be read", v)
	}
	if err := f.list("KeyPackage", f.part, "Extensions"); err != nil {
		return err
	}
	if f.keys == 0 {
		return f.fail("the file has no KeyPackage")
	}
	return f.end()
}

func (f *file) part(e xml.StartElement) error {
	if e.Name == (xml.Name{Space: nsDS, Local: "Signature"}) {
		return &FileError{
			Line: f.line(), Problem: "the file is signed, and signatures can't be checked here",
			Hint: "check it with pskctool --verify, then import a copy without the Signature element",
		}
	}
	switch name(e) {
	case "EncryptionKey", "MACMethod":
		if f.keys > 0 {
			return f.fail("<%s> stands behind the first KeyPackage", e.Name.Local)
		}
		if e.Name.Local == "MACMethod" {
			return f.macMethod(e)
		}
		return f.encryptionKey()
	case "KeyPackage":
		f.keys++
		return f.keyPackage()
	case "Extensions":
		return f.skip()
	}
	return f.unknown(e)
}

// encryptionKey reads how values are encrypted (RFC 6030 §6).
func (f *file) encryptionKey() error {
	f.opener.declared = true
	return f.each(func(e xml.StartElement) error {
		switch e.Name {
		case xml.Name{Space: nsDS, Local: "KeyName"}: // for people
			return f.skip()
		case xml.Name{Space: nsXENC11, Local: "DerivedKey"}:
			return f.derivedKey()
		case xml.Name{Space: nsDS, Local: "X509Data"}:
			return f.fail("the file is encrypted for a certificate; only pre-shared keys and passwords can be used")
		}
		return f.unknown(e)
	})
}

// derivedKey reads how the key is made from a password (RFC 6030 §6.2).
func (f *file) derivedKey() error {
	err := f.each(func(e xml.StartElement) error {
		switch e.Name {
		case xml.Name{Space: nsXENC11, Local: "KeyDerivationMethod"}:
			return f.keyDerivation(e)
		case xml.Name{Space: nsXENC, Local: "ReferenceList"},
			xml.Name{Space: nsXENC11, Local: "MasterKeyName"},
			xml.Name{Space: nsXENC11, Local: "DerivedKeyName"}:
			return f.skip()
		}
		return f.unknown(e)
	})
	if err == nil && f.opener.derivation == nil {
		err = f.fail("<DerivedKey> doesn't say how the key is derived")
	}
	return err
}

func (f *file) keyDerivation(e xml.StartElement) error {
	switch algorithm := attr(e, "Algorithm"); algorithm {
	case nsPKCS5 + "pbkdf2", nsXENC11 + "pbkdf2",
		"http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5#pbkdf2": // as the RFC's text has it; its figure has the first
	default:
		return f.fail("the key derivation %.100q is not known; PBKDF2 is", algorithm)
	}
	return f.each(func(e xml.StartElement) error {
		if e.Name.Local != "PBKDF2-params" || e.Name.Space != nsPKCS5 && e.Name.Space != nsXENC11 {
			return f.unknown(e)
		}
		return f.pbkdf2(e.Name.Space)
	})
}

// pbkdf2 reads the parameters. Their schema leaves the elements in no namespace;
// some writers put them in that of their parent.
func (f *file) pbkdf2(space string) error {
	f.opener.derivation = &derivation{prf: "hmac-sha1"} // the default of PKCS #5
	d := f.opener.derivation
	err := f.each(func(e xml.StartElement) (err error) {
		if e.Name.Space != "" && e.Name.Space != space {
			return f.unknown(e)
		}
		switch e.Name.Local {
		case "Salt":
			return f.each(func(e xml.StartElement) (err error) {
				if e.Name.Local != "Specified" || e.Name.Space != "" && e.Name.Space != space {
					return f.unknown(e)
				}
				d.salt, err = f.base64()
				return err
			})
		case "IterationCount":
			d.iterations, err = f.number()
			return err
		case "KeyLength":
			d.keyBytes, err = f.number()
			return err
		case "PRF":
			if algorithm := attr(e, "Algorithm"); algorithm != "" {
				d.prf = hmacName(algorithm)
			} else if len(e.Attr) > 0 {
				return f.fail("<PRF> names its algorithm in an unknown way")
			}
			return f.empty()
		}
		return f.unknown(e)
	})
	if err != nil {
		return err
	}
	return f.at(d.check())
}

// macMethod reads how encrypted values are authenticated (RFC 6030 §6.1.1).
func (f *file) macMethod(e xml.StartElement) error {
	m := &macMethod{hash: hashes[hmacName(attr(e, "Algorithm"))]}
	if m.hash == nil {
		return f.fail("the MAC algorithm %.100q is not known", attr(e, "Algorithm"))
	}
	f.opener.mac = m
	return f.each(func(e xml.StartElement) (err error) {
		switch name(e) {
		case "MACKey":
			m.key, err = f.encryptedData()
			return err
		case "MACKeyReference":
			return f.fail("the file refers to a MAC key that isn't in it, which is not supported")
		}
		return f.unknown(e)
	})
}

// encryptedData reads an xenc:EncryptedDataType.
func (f *file) encryptedData() (*encrypted, error) {
	d := &encrypted{}
	err := f.each(func(e xml.StartElement) error {
		switch e.Name {
		case xml.Name{Space: nsXENC, Local: "EncryptionMethod"}:
			d.algorithm = attr(e, "Algorithm")
			return f.empty()
		case xml.Name{Space: nsXENC, Local: "CipherData"}:
			return f.each(func(e xml.StartElement) (err error) {
				if e.Name != (xml.Name{Space: nsXENC, Local: "CipherValue"}) {
					return f.unknown(e)
				}
				d.value, err = f.base64()
				return err
			})
		}
		return f.unknown(e)
	})
	if err == nil && (d.algorithm == "" || len(d.value) == 0) {
		err = f.fail("an encrypted value has no EncryptionMethod or no CipherValue")
	}
	return d, err
}

// keyPackage is a KeyPackage as it is written (RFC 6030 §4).
type keyPackage struct {
	line         int
	manufacturer string
	serial       string
	model        string
	keys         int // 0 or 1

	id, algorithm string
	suite         string // of both ways to write it, what was written
	suites        int    // how often one was written
	response      *responseFormat
	challenge     bool
	data          map[string]*value // by element: Secret, Counter, …
	policy        policy
	dates         []date // of device and policy
}

type responseFormat struct{ length, encoding, checkDigits string }

type date struct {
	end   bool // ExpiryDate, else StartDate
	value string
}

// value is one datum, in clear or encrypted.
type value struct {
	plain     string
	encrypted *encrypted
	mac       []byte // nil: none
}

type policy struct {
	usages    []string
	pinMode   string // of a PINPolicy; "-" if it has none
	unknown   string // an element or attribute that isn't understood
	maxNumber bool   // NumberOfTransactions
}

func (f *file) keyPackage() error {
	p := &keyPackage{line: f.line(), data: map[string]*value{}}
	err := f.each(func(e xml.StartElement) error {
		switch name(e) {
		case "DeviceInfo":
			return f.deviceInfo(p)
		case "Key":
			p.keys++
			p.id, p.algorithm = attr(e, "Id"), attr(e, "Algorithm")
			return f.key(p)
		case "CryptoModuleInfo", "Extensions":
			return f.skip()
		}
		return f.unknown(e)
	}, "Extensions")
	if err != nil || p.isPIN() {
		return err
	}
	k, err := p.key(&f.opener)
	var broken *FileError
	if errors.As(err, &broken) {
		return f.at(err)
	}
	if !f.yield(k, err) {
		f.stopped = true
		return errStopped
	}
	return nil
}

// deviceInfo reads what the token is (RFC 6030 §4.3.1).
func (f *file) deviceInfo(p *keyPackage) error {
	return f.each(func(e xml.StartElement) (err error) {
		switch name(e) {
		case "Manufacturer":
			p.manufacturer, err = f.text()
		case "SerialNo":
			p.serial, err = f.text()
		case "Model":
			p.model, err = f.text()
		case "StartDate", "ExpiryDate":
			err = f.date(p, e)
		case "IssueNo", "DeviceBinding", "UserId", "Extensions":
			err = f.skip()
		default:
			err = f.unknown(e)
		}
		return err
	}, "Extensions")
}

func (f *file) date(p *keyPackage, e xml.StartElement) error {
	text, err := f.text()
	p.dates = append(p.dates, date{e.Name.Local == "ExpiryDate", text})
	return err
}

// key reads a Key (RFC 6030 §4.1).
func (f *file) key(p *keyPackage) error {
	return f.each(func(e xml.StartElement) error {
		switch name(e) {
		case "AlgorithmParameters":
			return f.algorithmParameters(p)
		case "Data":
			return f.data(p)
		case "Policy":
			return f.policy(p)
		case "Issuer", "KeyProfileId", "KeyReference", "FriendlyName", "UserId", "Extensions":
			return f.skip()
		}
		return f.unknown(e)
	}, "FriendlyName", "Extensions")
}

// algorithmParameters reads how codes look (RFC 6030 §4.3.4). The suite is the
// element's text, or, with some writers, its attribute HashAlgo.
func (f *file) algorithmParameters(p *keyPackage) error {
	return f.each(func(e xml.StartElement) error {
		switch name(e) {
		case "Suite":
			for _, a := range e.Attr {
				if strings.EqualFold(a.Name.Local, "HashAlgo") {
					p.suite, p.suites = a.Value, p.suites+1
				}
			}
			text, err := f.text()
			if text != "" {
				p.suite, p.suites = text, p.suites+1
			}
			return err
		case "ResponseFormat":
			p.response = &responseFormat{attr(e, "Length"), attr(e, "Encoding"), attr(e, "CheckDigits") + attr(e, "CheckDigit")}
			return f.empty()
		case "ChallengeFormat":
			p.challenge = true
			return f.skip()
		case "Extensions":
			return f.skip()
		}
		return f.unknown(e)
	}, "Extensions")
}

func (f *file) data(p *keyPackage) error {
	return f.each(func(e xml.StartElement) (err error) {
		switch name(e) {
		case "Secret", "Counter", "Time", "TimeInterval", "TimeDrift":
			p.data[e.Name.Local], err = f.value()
			return err
		case "":
			return f.skip() // an extension's own data
		}
		return f.unknown(e)
	})
}

func (f *file) value() (*value, error) {
	v, parts := &value{}, 0
	err := f.each(func(e xml.StartElement) (err error) {
		switch name(e) {
		case "PlainValue":
			parts++
			v.plain, err = f.text()
		case "EncryptedValue":
			parts++
			v.encrypted, err = f.encryptedData()
		case "ValueMAC":
			v.mac, err = f.base64()
		default:
			err = f.unknown(e)
		}
		return err
	})
	if err == nil && parts != 1 {
		err = f.fail("a value must be given once, as PlainValue or as EncryptedValue")
	}
	return v, err
}

// policy reads what the key may be used for (RFC 6030 §5). What isn't understood
// is noted, as it bars the key, not the file.
func (f *file) policy(p *keyPackage) error {
	return f.each(func(e xml.StartElement) error {
		switch name(e) {
		case "StartDate", "ExpiryDate":
			return f.date(p, e)
		case "KeyUsage":
			usage, err := f.text()
			p.policy.usages = append(p.policy.usages, usage)
			return err
		case "PINPolicy":
			f.pinPolicy(p, e)
		case "NumberOfTransactions":
			p.policy.maxNumber = true
		default:
			p.policy.unknown = e.Name.Local
		}
		return f.skipPolicy(p)
	}, "KeyUsage")
}

func (f *file) pinPolicy(p *keyPackage, e xml.StartElement) {
	p.policy.pinMode = "-"
	for _, a := range e.Attr {
		switch a.Name.Local {
		case "PINUsageMode":
			p.policy.pinMode = a.Value
		case "PINKeyId", "MaxFailedAttempts", "MinLength", "MaxLength", "PINEncoding", "xmlns":
		default:
			if a.Name.Space != "xmlns" {
				p.policy.unknown = a.Name.Local
			}
		}
	}
}

// skipPolicy reads an element of a policy to its end; children are not
// understood.
func (f *file) skipPolicy(p *keyPackage) error {
	for outside := f.depth - 1; f.depth > outside; {
		token, err := f.next()
		if err != nil {
			return f.cutOff(err)
		}
		if e, ok := token.(xml.StartElement); ok {
			p.policy.unknown = e.Name.Local
		}
	}
	return nil
}

// base64 is the element's text, decoded.
func (f *file) base64() ([]byte, error) {
	text, err := f.text()
	if err != nil {
		return nil, err
	}
	b, err := decodeBase64(text)
	if err != nil {
		return nil, f.fail("a value is no base64")
	}
	return b, nil
}

// number is the element's text, as a number that isn't negative.
func (f *file) number() (int, error) {
	text, err := f.text()
	if err != nil {
		return 0, err
	}
	n, err := strconv.ParseUint(text, 10, 31)
	if err != nil {
		return 0, f.fail("%.20q is no number that can be used here", text)
	}
	return int(n), nil
}

// at gives a FileError without a line the one where reading stands.
func (f *file) at(err error) error {
	var broken *FileError
	if errors.As(err, &broken) && broken.Line == 0 {
		broken.Line = f.line()
	}
	return err
}
