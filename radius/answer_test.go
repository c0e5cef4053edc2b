package radius

import (
	"bytes"
	"context"
	"slices"
	"strconv"
	"strings"
	"testing"

	codec "layeh.com/radius"
	"layeh.com/radius/rfc2865"

	"otpgate/radius/dictionary"
	"otpgate/verifier"
)

func TestBoundsOfGroupsAreTheVerifiers(t *testing.T) {
	if dictionary.MaxGroup != verifier.MaxGroup || dictionary.MaxGroups != verifier.MaxGroups || dictionary.MaxGroupsBytes != verifier.MaxGroupsBytes {
		t.Error("the dictionary sizes answers for other groups than the verifier lets a user have")
	}
}

// attributesOf makes a set of "Name=value"; the same name again is one more value.
func attributesOf(t *testing.T, list ...string) dictionary.Set {
	t.Helper()
	var names []string
	values := map[string][]string{}
	for _, s := range list {
		name, value, _ := strings.Cut(s, "=")
		if values[name] == nil {
			names = append(names, name)
		}
		values[name] = append(values[name], value)
	}
	var set dictionary.Set
	for _, name := range names {
		entry, err := dictionary.New(name, values[name])
		if err != nil {
			t.Fatal(err)
		}
		set = append(set, entry)
	}
	return set
}

// answering lets client vpn answer with reply, and realm staff as given.
func (h *harness) answering(reply dictionary.Set, staff Realm) {
	h.t.Helper()
	for _, c := range h.Clients.byPrefix {
		if c.Name == "vpn" {
			c.Reply, c.replySize = reply, reply.Size()
		}
	}
	h.Realms = map[string]Realm{"staff": staff}
}

// member lets the gate accept rightCode for a member of groups.
func (h *harness) member(groups ...string) {
	h.gate.verify = func(_ context.Context, a verifier.Attempt) (verifier.Result, error) {
		if a.Match(rightCode) {
			return verifier.Result{Outcome: verifier.Accepted, Groups: groups}, nil
		}
		return verifier.Result{Outcome: verifier.Wrong}, nil
	}
}

// carried is the attributes of a reply behind its Message-Authenticator, which
// stands first, as "type=value".
func carried(t *testing.T, reply []byte) []string {
	t.Helper()
	p, err := codec.Parse(reply, []byte(secret))
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for _, avp := range p.Attributes[1:] {
		list = append(list, strconv.Itoa(int(avp.Type))+"="+string(avp.Attribute))
	}
	return list
}

func TestAnswerCarriesWhatIsNearest(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.answering(
			attributesOf(t, "Filter-Id={group}", "Reply-Message=vpn: {user}@{realm}"),
			NewRealm(false, English, attributesOf(t, "Class=realm", "Reply-Message=realm", "Framed-Pool=p"), map[string]dictionary.Set{
				"admins": attributesOf(t, "Class=admins", "Cisco-AVPair=a=1", "Cisco-AVPair=b=2"),
				"all":    attributesOf(t, "Class=all", "Framed-Pool=all"),
			}))
		for i, c := range []struct {
			groups, want []string
		}{
			{nil, []string{"18=vpn: hanako@staff", "25=realm", "88=p"}},
			{[]string{"unknown"}, []string{"11=unknown", "18=vpn: hanako@staff", "25=realm", "88=p"}},
			{[]string{"all", "admins"}, []string{
				"25=all", "88=all", "26=\x00\x00\x00\x09\x01\x05a=1", "26=\x00\x00\x00\x09\x01\x05b=2",
				"11=all", "11=admins", "18=vpn: hanako@staff",
			}},
		} {
			h.member(c.groups...)
			got := carried(t, h.wantReply(vpn, login(byte(i), strconv.Itoa(i), rightCode), codec.CodeAccessAccept))
			if !slices.Equal(got, c.want) {
				t.Errorf("in %q: %q, want %q", c.groups, got, c.want)
			}
		}
		// Nobody is told anything by a No, nor another client by this one's entry.
		if got := carried(t, h.wantReply(vpn, login(10, "no", wrongCode), codec.CodeAccessReject)); got != nil {
			t.Errorf("a Reject carries %q", got)
		}
		h.member()
		if got := carried(t, h.wantReply(legacy, login(11, "legacy", rightCode), codec.CodeAccessAccept)); !slices.Equal(got, []string{"25=realm", "18=realm", "88=p"}) {
			t.Errorf("another client's answer: %q", got)
		}
	})
}

// Whatever shows the code, the answer carries the same, before the Proxy-States.
func TestAnswerByEveryMethod(t *testing.T) {
	inBubble(t, func(h *harness) {
		h.answering(attributesOf(t, "Class=staff"), Realm{})
		hanako := func(id byte) *packet {
			return newPacket(codec.CodeAccessRequest, id, strconv.Itoa(int(id))).user("hanako")
		}
		for name, p := range map[string]*packet{
			"PAP":       hanako(1).password(rightCode, secret),
			"CHAP":      hanako(2).chap(rightCode, nil),
			"MS-CHAPv2": hanako(3).msCHAPv2("hanako", rightCode),
		} {
			got := carried(t, h.wantReply(vpn, p.add(rfc2865.ProxyState_Type, []byte("p")).signed(secret), codec.CodeAccessAccept))
			if n := len(got); n < 2 || got[n-2] != "25=staff" || got[n-1] != "33=p" {
				t.Errorf("%s: %q, want Class and then the Proxy-State at the end", name, got)
			}
		}
	})
}

// No code is used up for an answer that doesn't fit.
func TestAnswerThatDoesNotFit(t *testing.T) {
	inBubble(t, func(h *harness) {
		var long []string
		for range 8 {
			long = append(long, "Class="+strings.Repeat("x", 253))
		}
		h.answering(attributesOf(t, append(long, "Reply-Message=Hello {user}")...), Realm{})
		ask := func(id byte, user string, proxies int) []byte {
			p := newPacket(codec.CodeAccessRequest, id, strconv.Itoa(int(id))).user(user).password(rightCode, secret)
			for range proxies {
				p.add(rfc2865.ProxyState_Type, bytes.Repeat([]byte("p"), 253))
			}
			return p.signed(secret)
		}
		h.wantReply(vpn, ask(1, "hanako", 7), codec.CodeAccessAccept)
		h.wantCalls(1)
		h.wantReply(vpn, ask(2, "hanako", 8), codec.CodeAccessReject)
		h.wantReply(vpn, ask(3, strings.Repeat("u", 247), 0), codec.CodeAccessAccept)
		h.wantReply(vpn, ask(4, strings.Repeat("u", 248), 0), codec.CodeAccessReject)
		h.wantCalls(2)
		for _, why := range []refusal{noRoom, nameTooLong} {
			if !strings.Contains(h.logs.String(), string(why)) {
				t.Errorf("the log doesn't say %q", why)
			}
		}
	})
}
