package radius

import (
	codec "layeh.com/radius"

	"otpgate/radius/dictionary"
)

// Realm is what the door knows of a realm beyond its id.
type Realm struct {
	// LowerNames takes user names in lower case, however they were typed.
	LowerNames bool
	// Language is what people are asked in.
	Language Language

	reply  dictionary.Set
	groups map[string]dictionary.Set
	size   dictionary.Size // of the largest answer by reply and groups
}

// NewRealm returns a realm whose people's Accepts carry reply, and over that what
// groups has for those whom a user is in.
func NewRealm(lowerNames bool, language Language, reply dictionary.Set, groups map[string]dictionary.Set) Realm {
	return Realm{lowerNames, language, reply, groups, reply.Size().Plus(dictionary.LargestOf(groups))}
}

// maxPassedThrough bounds the octets of another server's Class attributes in an
// Accept: two of the longest. Servers that people move away from send one.
const maxPassedThrough = 2 * (2 + maxText)

// fits refuses a request whose answer might not fit into a packet. That is found
// out before the code is used up, so for the largest one: the groups aren't known
// yet. The reply repeats the request's Proxy-States, and has no other attribute
// that the request hasn't one as long for.
func (s *Server) fits(r *request, who subject, p *proof) error {
	octets, ok := r.client.replySize.Plus(s.Realms[who.realm].size).Octets(who.user)
	if !ok {
		return nameTooLong
	}
	if p.ms != nil {
		octets += msCHAPv2SuccessLength
	}
	if p.method == methodEAP {
		octets += eapSuccessLength
	}
	if r.client.FirstFactor.Migrating {
		octets += maxPassedThrough
	}
	if r.client.Mode != ModeOTP || r.client.FirstFactor.Migrating {
		octets = max(octets, maxChallenge)
	}
	if len(r.raw)+octets > codec.MaxPacketLength {
		return noRoom
	}
	return nil
}

// answer is what gateway.yaml lets the Accept carry for p. Of the places that have
// an attribute the nearest to the person counts: the first of their groups, then
// the client, then the realm.
func (s *Server) answer(c *client, p dictionary.Person) codec.Attributes {
	realm := s.Realms[p.Realm]
	places := make([]dictionary.Set, 0, len(p.Groups)+2)
	for _, group := range p.Groups {
		places = append(places, realm.groups[group])
	}
	var attributes codec.Attributes
	have := map[string]bool{}
	for _, set := range append(places, c.Reply, realm.reply) {
		for _, entry := range set {
			if have[entry.Name] {
				continue
			}
			have[entry.Name] = true
			entry.Encode(p, func(kind byte, value []byte) { attributes.Add(codec.Type(kind), value) })
		}
	}
	return attributes
}
