package radius

import (
	"context"
	"crypto/hmac"
	"fmt"
	"net/netip"
	"time"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"
	"layeh.com/radius/rfc2866"
	"layeh.com/radius/rfc2869"
	"layeh.com/radius/rfc6911"
)

// maxSessionID is how long an Acct-Session-Id is taken for one. RFC 2866 §5.5
// asks for text without a bound; gear sends 8 to 40 octets.
const maxSessionID = 128

// AccountLog keeps what gear tells about sessions.
type AccountLog interface {
	// Account returns when the record is kept for good. An error means that it
	// may not be; the gear then sends it again.
	Account(ctx context.Context, a Account) error
}

// Account is one Accounting-Request (RFC 2866). Its texts are bounded and can
// be printed; what isn't so is left out.
type Account struct {
	Time    time.Time // of arrival
	Status  string    // start, stop, interim, on, off; else the number
	Session string    // Acct-Session-Id; empty for on and off of some gear
	User    string    // as at a log-in; whether there is one, nobody has checked
	Realm   string    // the user's
	Client  string    // its name
	Station string    // Calling-Station-Id
	Gear    netip.Addr
	// Address and Address6 are what the person was given (Framed-IP-Address,
	// Framed-IPv6-Address); the zero value: not told.
	Address, Address6 netip.Addr
	// Received and Sent are the octets of the session from and to the person; 0: none,
	// or not told.
	Received, Sent uint64
	Seconds        uint32 // Acct-Session-Time; 0: not told
	Delay          uint32 // Acct-Delay-Time: seconds that the gear has tried to send it for
}

// account answers an Accounting-Request once it is kept (RFC 2866 §4.1), and a
// resend with the same answer. It comes on the sockets of the rest: gear finds
// the door for it by its port, usually 1813.
func (s *Server) account(req *request) ([]byte, error) {
	if req.format != version11 && !req.client.verifyAccounting(req.raw) {
		return nil, accountingWrong
	}
	if !req.client.Accounting {
		return nil, accountingOff
	}
	record, err := s.record(req)
	if err != nil {
		return nil, err
	}
	entry, reply, err := s.accounts.begin(req)
	if err != nil || reply != nil {
		return reply, err
	}
	defer s.accounts.abandon(entry)
	if !req.client.accounts.AllowN(s.Now(), 1) {
		return nil, clientTooFast
	}
	ctx, cancel := context.WithTimeout(s.ctx, answerLimit-s.Now().Sub(req.at))
	defer cancel()
	if err := s.AccountLog.Account(ctx, record); err != nil {
		return nil, fmt.Errorf("%w: %w", notKept, err)
	}
	if reply, err = req.accountingResponse(); err != nil {
		return nil, err
	}
	if !s.accounts.finish(entry, reply) {
		return nil, superseded
	}
	return reply, nil
}

// record reads the request. There must be one Acct-Status-Type, and one
// Acct-Session-Id but where no session is meant (RFC 2866 §5.13).
func (s *Server) record(r *request) (Account, error) {
	if r.count(rfc2866.AcctStatusType_Type) != 1 {
		return Account{}, fmt.Errorf("%w: there is not exactly one Acct-Status-Type", accountingMalformed)
	}
	status, err := rfc2866.AcctStatusType_Lookup(&r.packet)
	if err != nil {
		return Account{}, fmt.Errorf("%w: Acct-Status-Type: %w", accountingMalformed, err)
	}
	whole := status == rfc2866.AcctStatusType_Value_AccountingOn || status == rfc2866.AcctStatusType_Value_AccountingOff
	session := r.text(rfc2866.AcctSessionID_Type, maxSessionID)
	if session == "" && !whole {
		return Account{}, fmt.Errorf("%w: there is not exactly one Acct-Session-Id of at most %d printable octets", accountingMalformed, maxSessionID)
	}
	who, err := s.subject(r)
	if err != nil { // there is none, or one that nobody can have: not a reason to lose the record
		who.realm, who.user = r.client.Realm, ""
	}
	return Account{
		Time: r.at, Status: statusName(status), Session: session, User: who.user,
		Realm: who.realm, Client: r.client.Name, Station: station(r.packet.Get(rfc2865.CallingStationID_Type)),
		Gear:    r.from.Addr().Unmap(),
		Address: r.address(rfc2865.FramedIPAddress_Type), Address6: r.address(rfc6911.FramedIPv6Address_Type),
		Received: octets(uint32(rfc2869.AcctInputGigawords_Get(&r.packet)), uint32(rfc2866.AcctInputOctets_Get(&r.packet))),
		Sent:     octets(uint32(rfc2869.AcctOutputGigawords_Get(&r.packet)), uint32(rfc2866.AcctOutputOctets_Get(&r.packet))),
		Seconds:  uint32(rfc2866.AcctSessionTime_Get(&r.packet)), Delay: uint32(rfc2866.AcctDelayTime_Get(&r.packet)),
	}, nil
}

