package config

import (
	"crypto/x509"
	"net/netip"
	"path/filepath"
	"time"

	"github.com/go-jose/go-jose/v4"
)

// Config is the whole of gateway.yaml. Relative paths in it start at the
// directory that the file is in. A secret is never a value in it: it is a
// file's path or the name of an environment variable.
type Config struct {
	// Directory of the database, the audit log and what is made at first
	// start. Made if missing; one daemon at a time may use it. Default: data.
	DataDir string `yaml:"data_dir" jsonschema:"format=path,minLength=1,default=data"`

	// File of the master key, under which token keys are sealed. Made at first
	// start, mode 0600. Back it up, apart from the data: without it no backup
	// can be read. Default: master.key in data_dir.
	MasterKeyFile string `yaml:"master_key_file" jsonschema:"format=path,minLength=1"`

	// Where the records are kept.
	Store Store `yaml:"store"`

	// Where the daemon listens, the RADIUS door apart.
	Listen Listen `yaml:"listen"`

	// The banks, or groups of internal systems, that this gateway serves: at
	// least one. Each has customers, tokens and a policy of its own.
	Realms []Realm `yaml:"realms" jsonschema:"required,minItems=1"`

	// The RADIUS door: VPNs, switches, log-in to servers.
	Radius Radius `yaml:"radius" jsonschema:"nullable"`

	// The OpenID Connect door: banking portals.
	OIDC OIDC `yaml:"oidc" jsonschema:"required"`
}

// Store says where the records are kept.
type Store struct {
	// The engine. bolt: one file, otpgate.db in data_dir. Default: bolt.
	Engine string `yaml:"engine" jsonschema:"enum=bolt,default=bolt"`
}

// Listen says where the daemon listens. An address is ADDRESS:PORT, or :PORT
// for all of the machine's addresses; port 0 takes a free one.
type Listen struct {
	// Address of the OpenID Connect door and the customers' pages, over HTTPS.
	// Default: 127.0.0.1:8443.
	HTTPS string `yaml:"https" jsonschema:"format=host-port,default=127.0.0.1:8443"`

	// Certificate for https. Left out: a self-signed one for loopback is made
	// at first start, which is good for trying out only.
	TLS *TLS `yaml:"tls"`

	// Address of the portals' endpoints over HTTPS once more, for portals that
	// show a certificate (mutual TLS, RFC 8705). It is apart from https, so that
	// no browser is asked for one, and has the same certificate. Portals find it
	// in the discovery document (mtls_endpoint_aliases). No proxy that ends TLS
	// may stand before it. Left out: none.
	HTTPSMTLS string `yaml:"https_mtls" jsonschema:"format=host-port"`

	// Address of /metrics, /healthz and /readyz, over plain HTTP: keep it off
	// the public network. Default: 127.0.0.1:9464.
	Metrics string `yaml:"metrics" jsonschema:"format=host-port,default=127.0.0.1:9464"`

	// Unix socket that the other otpgate commands talk to, mode 0600. A path
	// of at most 107 bytes. Default: admin.sock in data_dir.
	AdminSocket string `yaml:"admin_socket" jsonschema:"format=path,minLength=1"`
}

// TLS is a certificate and its key.
type TLS struct {
	// File of the certificate and its intermediates, PEM, the server's own
	// first.
	CertFile string `yaml:"cert_file" jsonschema:"required,format=path,minLength=1"`

	// File of the certificate's private key, PEM, not readable by everyone.
	KeyFile string `yaml:"key_file" jsonschema:"required,format=path,minLength=1"`
}

