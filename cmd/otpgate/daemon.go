package main

import (
	"otpgate/config"
	"otpgate/internal/admin"
)

// configFlag is the configuration file that a command reads.
type configFlag struct {
	Config string `short:"c" default:"gateway.yaml" placeholder:"FILE" help:"The configuration file (default: ${default})."`
}

// daemonFlags say which running gateway a command talks to, and how it prints.
type daemonFlags struct {
	configFlag
	Socket string `placeholder:"PATH" help:"The gateway's admin socket; else the one that the configuration names."`
	JSON   bool   `help:"Print JSON."`
}

// client returns a client for the running gateway.
func (f daemonFlags) client() (*admin.Client, error) {
	if f.Socket != "" {
		return admin.NewClient(f.Socket), nil
	}
	socket, err := config.AdminSocket(f.Config)
	if err != nil {
		return nil, err
	}
	return admin.NewClient(socket), nil
}
