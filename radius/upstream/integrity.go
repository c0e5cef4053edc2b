package upstream

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 2865 §3 and RFC 3579 §3.2 name MD5 and HMAC-MD5; there is no other over UDP.
)

// authenticatorLength is the octets in the value of a Message-Authenticator
// (RFC 3579 §3.2).
const authenticatorLength = md5.Size

// messageAuthenticator is the HMAC-MD5 of the packet with the attribute's value,
// at offset, taken as zero (RFC 3579 §3.2). In that of a reply the header has the
// Request Authenticator.
func messageAuthenticator(packet []byte, offset int, secret Secret) []byte {
	mac := hmac.New(md5.New, secret)
	mac.Write(packet[:offset])
	mac.Write(make([]byte, authenticatorLength))
	mac.Write(packet[offset+authenticatorLength:])
	return mac.Sum(nil)
}

// responseAuthenticator is that of a reply with the Request Authenticator in its
// header: MD5(Code + ID + Length + RequestAuth + Attributes + Secret), RFC 2865
// §3.
func responseAuthenticator(reply []byte, secret Secret) []byte {
	sum := md5.New() //nolint:gosec // see the import
	sum.Write(reply)
	sum.Write(secret)
	return sum.Sum(nil)
}