// Realm is one bank, or one group of internal systems.
type Realm struct {
	// Name of the realm on the command line (NAME@REALM) and in the log: at
	// most 32 lower-case letters, digits and hyphens, a letter first. It can't
	// be changed once the realm has users.
	ID string `yaml:"id" jsonschema:"required,pattern=^[a-z][a-z0-9-]*$,maxLength=32" must:"be lower-case letters, digits and hyphens, a letter first"`

	// サービスID: the number by which customers know the realm, 1 to 10
	// digits, in quotes.
	ServiceID string `yaml:"service_id" jsonschema:"required,pattern=^[0-9]+$,maxLength=10" must:"be digits"`

	// What the realm is called on the customers' pages.
	Name Name `yaml:"name" jsonschema:"required"`

	// How the realm's tokens make their codes, unless a token says otherwise.
	OTP OTP `yaml:"otp"`

	// When wrong codes lock a user, and what opens the lock.
	Lockout Lockout `yaml:"lockout"`

	// How many tokens one user may have at a time, 0 to 10: those that are
	// assigned, issued, in service or suspended. One more is refused. 0: no
	// limit. Default: 0.
	TokensPerUser int `yaml:"tokens_per_user" jsonschema:"minimum=0,maximum=10,default=0"`

	// How long after the issue of a software token the same user may be issued
	// another in its place, such as 30m; 0s to 168h. Default: 30m.
	ReissueCooldown time.Duration `yaml:"reissue_cooldown" jsonschema:"minimum=0s,maximum=168h,default=30m"`

	// How long after a code was accepted the same client may show it again, once,
	// for the same user and Calling-Station-Id: 1s to 10s. For gear that turns to
	// a second server when an answer is lost, which else tells the person that a
	// right code is wrong. It bends single use: whoever can see a code and ask as
	// that client and station has as long. Each use stands in the audit log.
	// Where many people share a Calling-Station-Id, as behind one NAT address or a
	// proxy that writes its own, anybody there who sees a code has that time too.
	// Requests without a Calling-Station-Id never have it. Left out: off.
	FailoverGrace time.Duration `yaml:"failover_grace" jsonschema:"minimum=1s,maximum=10s"`

	// How user names are taken at the RADIUS door. exact: as typed. lower: in
	// lower case, for gear and people that write Taro or TARO; a user whose name
	// isn't in lower case can't log in there, and otpgate user add refuses one.
	// Default: exact.
	UserNames string `yaml:"user_names" jsonschema:"enum=exact,enum=lower,default=exact"`

	// RADIUS attributes that an Access-Accept carries for everybody of the realm,
	// such as { Class: staff, Session-Timeout: 3600 }: a value or a list of them.
	// In a text, {user}, {realm} and {groups} (joined by commas) stand for what
	// they say; one with {group} is sent once for each of the user's groups. To
	// somebody in no group, attributes with {group} or {groups} aren't sent. Where
	// a client's reply or the groups below have an attribute too, theirs counts.
	RadiusReply Reply `yaml:"radius_reply"`

	// RADIUS attributes for members of a group, such as
	// { admins: { Class: admins, Cisco-AVPair: ["shell:priv-lvl=15"] } }, over
	// those of the client and the realm. Of several groups that have the same
	// attribute, the first in the user's list counts. otpgate user groups puts
	// somebody into groups; names are compared letter by letter.
	Groups ReplyByGroup `yaml:"groups"`

	// What RADIUS asks people in, where gear shows it: for the code, the next code,
	// a new PIN. ja: Japanese, but English to a client with charset latin-1; en:
	// English. Default: ja.
	Language string `yaml:"language" jsonschema:"enum=ja,enum=en,default=ja"`

	// The customers' confirmation cards. {} is a card with all defaults. Left
	// out: the realm has none.
	Card *Card `yaml:"card"`

	// Transactions that a portal may have its customers confirm with a code
	// (authorization_details, RFC 9396), each with what stands on the page above
	// the code, at most 32. A portal sends a JSON object with "type" and the fields
	// below, all of them texts, in a pushed or signed request. Left out: none.
	Transactions []Transaction `yaml:"transactions" jsonschema:"nullable,maxItems=32"`

	// How the realm's pages look.
	Theme Theme `yaml:"theme"`
}

// Transaction is a type of what customers confirm.
type Transaction struct {
	// Its name in requests ("type"): at most 64 letters, digits, dots, hyphens,
	// underscores, slashes and colons.
	Type string `yaml:"type" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._:/-]*$,maxLength=64" must:"be letters, digits, dots, hyphens, underscores, slashes and colons"`

	// Its heading on the page, such as { ja: 振込, en: Transfer }.
	Title Name `yaml:"title" jsonschema:"required"`

	// Its lines, in the order of the page, 1 to 12. A request with a field that
	// isn't here is refused.
	Fields []TransactionField `yaml:"fields" jsonschema:"required,minItems=1,maxItems=12"`
}

// TransactionField is a line of a transaction.
type TransactionField struct {
	// Its name in requests: at most 64 letters, digits, dots, hyphens and
	// underscores, and not type.
	Name string `yaml:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$,maxLength=64" must:"be letters, digits, dots, hyphens and underscores"`

	// What its value is, always a JSON string. text: one line that can be read.
	// amount: 150000 or 1234.50, shown with the transaction's currency and by the
	// customs of the language. currency: its code (ISO 4217), at most one in a
	// transaction, and one wherever there is an amount: a request that has an amount
	// must have it. account: digits, capitals, hyphens and single spaces, at most 34.
	// date: 2026-11-30.
	Kind string `yaml:"kind" jsonschema:"required,enum=text,enum=amount,enum=currency,enum=account,enum=date"`

	// What stands before it on the page, such as { ja: 受取人, en: Payee }.
	Label Name `yaml:"label" jsonschema:"required"`

	// Whether a request without it is refused. Default: false.
	Required bool `yaml:"required" jsonschema:"default=false"`

	// How many characters a text may have, 1 to 140. Default: 60.
	MaxLength int `yaml:"max_length" jsonschema:"minimum=1,maximum=140,default=60"`
}

// Name is what a realm, or something on its pages, is called in each language of
// the pages.
type Name struct {
	// In Japanese: 1 to 60 characters.
	JA string `yaml:"ja" jsonschema:"required,minLength=1,maxLength=60"`

	// In English: 1 to 60 characters.
	EN string `yaml:"en" jsonschema:"required,minLength=1,maxLength=60"`
}

// OTP is how tokens make their codes.
type OTP struct {
	// What the code moves with. totp: the time (RFC 6238); hotp: a counter, at
	// each press of a button (RFC 4226). Default: totp.
	Type string `yaml:"type" jsonschema:"enum=totp,enum=hotp,default=totp"`

	// Digits in a code, 6 to 8. Default: 6.
	Digits int `yaml:"digits" jsonschema:"minimum=6,maximum=8,default=6"`

	// How long one code is shown, in seconds, 15 to 120. Of totp tokens only: a
	// hotp token has none, and its realm's says nothing. Default: 30.
	Period int `yaml:"period" jsonschema:"minimum=15,maximum=120,default=30"`

	// The hash under the HMAC: SHA1, SHA256 or SHA512. SHA1 is what most
	// hardware tokens have, and sound for this use. Default: SHA1.
	Algorithm string `yaml:"algorithm" jsonschema:"enum=SHA1,enum=SHA256,enum=SHA512,default=SHA1"`
}

