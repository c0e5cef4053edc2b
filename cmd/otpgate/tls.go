package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"math/big"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"otpgate/config"
)

const (
	// selfSignedLife is how long a certificate of ours is good, and renewBefore
	// when a start makes a new one. Browsers refuse more than 398 days.
	selfSignedLife = 397 * 24 * time.Hour
	renewBefore    = 30 * 24 * time.Hour
	// maxKeyFile is far more than one private key in PEM, in bytes.
	maxKeyFile = 64 << 10
)

// Who else may not have access to a private key, as mode bits that must be off.
const (
	ownerOnly   fs.FileMode = 0o077
	notEveryone fs.FileMode = 0o007 // Debian's ssl-cert group may read TLS keys
)

// serverTLS is the TLS side of the HTTPS listener: with the configured
// certificate, else with a self-signed one for loopback in the data directory.
func serverTLS(cfg *config.Config, now time.Time, log *slog.Logger) (*tls.Config, error) {
	var pair tls.Certificate
	var err error
	if files := cfg.Listen.TLS; files != nil {
		pair, err = loadPair(files.CertFile, files.KeyFile, notEveryone)
	} else {
		certFile, keyFile := selfSignedFiles(cfg)
		pair, err = selfSignedPair(certFile, keyFile, now, log)
	}
	if err != nil {
		return nil, err
	}
	return &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}, nil
}

// mutualTLS is public for the listener where portals show a certificate. It demands
// one, and that they have its key; whether it is the right one the OIDC door
// decides by the portal's own authorities or key set, so none is checked here.
func mutualTLS(public *tls.Config) *tls.Config {
	mutual := public.Clone()
	mutual.ClientAuth = tls.RequireAnyClientCert
	return mutual
}

// radiusTLS is the gateway's certificate for RADIUS over TLS, and who vouches for
// those of the clients.
func radiusTLS(t *config.RadiusTLS) (tls.Certificate, *x509.CertPool, error) {
	pair, err := loadPair(t.CertFile, t.KeyFile, notEveryone)
	if err != nil {
		return tls.Certificate{}, nil, err
	}
	roots := x509.NewCertPool()
	for _, ca := range t.CAs {
		roots.AddCert(ca)
	}
	return pair, roots, nil
}

func selfSignedFiles(cfg *config.Config) (certFile, keyFile string) {
	return filepath.Join(cfg.DataDir, "tls.crt"), filepath.Join(cfg.DataDir, "tls.key")
}

// selfSignedPair loads our own certificate, and makes it anew if it isn't there,
// is about to expire, or can't be used, as after a kill between its two files.
func selfSignedPair(certFile, keyFile string, now time.Time, log *slog.Logger) (tls.Certificate, error) {
	pair, err := loadPair(certFile, keyFile, ownerOnly)
	var exposed *usageError
	switch {
	case err == nil && now.Add(renewBefore).Before(pair.Leaf.NotAfter):
		return pair, nil
	case errors.As(err, &exposed): // a new key would hide that somebody may have had it
		return tls.Certificate{}, err
	case err == nil:
		log.Warn("the self-signed certificate is about to expire and is made anew: give it to the portals that trust it", "file", certFile)
	case !errors.Is(err, fs.ErrNotExist):
		log.Warn("the self-signed certificate can't be used and is made anew: give it to the portals that trust it", "err", err)
	}
	cert, key, err := selfSigned(now)
	if err != nil {
		return tls.Certificate{}, err
	}
	if err := replaceFile(keyFile, key, 0o600); err != nil {
		return tls.Certificate{}, err
	}
	if err := replaceFile(certFile, cert, 0o644); err != nil { // public: portals read it
		return tls.Certificate{}, err
	}
	return loadPair(certFile, keyFile, ownerOnly)
}

// loadPair loads a certificate and its key. The error is a *usageError if the
// key is in the reach of others.
func loadPair(certFile, keyFile string, forbidden fs.FileMode) (tls.Certificate, error) {
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate: %w", err)
	}
	key, err := readPrivate(keyFile, forbidden)
	if err != nil {
		return tls.Certificate{}, err
	}
	pair, err := tls.X509KeyPair(cert, key)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("certificate %s: %w", certFile, err)
	}
	return pair, nil
}

// readPrivate reads the file of a private key, which must be ours or root's.
func readPrivate(path string, forbidden fs.FileMode) ([]byte, error) {
	f, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0) // doesn't wait at a FIFO
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return nil, fmt.Errorf("private key: %w", err)
	}
	if mode := info.Mode(); !mode.IsRegular() {
		return nil, fmt.Errorf("private key %s is no regular file", path)
	} else if mode.Perm()&forbidden != 0 {
		return nil, &usageError{fmt.Sprintf("others than its owner may use the private key %s (mode %04o)", path, mode.Perm()), "chmod 600 " + path}
	}
	if stat, ok := info.Sys().(*syscall.Stat_t); ok && stat.Uid != 0 && int(stat.Uid) != os.Geteuid() {
		return nil, &usageError{
			fmt.Sprintf("the private key %s belongs to another user (uid %d)", path, stat.Uid),
			"run otpgate as that user, or chown the file",
		}
	}
	return io.ReadAll(io.LimitReader(f, maxKeyFile))
}

func selfSigned(now time.Time) (cert, key []byte, err error) {
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{
		SerialNumber:          serial,
		Subject:               pkix.Name{CommonName: "otpgate, self-signed, for loopback only"},
		DNSNames:              []string{"localhost"},
		IPAddresses:           []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		NotBefore:             now.Add(-time.Hour),
		NotAfter:              now.Add(selfSignedLife),
		KeyUsage:              x509.KeyUsageDigitalSignature,
		ExtKeyUsage:           []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		return nil, nil, err
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}), nil
}
