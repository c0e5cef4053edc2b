package pskc_test

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha1"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/base64"
	"encoding/binary"
	"fmt"
	"hash"
	"strings"
)

const (
	container = `<KeyContainer Version="1.0" xmlns="urn:ietf:params:xml:ns:keyprov:pskc" xmlns:ds="http://www.w3.org/2000/09/xmldsig#" xmlns:xenc="http://www.w3.org/2001/04/xmlenc#" xmlns:xenc11="http://www.w3.org/2009/xmlenc11#" xmlns:pkcs5="http://www.rsasecurity.com/rsalabs/pkcs/schemas/pkcs-5v2-0#">`
	hotp      = "urn:ietf:params:xml:ns:keyprov:pskc:hotp"
	totp      = "urn:ietf:params:xml:ns:keyprov:pskc:totp"
	secret    = "12345678901234567890"
)

// token writes a KeyPackage; what is "" is left out.
type token struct {
	serial, algorithm  string
	suite, response    string // whole elements
	data, policy, info string // whole elements
}

func plainToken(serial string) token {
	return token{
		serial: serial, algorithm: totp, response: `<ResponseFormat Length="6" Encoding="DECIMAL"/>`,
		data: datum("Secret", base64.StdEncoding.EncodeToString([]byte(secret))) + datum("TimeInterval", "60"),
	}
}

func datum(name, plain string) string {
	return "<" + name + "><PlainValue>" + plain + "</PlainValue></" + name + ">"
}

func (p token) String() string {
	s := "<KeyPackage><DeviceInfo><Manufacturer>oath.XX</Manufacturer><SerialNo>" + p.serial + "</SerialNo>" + p.info + "</DeviceInfo>" +
		`<Key Id="` + p.serial + `" Algorithm="` + p.algorithm + `"><Issuer>Issuer</Issuer>`
	if p.suite+p.response != "" {
		s += "<AlgorithmParameters>" + p.suite + p.response + "</AlgorithmParameters>"
	}
	s += "<Data>" + p.data + "</Data>"
	if p.policy != "" {
		s += "<Policy>" + p.policy + "</Policy>"
	}
	return s + "</Key></KeyPackage>\n"
}

func document(parts ...any) string {
	return container + fmt.Sprint(parts...) + "</KeyContainer>"
}

// sealer encrypts values as a vendor does.
type sealer struct {
	key       []byte
	algorithm string // of xenc or xenc11
	hmac      string
	hash      func() hash.Hash
	macKey    []byte
}

func newSealer(key []byte, algorithm, mac string) sealer {
	macKey := make([]byte, 24)
	rand.Read(macKey)
	h := map[string]func() hash.Hash{
		"hmac-sha1": sha1.New, "hmac-sha224": sha256.New224, "hmac-sha256": sha256.New, "hmac-sha384": sha512.New384, "hmac-sha512": sha512.New,
	}[mac]
	return sealer{key, algorithm, mac, h, macKey}
}

const preShared = `<EncryptionKey><ds:KeyName>Pre-shared-key</ds:KeyName></EncryptionKey>`

func derived(method, params string) string {
	return `<EncryptionKey><xenc11:DerivedKey><xenc11:KeyDerivationMethod Algorithm="` + method + `"><pkcs5:PBKDF2-params xmlns="">` + params +
		`</pkcs5:PBKDF2-params></xenc11:KeyDerivationMethod></xenc11:DerivedKey></EncryptionKey>`
}

func (s sealer) method() string {
	space := "http://www.w3.org/2001/04/xmldsig-more#"
	if s.hmac == "hmac-sha1" {
		space = "http://www.w3.org/2000/09/xmldsig#"
	}
	return `<MACMethod Algorithm="` + space + s.hmac + `"><MACKey>` + s.cipher(s.encrypt(s.macKey)) + `</MACKey></MACMethod>`
}

func (s sealer) datum(name string, plain []byte) string {
	value := s.encrypt(plain)
	return "<" + name + "><EncryptedValue>" + s.cipher(value) + "</EncryptedValue><ValueMAC>" +
		base64.StdEncoding.EncodeToString(s.mac(value)) + "</ValueMAC></" + name + ">"
}

func (s sealer) cipher(value []byte) string {
	return `<xenc:EncryptionMethod Algorithm="` + s.algorithm + `"/><xenc:CipherData><xenc:CipherValue>` +
		base64.StdEncoding.EncodeToString(value) + `</xenc:CipherValue></xenc:CipherData>`
}

func (s sealer) mac(value []byte) []byte {
	m := hmac.New(s.hash, s.macKey)
	m.Write(value)
	return m.Sum(nil)
}

func (s sealer) encrypt(plain []byte) []byte {
	block, err := aes.NewCipher(s.key)
	if err != nil {
		panic(err)
	}
	switch {
	case strings.HasSuffix(s.algorithm, "-cbc"):
		padding := 16 - len(plain)%16
		padded := append(bytes.Clone(plain), bytes.Repeat([]byte{byte(padding)}, padding)...)
		value := make([]byte, 16, 16+len(padded))
		rand.Read(value)
		cipher.NewCBCEncrypter(block, value).CryptBlocks(padded, padded)
		return append(value, padded...)
	case strings.HasSuffix(s.algorithm, "-pad"):
		initial := binary.BigEndian.AppendUint32([]byte{0xa6, 0x59, 0x59, 0xa6}, uint32(len(plain)))
		return wrap(block, initial, append(bytes.Clone(plain), make([]byte, (8-len(plain)%8)%8)...))
	}
	return wrap(block, bytes.Repeat([]byte{0xa6}, 8), plain)
}

// wrap is RFC 3394 §2.2.1, by its index.
func wrap(block cipher.Block, initial, plain []byte) []byte {
	out := append(bytes.Clone(initial), plain...)
	n := len(plain) / 8
	var b [16]byte
	for j := range 6 {
		for i := 1; i <= n; i++ {
			copy(b[:8], out[:8])
			copy(b[8:], out[8*i:])
			block.Encrypt(b[:], b[:])
			binary.BigEndian.PutUint64(out, binary.BigEndian.Uint64(b[:8])^uint64(n*j+i))
			copy(out[8*i:8*i+8], b[8:])
		}
	}
	return out
}