// Lockout is when wrong codes lock a user, and what opens the lock.
type Lockout struct {
	// How many wrong codes in a row lock a user, 1 to 100. Default: 10.
	Consecutive int `yaml:"consecutive" jsonschema:"minimum=1,maximum=100,default=10"`

	// How long until the lock opens by itself, such as 30m or 12h; 1m to 168h.
	// Left out: never, a clerk opens it.
	UnlockAfter time.Duration `yaml:"unlock_after" jsonschema:"minimum=1m,maximum=168h"`

	// How many right codes in a row open the lock, 2 to 10: for employees, who
	// have no clerk at hand. Left out: none do.
	UnlockCodes int `yaml:"unlock_codes" jsonschema:"minimum=2,maximum=10"`

	// How many wrong codes within 13 weeks lock a user, or wrong PINs the user's PIN,
	// right ones between them or not, 10 to 1000. Only a clerk opens that lock.
	// Default: 30.
	LongRun int `yaml:"long_run" jsonschema:"minimum=10,maximum=1000,default=30"`

	// How many wrong codes, PINs and passwords in the whole realm within ten minutes
	// raise an alarm in the log, the audit log and the metrics, 10 to 1000000:
	// somebody may be guessing once at each of many accounts. They lock nobody.
	// Default: 100.
	RealmAlarm int `yaml:"realm_alarm" jsonschema:"minimum=10,maximum=1000000,default=100"`
}

// Card is the confirmation card (お客様カード): printed digits in rows and columns
// of cells, some of which a customer is asked to read off. A card in use keeps
// the columns, rows and digits that it was made with.
type Card struct {
	// The columns' headings, 2 to 20, of 1 to 4 characters. Left out: ア, イ, ウ,
	// エ, オ, カ, キ, ク.
	Columns []string `yaml:"columns" jsonschema:"minItems=2,maxItems=20,minLength=1,maxLength=4"`

	// Rows of cells, 1 to 10. Default: 1.
	Rows int `yaml:"rows" jsonschema:"minimum=1,maximum=10,default=1"`

	// Digits in each cell, 1 to 4. Default: 1.
	DigitsPerCell int `yaml:"digits_per_cell" jsonschema:"minimum=1,maximum=4,default=1"`

	// How many cells are asked for at a time, 2 to 4 and at most half of them.
	// The same ones are asked for until they are answered right. Default: 2.
	Asked int `yaml:"asked" jsonschema:"minimum=2,maximum=4,default=2"`

	// How many wrong answers in a row lock the card, 1 to 5; a clerk unlocks it.
	// Ten within 13 weeks end it for good. Default: 3.
	Tries int `yaml:"tries" jsonschema:"minimum=1,maximum=5,default=3"`

	// How long a clerk may let the card stand in for codes, while a customer
	// waits for a new token; 1h to 336h. Default: 336h.
	FallbackMax time.Duration `yaml:"fallback_max" jsonschema:"minimum=1h,maximum=336h,default=336h"`
}

// Theme is how a realm's pages look.
type Theme struct {
	// Colour of buttons and links, as "#rrggbb" in quotes, with a contrast of
	// at least 4.5:1 against white. Left out: the colour of the style sheet.
	Accent string `yaml:"accent" jsonschema:"format=color-hex,pattern=^#[0-9A-Fa-f]{6}$" must:"be a colour in quotes, such as \"#1f4e79\""`
}

// Radius is the RADIUS door.
type Radius struct {
	// Addresses to listen on, over UDP; the usual ports are 1812, and 1813 for
	// accounting. Left out: no RADIUS.
	UDP []string `yaml:"udp" jsonschema:"nullable,format=host-port"`

	// RADIUS over TLS (RadSec), for the clients that have a certificate. Left out:
	// none.
	TLS *RadiusTLS `yaml:"tls"`

	// EAP, for clients that ask by it. Left out: off, and who asks by EAP is
	// rejected.
	EAP *RadiusEAP `yaml:"eap"`

	// Where passwords are checked that people show besides their codes, at most
	// 32 places. A client names one of them in first_factor. Left out: none.
	FirstFactors []FirstFactor `yaml:"first_factors" jsonschema:"nullable,maxItems=32"`

	// Who may ask. A packet from anywhere else is dropped. Left out: nobody.
	Clients []RadiusClient `yaml:"clients" jsonschema:"nullable"`
}

// RadiusTLS is RADIUS over TLS 1.3 or 1.2 (RFC 6614), with RADIUS/1.1 (RFC 9765)
// for clients that offer it.
type RadiusTLS struct {
	// Addresses to listen on, over TCP; the usual port is 2083. At least one.
	Listen []string `yaml:"listen" jsonschema:"required,minItems=1,format=host-port"`

	// File of the gateway's certificate and its intermediates, PEM, its own
	// first. The clients check it.
	CertFile string `yaml:"cert_file" jsonschema:"required,format=path,minLength=1"`

	// File of that certificate's private key, PEM, not readable by everyone.
	KeyFile string `yaml:"key_file" jsonschema:"required,format=path,minLength=1"`

	// File of the certificates, PEM, of the authorities that the clients'
	// certificates must come from: your own, not the public ones. A client's
	// self-signed certificate may stand there itself.
	CAFile string `yaml:"ca_file" jsonschema:"required,format=path,minLength=1"`

	// CAs are the certificates in ca_file.
	CAs []*x509.Certificate `yaml:"-"`
}

