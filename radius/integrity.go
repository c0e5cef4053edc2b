package radius

import (
	"crypto/hmac"
	"crypto/md5" //nolint:gosec // RFC 2865 §3 and RFC 3579 §3.2 name MD5 and HMAC-MD5; there is no other over UDP.
	"hash"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2869"
)

// authenticatorLength is the octets in the value of a Message-Authenticator
// (RFC 3579 §3.2).
const authenticatorLength = md5.Size

// checkIntegrity returns the reason to drop the request unless it comes from
// someone who has the shared secret, as far as that can be known.
func (r *request) checkIntegrity() error {
	switch {
	case r.format == version11: // RFC 9765 §5.2: without a meaning there
		return nil
	case r.authenticators == 1:
		if len(r.packet.Get(rfc2869.MessageAuthenticator_Type)) != authenticatorLength {
			return authenticatorMalformed
		}
		if !r.client.verify(r.raw, r.authenticatorOffset) {
			return authenticatorWrong
		}
		return nil
	case r.authenticators > 1:
		return authenticatorMalformed
	case r.packet.Code == codec.CodeStatusServer, // RFC 5997 §3
		r.has(rfc2869.EAPMessage_Type): // RFC 3579 §3.2
		return authenticatorMissing
	case r.format == overTLS: // which nobody on the way can alter
	case r.client.RequireMessageAuthenticator, r.unprotected():
		return authenticatorMissing
	case r.has(rfc2865.ProxyState_Type):
		// What an attacker needs to shape the reply he is forging
		// (CVE-2024-3596), and what a NAS of its own never sends.
		return proxyStateUnprotected
	}
	return r.checkPassword()
}

// checkPassword is what is left to go by without a Message-Authenticator. Over
// UDP nothing else shows that the sender has the secret, so a packet without one
// password that can be read must not get on: it would use up the client's rate
// and push others out of what is remembered. Hidden under another secret a
// password is noise, and noise must not count as a wrong code of the user.
func (r *request) checkPassword() error {
	password, err := r.userPassword()
	switch {
	case r.format == overUDP && (err != nil || r.count(rfc2865.UserPassword_Type) > 1):
		return passwordUnusable
	case err == nil && !isText([]byte(r.client.decode(string(password)))):
		return passwordGarbled
	}
	return nil
}

// hashes are the keyed hashes of one client, kept since keying costs more than
// hashing. Not safe for concurrent use.
type hashes struct {
	secret Secret
	mac    hash.Hash // HMAC-MD5 under the secret
	md5    hash.Hash
	zero   [authenticatorLength]byte
	sum    [md5.Size]byte
}

func newHashes(secret Secret) *hashes {
	return &hashes{secret: secret, mac: hmac.New(md5.New, secret), md5: md5.New()} //nolint:gosec // see the import
}

// verify reports whether the Message-Authenticator at offset in raw is right.
func (c *client) verify(raw []byte, offset int) bool {
	h := c.hashes.Get().(*hashes)
	defer c.hashes.Put(h)
	return hmac.Equal(h.messageAuthenticator(raw, offset), raw[offset:offset+authenticatorLength])
}

// sign completes a reply that has the Request Authenticator in its header and a
// Message-Authenticator as its first attribute.
func (c *client) sign(reply []byte) {
	const offset = headerLength + 2
	h := c.hashes.Get().(*hashes)
	defer c.hashes.Put(h)
	copy(reply[offset:], h.messageAuthenticator(reply, offset))

	copy(reply[4:headerLength], h.responseAuthenticator(reply))
}

// responseAuthenticator is that of a reply with the Request Authenticator in its
// header: MD5(Code + ID + Length + RequestAuth + Attributes + Secret), RFC 2865
// §3. It is valid until the next call.
func (h *hashes) responseAuthenticator(reply []byte) []byte {
	h.md5.Reset()
	h.md5.Write(reply)
	h.md5.Write(h.secret)
	return h.md5.Sum(h.sum[:0])
}

// messageAuthenticator is the HMAC-MD5 of the packet with the attribute's value,
// at offset, taken as zero (RFC 3579 §3.2). It is valid until the next call.
func (h *hashes) messageAuthenticator(packet []byte, offset int) []byte {
	h.mac.Reset()
	h.mac.Write(packet[:offset])
	h.mac.Write(h.zero[:])
	h.mac.Write(packet[offset+authenticatorLength:])
	return h.mac.Sum(h.sum[:0])
}
