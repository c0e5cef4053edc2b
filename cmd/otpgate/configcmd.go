package main

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"os"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/config"
)

type configCmd struct {
	Check  configCheckCmd  `cmd:"" help:"Name every fault of the file, with its line."`
	Schema configSchemaCmd `cmd:"" help:"Print the JSON Schema of the file, for editors."`
	Init   configInitCmd   `cmd:"" help:"Write a first configuration file."`
}

type configCheckCmd struct{ configFlag }

// Run checks the file.
func (c configCheckCmd) Run(term terminal) error {
	cfg, err := config.Load(c.Config)
	if err != nil {
		return err
	}
	// What only the door to a directory knows of filters and names.
	factors, err := newFirstFactors(cfg, prometheus.NewRegistry(), slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	factors.close()
	fmt.Fprintf(term.out, "%s: no faults; %s, %s, %s\n", c.Config,
		count(len(cfg.Realms), "realm"), count(len(cfg.Radius.Clients), "RADIUS client"), count(len(cfg.OIDC.Clients), "OIDC client"))
	for _, file := range cfg.SecretsToMake() {
		fmt.Fprintf(term.out, "%s will be made at first start\n", file)
	}
	return nil
}

type configSchemaCmd struct{}

// Run prints the schema.
func (configSchemaCmd) Run(term terminal) error {
	schema, err := config.Schema()
	if err != nil {
		return err
	}
	_, err = term.out.Write(schema)
	return err
}

type configInitCmd struct{ configFlag }

// Run writes the file; it never overwrites one.
func (c configInitCmd) Run(term terminal) error {
	f, err := os.OpenFile(c.Config, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o644)
	if errors.Is(err, fs.ErrExist) {
		return &usageError{c.Config + " is there already", "it was left as it is; name another with -c"}
	}
	if err != nil {
		return &usageError{"can't write " + c.Config, err.Error()}
	}
	if _, err := f.Write(config.Shipped()); err != nil {
		return errors.Join(err, f.Close())
	}
	if err := f.Close(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(term.out, "wrote %s\nNext: otpgate serve -c %s\n", c.Config, c.Config)
	return err
}