// RadiusEAP is the methods of EAP (RFC 3748) that are offered.
type RadiusEAP struct {
	// The methods, in the order in which they are offered, each once. ttls: inner
	// PAP, GTC or MSCHAPv2; peap: inner GTC or MSCHAPv2. Both hide in TLS what is
	// typed, and need the certificate. gtc: the typed text as it is; mschapv2: the
	// code alone. Both of these are for gear that asks inside a tunnel of its own,
	// such as IKEv2. Left out: ttls, peap.
	Methods []string `yaml:"methods" jsonschema:"nullable,minItems=1,maxItems=4,enum=ttls,enum=peap,enum=gtc,enum=mschapv2"`

	// File of the certificate that ttls and peap show to people's devices, and its
	// intermediates, PEM, its own first. The devices must be told to check it.
	CertFile string `yaml:"cert_file" jsonschema:"format=path,minLength=1"`

	// File of that certificate's private key, PEM, not readable by everyone.
	KeyFile string `yaml:"key_file" jsonschema:"format=path,minLength=1"`
}

// FirstFactor is a place where passwords are checked: either ldap or radius.
type FirstFactor struct {
	// What clients call it in first_factor: at most 64 letters, digits, dots,
	// hyphens and underscores. none and pin are taken.
	Name string `yaml:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$,maxLength=64" must:"be letters, digits, dots, hyphens and underscores"`

	// A directory, such as Active Directory or OpenLDAP.
	LDAP *LDAPFactor `yaml:"ldap" jsonschema:"oneof_required=ldap"`

	// Another RADIUS server, such as that of the tokens that people had before.
	Radius *RadiusFactor `yaml:"radius" jsonschema:"oneof_required=radius"`
}

// LDAPFactor is a directory that a person's password is checked at, by a bind.
// The person is found by user_dn, or else by base_dn and filter. A search, for
// people or for groups, needs bind_dn and its password.
type LDAPFactor struct {
	// The directory's servers, asked in this order: ldaps://HOST, or ldap://HOST,
	// which must do StartTLS before anything is said. :PORT may follow. 1 to 8.
	// HOST stands in the server's certificate.
	Servers []string `yaml:"servers" jsonschema:"required,minItems=1,maxItems=8,pattern=^ldaps?://[^/?#@ ]+$,maxLength=300" must:"be ldaps://HOST, or ldap://HOST for StartTLS, such as ldaps://dc1.bank.example"`

	// File of the certificates, PEM, of the authorities that the servers'
	// certificates come from. Left out: those that the machine trusts.
	CAFile string `yaml:"ca_file" jsonschema:"format=path,minLength=1"`

	// Distinguished name of the account that searches are made as.
	BindDN string `yaml:"bind_dn" jsonschema:"minLength=1,maxLength=1000"`

	// File of that account's password, readable by the daemon's user alone (mode
	// 0600).
	BindPasswordFile string `yaml:"bind_password_file" jsonschema:"format=path,minLength=1"`

	// Environment variable that holds that account's password.
	BindPasswordEnv string `yaml:"bind_password_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$" must:"be the name of an environment variable, never the password itself"`

	// The person's distinguished name, where it can be made from the user name:
	// uid={user},ou=people,dc=bank,dc=example. {user} is escaped.
	UserDN string `yaml:"user_dn" jsonschema:"minLength=1,maxLength=1000"`

	// Where the search for a person begins, with all that is below.
	BaseDN string `yaml:"base_dn" jsonschema:"minLength=1,maxLength=1000"`

	// What finds the person, and nobody else: (sAMAccountName={user}). {user} is
	// escaped.
	Filter string `yaml:"filter" jsonschema:"minLength=1,maxLength=1000"`

	// Where a person's groups are. They are added to those of otpgate user groups.
	// Left out: none are looked for.
	Groups *LDAPGroups `yaml:"groups"`

	// How long a check may take, over all servers, 0.2s to 3s: gear gives up
	// after 3 s. Default: 2s.
	Timeout time.Duration `yaml:"timeout" jsonschema:"minimum=0.2s,maximum=3s,default=2s"`

	// CAs are the certificates in ca_file; none: those that the machine trusts.
	CAs []*x509.Certificate `yaml:"-"`
	// BindPassword is what bind_password_file or bind_password_env holds.
	BindPassword Secret `yaml:"-"`
}

// LDAPGroups is where a person's groups are: either attribute, or base_dn and
// filter. A group is called by the first value in its distinguished name: vpn of
// cn=vpn,ou=groups,dc=bank,dc=example.
type LDAPGroups struct {
	// Attribute of the person's entry that holds the groups' distinguished names:
	// memberOf.
	Attribute string `yaml:"attribute" jsonschema:"pattern=^[A-Za-z][A-Za-z0-9;-]*$,maxLength=100,oneof_required=attribute" must:"be the name of an attribute, such as memberOf"`

	// Where the search for groups begins, with all that is below.
	BaseDN string `yaml:"base_dn" jsonschema:"minLength=1,maxLength=1000,oneof_required=search"`

	// What finds the person's groups: (member={dn}) or (memberUid={user}), both
	// escaped.
	Filter string `yaml:"filter" jsonschema:"minLength=1,maxLength=1000,oneof_required=search"`
}