// text is the value of the one attribute of the type; "" if it is none, or
// longer than most octets, or not text.
func (r *request) text(t codec.Type, most int) string {
	value := r.packet.Get(t)
	if r.count(t) != 1 || len(value) > most || !isText(value) {
		return ""
	}
	return string(value)
}

// address is the value of an attribute that holds one (RFC 2865 §5.8, RFC 6911
// §3.1); the zero value if it is there not exactly once, or no such address.
func (r *request) address(t codec.Type) netip.Addr {
	address, ok := netip.AddrFromSlice(r.packet.Get(t))
	if !ok || r.count(t) != 1 || address.Is4() != (t == rfc2865.FramedIPAddress_Type) {
		return netip.Addr{}
	}
	return address
}

// octets joins a counter of 32 bits with how often it went round (RFC 2869 §5.1,
// §5.2).
func octets(gigawords, octets uint32) uint64 { return uint64(gigawords)<<32 | uint64(octets) }

func statusName(s rfc2866.AcctStatusType) string {
	switch s {
	case rfc2866.AcctStatusType_Value_Start:
		return "start"
	case rfc2866.AcctStatusType_Value_Stop:
		return "stop"
	case rfc2866.AcctStatusType_Value_InterimUpdate:
		return "interim"
	case rfc2866.AcctStatusType_Value_AccountingOn:
		return "on"
	case rfc2866.AcctStatusType_Value_AccountingOff:
		return "off"
	default:
		return fmt.Sprint(uint32(s))
	}
}

// accountingResponse is the answer: every Proxy-State of the request and nothing
// else. RFC 2866 §5.13 has no Message-Authenticator in it, and the request's
// authenticator is a keyed hash already.
func (r *request) accountingResponse() ([]byte, error) {
	packet := codec.Packet{
		Code: codec.CodeAccountingResponse, Identifier: r.packet.Identifier,
		Authenticator: r.packet.Authenticator, // until signed
	}
	for _, avp := range r.packet.Attributes {
		if avp.Type == rfc2865.ProxyState_Type {
			packet.Attributes = append(packet.Attributes, avp)
		}
	}
	b, err := packet.MarshalBinary()
	if err != nil {
		return nil, fmt.Errorf("%w: encoding the Accounting-Response: %w", internalError, err)
	}
	if r.format == version11 {
		unsign(b)
		return b, nil
	}
	h := r.client.hashes.Get().(*hashes)
	defer r.client.hashes.Put(h)
	copy(b[4:headerLength], h.responseAuthenticator(b))
	return b, nil
}

// verifyAccounting reports whether the Request Authenticator is right, which is
// MD5(Code + ID + Length + 16 zero octets + Attributes + Secret), RFC 2866 §3.
func (c *client) verifyAccounting(raw []byte) bool {
	h := c.hashes.Get().(*hashes)
	defer c.hashes.Put(h)
	h.md5.Reset()
	h.md5.Write(raw[:4])
	h.md5.Write(h.zero[:])
	h.md5.Write(raw[headerLength:])
	h.md5.Write(h.secret)
	return hmac.Equal(h.md5.Sum(h.sum[:0]), raw[4:headerLength])
}
