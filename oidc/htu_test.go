package oidc

import "testing"

// RFC 9449 §4.3: htu is compared after the normalisations of RFC 3986 §6.2.2 and
// §6.2.3, without query and fragment.
func TestSameEndpoint(t *testing.T) {
	for htu, same := range map[string]bool{
		"https://gate.example/token":               true,
		"HTTPS://GATE.example/token":               true,
		"https://gate.example:443/token":           true,
		"https://gate.example/token?x=y#z":         true,
		"https://gate.example/%74oken":             true,
		"https://gate.example/Token":               false,
		"https://gate.example/token/":              false,
		"https://gate.example//token":              false,
		"https://gate.example/x/../token":          false, // no client is so complicated about a fixed address
		"https://gate.example/token%2F":            false,
		"https://gate.example:8443/token":          false,
		"http://gate.example/token":                false,
		"https://gate.example.evil.example/token":  false,
		"https://gate.example@evil.example/token":  false,
		"https://evil.example/https://gate/token":  false,
		"https://user@gate.example/token":          false,
		"https:gate.example/token":                 false,
		"/token":                                   false,
		"":                                         false,
		"https://gate.example:443:443/token":       false,
		"https://gate.example/token\x00":           false,
		"https://[gate.example/token":              false,
		"https://gate.example/par?u=/token":        false,
		"https://gate.example/introspect/../token": false,
	} {
		if got := sameEndpoint(htu, "https://gate.example", "/token"); got != same {
			t.Errorf("%q: %v", htu, got)
		}
	}
	if !sameEndpoint("https://gate.example/token", "https://gate.example:443", "/token") {
		t.Error("an issuer with the usual port")
	}
}