// RadiusFactor is another RADIUS server that is asked by PAP, and whose challenges
// are passed on.
type RadiusFactor struct {
	// The server, and those that stand in for it, asked in this order: addresses
	// with ports, such as 192.0.2.10:1812 or "[2001:db8::10]:1812". 1 to 8. One is
	// asked after a third of the time-out in which the one before was silent.
	Servers []string `yaml:"servers" jsonschema:"required,minItems=1,maxItems=8,pattern=^([0-9.]+|\\[[0-9A-Fa-f:.]+\\]):[0-9]+$,maxLength=60" must:"be an address and a port, such as 192.0.2.10:1812 or [2001:db8::10]:1812; a name could mean another machine tomorrow"`

	// File of the secret shared with them, readable by the daemon's user alone
	// (mode 0600).
	SecretFile string `yaml:"secret_file" jsonschema:"format=path,minLength=1,oneof_required=secret_file"`

	// Environment variable that holds the shared secret.
	SecretEnv string `yaml:"secret_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$,oneof_required=secret_env" must:"be the name of an environment variable, never the secret itself"`

	// How long the answer may take, over all servers, 0.2s to 3s: gear gives up
	// after 3 s. Default: 2.5s.
	Timeout time.Duration `yaml:"timeout" jsonschema:"minimum=0.2s,maximum=3s,default=2.5s"`

	// Whether people who are known here (otpgate user add), and have no token yet, or
	// one that was only assigned or issued, pass by that server's answer alone: for
	// the time in which they move here one by one. Once somebody has had a token in
	// service, its loss, lock, suspension or release ends it. Whoever leaves must be
	// closed at the old server as well. Each such log-in stands in the audit log as
	// vouched. Default: false.
	Migrating bool `yaml:"migrating" jsonschema:"default=false"`

	// Whether a reply without Message-Authenticator is dropped. false only for an
	// old server that can't send it: it is open to BlastRADIUS (CVE-2024-3596).
	// Default: true.
	RequireMessageAuthenticator bool `yaml:"require_message_authenticator" jsonschema:"default=true"`

	// Addresses are those of servers.
	Addresses []netip.AddrPort `yaml:"-"`
	// Secret is what secret_file or secret_env holds.
	Secret Secret `yaml:"-"`
}

// ClientCertificate is by what a RADIUS client's certificate is known: one of
// these. It must come from an authority of radius.tls.ca_file besides.
type ClientCertificate struct {
	// The Common Name of its subject, letter by letter.
	SubjectCN string `yaml:"subject_cn" jsonschema:"minLength=1,maxLength=64,oneof_required=subject_cn"`

	// A DNS name in it (subjectAltName), such as vpn.bank.example. Upper and
	// lower case are the same; * has no meaning.
	SANDNS string `yaml:"san_dns" jsonschema:"pattern=^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$,maxLength=253,oneof_required=san_dns" must:"be a DNS name, such as vpn.bank.example"`

	// The SHA-256 fingerprint of this one certificate, 64 hex digits, with or
	// without colons, as openssl x509 -fingerprint -sha256 prints it.
	SHA256 string `yaml:"sha256" jsonschema:"pattern=^[0-9A-Fa-f]{2}(:?[0-9A-Fa-f]{2}){31}$,oneof_required=sha256" must:"be 64 hex digits, with or without colons"`
}

