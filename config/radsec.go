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
	if t.CAFile != "" {
		t.CAs = d.authorities(t.CAFile, at+".ca_file")
	}
}

// authorities reads a file of certificates, and records what is wrong with it.
func (d *decoder) authorities(file, at string) []*x509.Certificate {
	data, err := readFile(file, maxPEM, anyoneMay)
	if err != nil {
		d.fault(at, "%v", err)
		return nil
	}
	cas, err := parseCertificates(data)
	if err != nil {
		d.fault(at, "%s %v", file, err)
	}
	return cas
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
