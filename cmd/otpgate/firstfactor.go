package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"otpgate/config"
	"otpgate/internal/directory"
	"otpgate/radius"
	"otpgate/radius/eap"
	"otpgate/radius/upstream"
)

// firstFactors is where passwords are checked, by their names in gateway.yaml.
type firstFactors struct {
	byName      map[string]radius.FirstFactor
	directories map[string]*directory.Directory
}

// newFirstFactors makes what gateway.yaml names. It asks nobody yet. The error is a
// *usageError.
func newFirstFactors(cfg *config.Config, reg prometheus.Registerer, log *slog.Logger) (firstFactors, error) {
	f := firstFactors{
		byName:      map[string]radius.FirstFactor{config.NoFactor: {}, config.PINFactor: {PIN: true}},
		directories: map[string]*directory.Directory{},
	}
	ofDirectories, ofUpstreams := directory.NewMetrics(reg), upstream.NewMetrics(reg)
	for _, entry := range cfg.Radius.FirstFactors {
		made := radius.FirstFactor{Name: entry.Name}
		var err error
		switch {
		case entry.LDAP != nil:
			c := directoryConfig(entry.Name, entry.LDAP)
			c.Now, c.Log, c.Metrics = time.Now, log, ofDirectories
			f.directories[entry.Name], err = directory.New(c)
			made.Directory = f.directories[entry.Name]
		case entry.Radius != nil:
			c := upstreamConfig(entry.Name, entry.Radius)
			c.Dial, c.Now, c.Metrics = new(net.Dialer).DialContext, time.Now, ofUpstreams
			made.Upstream, err = upstream.New(c)
			made.Migrating = entry.Radius.Migrating
		}
		if err != nil {
			return firstFactors{}, &usageError{fmt.Sprintf("radius.first_factors, %s: %v", entry.Name, err), ""}
		}
		f.byName[entry.Name] = made
	}
	return f, nil
}

// watch warns of directories that can't do what they will be asked, once: the
// gateway serves all the same, since they may be there later. Nobody waits for it,
// and a directory takes no longer than its time-out.
func (f firstFactors) watch(ctx context.Context, log *slog.Logger) {
	for name, d := range f.directories {
		if err := d.Ping(ctx); err != nil && ctx.Err() == nil {
			log.Warn("a directory isn't ready: until it is, nobody logs in whose password it has", "first_factor", name, "err", err)
		}
	}
}

// close ends the connections to the directories.
func (f firstFactors) close() {
	for _, d := range f.directories {
		d.Close()
	}
}

func directoryConfig(name string, l *config.LDAPFactor) directory.Config {
	c := directory.Config{
		Name: name, Servers: l.Servers, Limit: l.Timeout,
		Account: directory.Account{DN: l.BindDN, Password: l.BindPassword.Bytes()},
		Users:   directory.Users{Template: l.UserDN, Base: l.BaseDN, Filter: l.Filter},
	}
	if g := l.Groups; g != nil {
		c.Groups = directory.Groups{Attribute: g.Attribute, Base: g.BaseDN, Filter: g.Filter}
	}
	if len(l.CAs) > 0 {
		c.Roots = x509.NewCertPool()
		for _, ca := range l.CAs {
			c.Roots.AddCert(ca)
		}
	}
	return c
}

func upstreamConfig(name string, r *config.RadiusFactor) upstream.Config {
	return upstream.Config{
		Name: name, Servers: r.Addresses, Secret: r.Secret.Bytes(), Timeout: r.Timeout,
		RequireMessageAuthenticator: r.RequireMessageAuthenticator,
	}
}

// radiusEAP is what is offered by EAP; nil: nothing.
func radiusEAP(c *config.RadiusEAP) (*eap.Config, error) {
	if c == nil {
		return nil, nil //nolint:nilnil // radius.Server.EAP is nil for nothing
	}
	var pair tls.Certificate
	if c.CertFile != "" {
		var err error
		if pair, err = loadPair(c.CertFile, c.KeyFile, notEveryone); err != nil {
			return nil, err
		}
	}
	byName := map[string]eap.Method{"ttls": eap.TTLS, "peap": eap.PEAP, "gtc": eap.GTC, "mschapv2": eap.MSCHAPv2}
	var methods []eap.Method
	for _, name := range c.Methods {
		methods = append(methods, byName[name])
	}
	return eap.NewConfig(methods, pair)
}