// RadiusClient is a VPN, a switch, a server: whatever asks over RADIUS. Either
// secret_file or secret_env gives the shared secret, of at least 16 characters,
// of one that asks over UDP; one that asks over TLS has a certificate instead.
// What does both has two entries.
type RadiusClient struct {
	// Name of the client in the log: at most 64 letters, digits, dots, hyphens
	// and underscores.
	Name string `yaml:"name" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$,maxLength=64" must:"be letters, digits, dots, hyphens and underscores"`

	// Where its packets come from: one address (192.0.2.10) or a network
	// (192.0.2.0/24). Where several match, the longest prefix counts.
	Address netip.Prefix `yaml:"address" jsonschema:"required"`

	// File of the shared secret, readable by the daemon's user alone (mode
	// 0600). One that is missing inside data_dir is made at the very first
	// start, before there is a database.
	SecretFile string `yaml:"secret_file" jsonschema:"format=path,minLength=1,oneof_required=secret_file"`

	// Environment variable that holds the shared secret.
	SecretEnv string `yaml:"secret_env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$,oneof_required=secret_env" must:"be the name of an environment variable, never the secret itself"`

	// What its certificate is known by, over TLS.
	Certificate *ClientCertificate `yaml:"certificate" jsonschema:"oneof_required=certificate"`

	// The realm of the people who log in there, by its id. They may write it:
	// NAME@REALM or REALM\NAME, in upper or lower case, is NAME.
	Realm string `yaml:"realm" jsonschema:"required"`

	// Other realms whose people may log in there as well, by their ids, at most
	// 32. They write NAME@REALM or REALM\NAME. What names no realm of the client
	// belongs to the name. Left out: none.
	Realms []string `yaml:"realms" jsonschema:"nullable,maxItems=32"`

	// How its packets write user names. utf-8: as RFC 2865 has it. latin-1: for
	// old gear (ISO 8859-1). Default: utf-8.
	Charset string `yaml:"charset" jsonschema:"enum=utf-8,enum=latin-1,default=utf-8"`

	// RADIUS attributes that its Access-Accepts carry, such as
	// { Filter-Id: "{group}", Mikrotik-Group: full }, as in a realm's radius_reply
	// and over that. They are checked against otpgate's dictionary, which has the
	// attributes of RFC 2865, 2868 and 2869 that decide about a log-in, those for
	// IPv6 (2001:db8::10, or 2001:db8:1::/48 for a prefix), and those
	// of Cisco, Citrix, F5, Fortinet, Juniper, Microsoft, Mikrotik and Palo Alto.
	Reply Reply `yaml:"reply"`

	// What people type, and when. otp: the one-time code alone. password+otp: the
	// first factor and the code, in one field. challenge: the first factor, and the
	// code when they are asked for it. A challenge comes whether the first factor
	// was right or not. Default: otp.
	Mode string `yaml:"mode" jsonschema:"enum=otp,enum=password+otp,enum=challenge,default=otp"`

	// What people show besides the code. none; pin: a PIN of the gateway's own,
	// which a clerk sets (otpgate user pin), or the person at the first log-in; or
	// the name of one of radius.first_factors. With mode otp it is none, or a
	// radius one that is migrating; with mode challenge it must be written. Default:
	// none.
	FirstFactor string `yaml:"first_factor" jsonschema:"pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$,maxLength=64,default=none" must:"be none, pin, or the name of one of radius.first_factors"`

	// Where the code stands in mode password+otp. last: behind the password; first:
	// before it. Default: last.
	CodePosition string `yaml:"code_position" jsonschema:"enum=last,enum=first,default=last"`

	// Whether a request without Message-Authenticator is dropped. false only
	// for old gear that can't send it: it is open to BlastRADIUS
	// (CVE-2024-3596), and must ask by PAP: a request by CHAP or MS-CHAPv2 has
	// nothing else that shows who sent it. Not beside certificate: TLS shows who
	// sent it. Default: true.
	RequireMessageAuthenticator bool `yaml:"require_message_authenticator" jsonschema:"default=true"`

	// How many requests a second are evaluated, 0 to 100000; the rest is dropped,
	// and the client sends it again. It keeps one client that runs wild from
	// taking the gateway from the others: 1000 are ten thousand people within ten
	// seconds of a power cut. Accounting has three times as much of its own. 0: no
	// limit. Default: 1000.
	Rate int `yaml:"rate" jsonschema:"minimum=0,maximum=100000,default=1000"`

	// Whether its accounting (RFC 2866: who began and ended a session) is
	// answered, and each message is written to the audit log. It comes on the
	// addresses of radius.udp: add the port that the client sends it to, usually
	// :1813, there. false: it is dropped. Default: false.
	Accounting bool `yaml:"accounting" jsonschema:"default=false"`

	// Secret is what secret_file or secret_env holds. Empty if the file is yet
	// to be made; see Config.MakeSecrets.
	Secret Secret `yaml:"-"`

	secretToMake bool
}

// OIDC is the OpenID Connect door.
type OIDC struct {
	// Address of the gateway as portals and browsers see it: https, a host, a
	// port if it isn't 443, and no more. It stands in every token, and portals
	// compare it letter by letter.
	Issuer string `yaml:"issuer" jsonschema:"required,format=uri,pattern=^https://[^/?#]+$" must:"be https:// and a host, with no path and no slash at the end, such as https://otp.bank.example"`

	// Address of listen.https_mtls as portals see it: https, a host and a port.
	// Default: the issuer's host, with the port of listen.https_mtls.
	MTLSURL string `yaml:"mtls_url" jsonschema:"format=uri,pattern=^https://[^/?#]+$" must:"be https:// and a host, with no path and no slash at the end, such as https://otp.bank.example:8444"`

	// How many requests a second one address (of IPv6: one /64) may make to the
	// endpoints that portals talk to, 0 to 100000; above that the answer is 429.
	// Browsers may begin as many log-ins from it, counted apart.
	// Portals behind one proxy have one address. 0: no limit. Default: 1000.
	AddressRate int `yaml:"address_rate" jsonschema:"minimum=0,maximum=100000,default=1000"`

	// How long a key signs ID tokens until the next one does, 168h to 17520h; 0s:
	// until otpgate key rotate --oidc. A next key is published two days before it
	// signs. 2160h are 90 days. Default: 2160h.
	KeyRotation time.Duration `yaml:"key_rotation" jsonschema:"minimum=0s,maximum=17520h,default=2160h"`

	// The portals. Left out: none.
	Clients []OIDCClient `yaml:"clients" jsonschema:"nullable"`
}

