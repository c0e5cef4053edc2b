package config

import (
	"fmt"
	"slices"
)

// checkEAP reads the files of radius.eap, and fills in its methods if there are
// none.
func checkEAP(e *RadiusEAP, d *decoder) {
	if e == nil {
		return
	}
	const at = "radius.eap"
	if !d.has(at + ".methods") {
		e.Methods = []string{"ttls", "peap"}
	}
	methods := d.unique()
	for i, m := range e.Methods {
		methods(m, fmt.Sprintf("%s.methods[%d]", at, i))
	}
	tunnel := slices.Contains(e.Methods, "ttls") || slices.Contains(e.Methods, "peap")
	cert, key := d.has(at+".cert_file"), d.has(at+".key_file")
	switch {
	case cert != key:
		d.fault(at, "must have cert_file and key_file, or neither")
	case tunnel && !cert:
		d.fault(at, "must have cert_file and key_file: ttls and peap need a certificate")
	case !tunnel && cert && len(e.Methods) > 0:
		d.fault(at+".cert_file", "is for nothing: neither ttls nor peap is offered")
	}
	d.certificate(at, e.CertFile, e.KeyFile)
}
