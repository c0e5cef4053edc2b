package config

import (
	"fmt"
	"strings"

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
	d.certificate(at, t.CertFile, t.KeyFile)
	t.CAs = d.authorities(at+".ca_file", t.CAFile)
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