// OIDCClient is a banking portal, or whatever else asks over OpenID Connect.
type OIDCClient struct {
	// The client_id: at most 64 letters, digits, dots, hyphens and
	// underscores.
	ID string `yaml:"id" jsonschema:"required,pattern=^[A-Za-z0-9][A-Za-z0-9._-]*$,maxLength=64" must:"be letters, digits, dots, hyphens and underscores"`

	// The realm of the portal's customers, by its id.
	Realm string `yaml:"realm" jsonschema:"required"`

	// What is asked of the portal. fapi2: pushed requests, PKCE S256, keys or a
	// certificate in place of secrets, and access tokens that are bound to it
	// (FAPI 2.0). oidc: for what can do no better. entra-eam: Microsoft Entra's
	// external authentication method. Default: fapi2.
	Profile string `yaml:"profile" jsonschema:"enum=fapi2,enum=oidc,enum=entra-eam,default=fapi2"`

	// How the portal authenticates; any other way is refused. private_key_jwt:
	// by a signature under one of its keys. tls_client_auth: by a certificate
	// from the authority in certificate. self_signed_tls_client_auth: by a
	// certificate that stands in its key set. client_secret_basic and
	// client_secret_post: by a shared secret, with profile oidc only. none: with
	// profile entra-eam, where the portal never asks by itself. Default:
	// private_key_jwt; none with profile entra-eam.
	Auth string `yaml:"auth" jsonschema:"enum=private_key_jwt,enum=tls_client_auth,enum=self_signed_tls_client_auth,enum=client_secret_basic,enum=client_secret_post,enum=none"`

	// Where a browser may be sent back to: absolute https URIs without a
	// fragment, compared letter by letter; http for loopback only. 1 to 64.
	RedirectURIs []string `yaml:"redirect_uris" jsonschema:"required,minItems=1,maxItems=64,format=uri,maxLength=2000"`

	// The portal's home, where a log-in begins: a page that can't send the browser
	// back, because the log-in has ended or expired, has a link to it. https, or
	// http for loopback. Default: the site of the first of redirect_uris.
	ClientURI string `yaml:"client_uri" jsonschema:"format=uri,minLength=1,maxLength=2000"`

	// Where a browser may be sent after it has logged out at the portal, likewise,
	// at most 64. Left out: nowhere.
	PostLogoutRedirectURIs []string `yaml:"post_logout_redirect_uris" jsonschema:"nullable,maxItems=64,format=uri,maxLength=2000"`

	// File of the portal's public keys, a JWK Set (RFC 7517), with 1 to 16 to
	// sign with: EC P-256 (ES256), RSA of 2048 bits or more (PS256) or Ed25519
	// (EdDSA). With auth self_signed_tls_client_auth each has its certificate
	// (x5c) or the certificate's SHA-256 (x5t#S256).
	JWKSFile string `yaml:"jwks_file" jsonschema:"format=path,minLength=1"`

	// Address of such a set, https, in place of jwks_file. It is fetched when it
	// is needed, kept for 10 minutes, and fetched again at once, but not more than
	// every 30 seconds, for a key that isn't in it. While the portal's server is
	// down the last set is used for up to a day. It may be an internal address;
	// the machine's proxy settings aren't used.
	JWKSURI string `yaml:"jwks_uri" jsonschema:"format=uri,minLength=1,maxLength=2000"`

	// File of the certificates, PEM, of the authorities that vouch for the server
	// at jwks_uri. Left out: those that the machine trusts.
	JWKSCAFile string `yaml:"jwks_ca_file" jsonschema:"format=path,minLength=1"`

	// The secret shared with the portal. A second one may stand beside it while
	// the portal changes over.
	Secrets []OIDCSecret `yaml:"secrets" jsonschema:"maxItems=2"`

	// What the portal's certificate must be, with auth tls_client_auth.
	Certificate *OIDCCertificate `yaml:"certificate"`

	// What its ID tokens are signed by: ES256, PS256, EdDSA, or RS256, which fapi2
	// doesn't allow. Default: ES256; RS256 with profile entra-eam.
	IDTokenAlg string `yaml:"id_token_alg" jsonschema:"enum=ES256,enum=PS256,enum=EdDSA,enum=RS256"`

	// What binds its access tokens to it, so that nobody else can use them. dpop:
	// a key of its own (RFC 9449). mtls: its certificate (RFC 8705). Default with
	// profile fapi2: mtls if the portal authenticates by a certificate, else dpop;
	// with others: nothing does.
	SenderConstraint string `yaml:"sender_constraint" jsonschema:"enum=dpop,enum=mtls"`

	// Whether its requests are signed by one of its keys (request objects, RFC
	// 9101), of jwks_file or jwks_uri. required: one that isn't is refused.
	// allowed: either. Signed requests may be pushed or, with profile oidc, come by
	// the browser. Default: allowed with auth private_key_jwt, else none are taken.
	RequestObject string `yaml:"request_object" jsonschema:"enum=required,enum=allowed"`

	// Who may name its customers by an ID token (id_token_hint): the portal's
	// first factor, at most 8. With profile entra-eam, the tenant. Left out: nobody;
	// the portal names them itself, in pushed or signed requests.
	HintIssuers []OIDCHintIssuer `yaml:"hint_issuers" jsonschema:"nullable,maxItems=8"`

	// Whether the customer may be named in the address that the browser opens,
	// with profile oidc: for a portal that can neither push nor sign its requests.
	// Whoever holds the browser can then change whose code is asked for, so the
	// portal must check that sub is the customer whom it has sent. It is warned
	// about at every start. Default: false.
	BareLoginHint bool `yaml:"bare_login_hint" jsonschema:"default=false"`

	// How many requests a second are taken from it, 0 to 100000; above that the
	// answer is 429. A log-in takes two. 0: no limit. Default: 1000.
	Rate int `yaml:"rate" jsonschema:"minimum=0,maximum=100000,default=1000"`

	// JWKS holds those of jwks_file's keys that can be used.
	JWKS jose.JSONWebKeySet `yaml:"-"`

	// JWKSCAs are the certificates in jwks_ca_file.
	JWKSCAs []*x509.Certificate `yaml:"-"`
}

