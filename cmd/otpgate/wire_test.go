package main

import (
	"errors"
	"testing"

	"otpgate/config"
	"otpgate/radius"
	"otpgate/verifier/otp"
)

// A counter has no period, whatever the realm's default is: tokens that are made
// here have the parameters of those that a file brings.
func TestRealmsPeriod(t *testing.T) {
	for kind, want := range map[string]int{"totp": 60, "hotp": 0} {
		p := otpParams(config.OTP{Type: kind, Digits: 6, Period: 60, Algorithm: "SHA1"})
		if p != (otp.Params{Type: otp.Type(kind), Algorithm: otp.SHA1, Digits: 6, Period: want}) {
			t.Errorf("%s: %+v", kind, p)
		}
	}
}

// A name that means nothing here is no reason to ask for less than was meant.
func TestRadiusClientsOfUnknownNames(t *testing.T) {
	factors := map[string]radius.FirstFactor{config.NoFactor: {}, config.PINFactor: {PIN: true}}
	for name, c := range map[string]config.RadiusClient{
		"mode":         {Mode: "push", FirstFactor: config.PINFactor},
		"no mode":      {FirstFactor: config.PINFactor},
		"first factor": {Mode: config.ModeChallenge, FirstFactor: "ad"},
		"no factor":    {Mode: config.ModeChallenge},
	} {
		clients, err := radiusClients(&config.Config{Radius: config.Radius{Clients: []config.RadiusClient{c}}}, factors)
		var usage *usageError
		if clients != nil || !errors.As(err, &usage) {
			t.Errorf("%s: %+v, %v", name, clients, err)
		}
	}
	for _, mode := range []string{config.ModeOTP, config.ModePasswordOTP, config.ModeChallenge} {
		c := config.RadiusClient{Mode: mode, FirstFactor: config.NoFactor}
		if _, err := radiusClients(&config.Config{Radius: config.Radius{Clients: []config.RadiusClient{c}}}, factors); err != nil {
			t.Errorf("%s: %v", mode, err)
		}
	}
}
