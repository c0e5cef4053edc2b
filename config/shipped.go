package config

import _ "embed"

// shipped is the gateway.yaml at the top of the repository, byte for byte; a
// test holds the two together.
//
//go:embed shipped.yaml
var shipped string

// Shipped is the gateway.yaml that otpgate comes with, and that runs as it is.
func Shipped() []byte { return []byte(shipped) }