// OIDCHintIssuer is somebody whose ID tokens may name a portal's customers. Either
// jwks_file or jwks_uri has the keys.
type OIDCHintIssuer struct {
	// iss of its ID tokens, letter by letter. Of a tenant of Microsoft Entra:
	// https://login.microsoftonline.com/TENANT-ID/v2.0.
	Issuer string `yaml:"issuer" jsonschema:"required,format=uri,minLength=1,maxLength=2000"`

	// aud of its ID tokens: the client_id that it knows the portal by. Of Microsoft
	// Entra: the application ID of the registration made for this gateway.
	Audience string `yaml:"audience" jsonschema:"required,minLength=1,maxLength=255"`

	// tid of its ID tokens: Microsoft Entra's tenant ID, required with profile
	// entra-eam. Left out: tid isn't looked at.
	Tenant string `yaml:"tenant" jsonschema:"minLength=1,maxLength=64"`

	// Claim whose value is the user's name in the realm. With Microsoft Entra oid,
	// which never changes, or preferred_username. Default: sub.
	CustomerClaim string `yaml:"customer_claim" jsonschema:"pattern=^[A-Za-z0-9_.:/-]+$,maxLength=255,default=sub" must:"be the name of a claim"`

	// How long ago an ID token may have expired, 0s to 1h, and by how much more than
	// ten minutes ago it may have been issued. Microsoft Entra's have expired when
	// they come. Default: 10m with profile entra-eam, else 0s.
	ExpiredFor time.Duration `yaml:"expired_for" jsonschema:"minimum=0s,maximum=1h"`

	// File of its public keys, a JWK Set (RFC 7517), as of the portal's, and those
	// that sign by RS256 too.
	JWKSFile string `yaml:"jwks_file" jsonschema:"format=path,minLength=1,oneof_required=jwks_file"`

	// Address of such a set, https, fetched as the portal's is. Of Microsoft Entra:
	// https://login.microsoftonline.com/TENANT-ID/discovery/v2.0/keys.
	JWKSURI string `yaml:"jwks_uri" jsonschema:"format=uri,minLength=1,maxLength=2000,oneof_required=jwks_uri"`

	// File of the certificates, PEM, of the authorities that vouch for the server
	// at jwks_uri. Left out: those that the machine trusts.
	JWKSCAFile string `yaml:"jwks_ca_file" jsonschema:"format=path,minLength=1"`

	// JWKS holds those of jwks_file's keys that can be used.
	JWKS jose.JSONWebKeySet `yaml:"-"`

	// JWKSCAs are the certificates in jwks_ca_file.
	JWKSCAs []*x509.Certificate `yaml:"-"`
}

// OIDCSecret says where a secret is that is shared with a portal: one of these.
// It has at least 32 characters.
type OIDCSecret struct {
	// File of the secret, readable by the daemon's user alone (mode 0600).
	File string `yaml:"file" jsonschema:"format=path,minLength=1,oneof_required=file"`

	// Environment variable that holds the secret.
	Env string `yaml:"env" jsonschema:"pattern=^[A-Za-z_][A-Za-z0-9_]*$,oneof_required=env" must:"be the name of an environment variable, never the secret itself"`

	// Secret is what they hold.
	Secret Secret `yaml:"-"`
}

// OIDCCertificate is what a portal's certificate must be: from an authority in
// ca_file, for client authentication (clientAuth, if it says for what), and with
// exactly one of these names.
type OIDCCertificate struct {
	// File of the certificates, PEM, of the authorities that it may come from:
	// your own or the bank's, not all public ones.
	CAFile string `yaml:"ca_file" jsonschema:"required,format=path,minLength=1"`

	// Its whole subject, the most specific part first (RFC 4514), such as
	// "CN=portal,O=Example Bank,C=JP". Compared letter by letter.
	SubjectDN string `yaml:"subject_dn" jsonschema:"minLength=1,maxLength=1000,oneof_required=subject_dn"`

	// A DNS name in it (subjectAltName), such as portal.bank.example. Upper and
	// lower case are the same; * has no meaning.
	SANDNS string `yaml:"san_dns" jsonschema:"pattern=^[A-Za-z0-9_]([A-Za-z0-9._-]*[A-Za-z0-9_])?$,maxLength=253,oneof_required=san_dns" must:"be a DNS name, such as portal.bank.example"`

	// A URI in it, letter by letter.
	SANURI string `yaml:"san_uri" jsonschema:"format=uri,minLength=1,maxLength=2000,oneof_required=san_uri"`

	// An IP address in it.
	SANIP string `yaml:"san_ip" jsonschema:"minLength=1,maxLength=45,oneof_required=san_ip"`

	// An e-mail address in it, letter by letter.
	SANEmail string `yaml:"san_email" jsonschema:"minLength=1,maxLength=254,oneof_required=san_email"`

	// CAs are the certificates in ca_file.
	CAs []*x509.Certificate `yaml:"-"`

	// IP is san_ip.
	IP netip.Addr `yaml:"-"`
}

// DatabaseFile is the path of the bolt engine's file.
func (c *Config) DatabaseFile() string { return filepath.Join(c.DataDir, "otpgate.db") }

// inDataDir fills in the paths whose default depends on data_dir.
func (c *Config) inDataDir() {
	if c.DataDir == "" { // it has a fault
		return
	}
	if c.MasterKeyFile == "" {
		c.MasterKeyFile = filepath.Join(c.DataDir, "master.key")
	}
	if c.Listen.AdminSocket == "" {
		c.Listen.AdminSocket = filepath.Join(c.DataDir, "admin.sock")
	}
}
