package config

import (
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"

	"go.yaml.in/yaml/v4"
)

// checkRadiusTLS reads the files of radius.tls.
func checkRadiusTLS(t *RadiusTLS, d *decoder) {
	if t == nil {
		return
	}
	const at = "radius.tls"
	addresses := d.unique()
	for i, a := range t.Listen {
		if !anyPort(a) {
			addresses(a, fmt.Sprintf("%s.listen[%d]", at, i))
		}
	}
	read := func(key, file string, forbidden fs.FileMode) []byte {
		if file == "" {
			return nil
		}
		data, err := readFile(file, maxPEM, forbidden)
		if err != nil {
			d.fault(at+"."+key, "%v", err)
		}
		return data
	}
	cert, key := read("cert_file", t.CertFile, anyoneMay), read("key_file", t.KeyFile, notEveryone)
	if cert != nil && key != nil {
		if err := checkCertificate(cert, key, time.Now()); err != nil {
			d.fault(at, "%v", err)
		}
	}
	if roots := read("ca_file", t.CAFile, anyoneMay); roots != nil {
		cas, err := parseCertificates(roots)
		if err != nil {
			d.fault(at+".ca_file", "%s %v", t.CAFile, err)
		}
		t.CAs = cas
	}
}

// parseCertificates reads PEM blocks, all of which must be certificates: one that
// is passed over would be missed only when a client is refused.
func parseCertificates(data []byte) ([]*x509.Certificate, error) {
	var certs []*x509.Certificate
	for {
		var block *pem.Block
		if block, data = pem.Decode(data); block == nil {
			break
		}
		if block.Type != "CERTIFICATE" {
			return nil, fmt.Errorf("holds something other than certificates (%s)", clip(block.Type))
		}
		cert, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return nil, fmt.Errorf("holds a damaged certificate: %w", err)
		}
		certs = append(certs, cert)
	}
	if len(certs) == 0 {
		return nil, errors.New("holds no certificate in PEM (-----BEGIN CERTIFICATE-----)")
	}
	return certs, nil
}

// checkWaysIn finds clients that have nowhere to ask.
func checkWaysIn(c *Config, d *decoder) {
	udp := d.at["radius.udp"]
	none := udp == nil || udp.Kind == yaml.SequenceNode && len(udp.Content) == 0
	overUDP, overTLS := false, false
	for _, client := range c.Radius.Clients {
		overUDP, overTLS = overUDP || client.Certificate == nil, overTLS || client.Certificate != nil
	}
	if none && overUDP {
		d.fault("radius.udp", "is missing or empty: the clients have nowhere to ask; the usual address is :1812")
	}
	if c.Radius.TLS == nil && overTLS {
		d.fault("radius.tls", "is missing: the clients that have a certificate have nowhere to ask")
	}
}

// checkOverUDPOnly records a fault for what has no meaning beside a certificate:
// somebody would rely on it.
func checkOverUDPOnly(d *decoder, at string) {
	if key := at + ".require_message_authenticator"; d.has(key) {
		d.fault(key, "has no effect beside certificate: TLS shows who sent a packet; leave it out")
	}
}

// checkClientCertificate brings the one thing that is given into the form that
// is compared, and records a fault if another client has it.
func checkClientCertificate(c *ClientCertificate, taken func(value, path string), d *decoder, at string) {
	var given []string
	for _, key := range []string{"subject_cn", "san_dns", "sha256"} {
		if d.has(at + "." + key) {
			given = append(given, key)
		}
	}
	if len(given) != 1 {
		d.fault(at, "must have exactly one of subject_cn, san_dns and sha256")
		return
	}
	c.SANDNS = strings.ToLower(c.SANDNS)
	c.SHA256 = strings.ToLower(strings.ReplaceAll(c.SHA256, ":", ""))
	if value := c.SubjectCN + c.SANDNS + c.SHA256; value != "" {
		taken(given[0]+" "+value, at+"."+given[0])
	}
}
