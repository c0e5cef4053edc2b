package dictionary_test

import (
	"bufio"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"otpgate/radius/dictionary"
)

func entry(t testing.TB, name string, values ...string) dictionary.Entry {
	t.Helper()
	e, err := dictionary.New(name, values)
	if err != nil {
		t.Fatal(err)
	}
	return e
}

// encoded is what e is to p, each attribute as "type:hex".
func encoded(e dictionary.Entry, p dictionary.Person) []string {
	var got []string
	e.Encode(p, func(kind byte, value []byte) {
		got = append(got, strconv.Itoa(int(kind))+":"+hex.EncodeToString(value))
	})
	return got
}

func TestEncode(t *testing.T) {
	text := func(s string) string { return hex.EncodeToString([]byte(s)) }
	taro := dictionary.Person{User: "taro", Realm: "staff", Groups: []string{"vpn", "admins"}}
	nobody := dictionary.Person{User: "jiro", Realm: "staff"}
	for _, c := range []struct {
		name   string
		values []string
		person dictionary.Person
		want   []string
	}{
		{"Class", []string{"staff"}, taro, []string{"25:" + text("staff")}},
		{"Session-Timeout", []string{"3600"}, taro, []string{"27:00000e10"}},
		{"Framed-IP-Address", []string{"192.0.2.7"}, taro, []string{"8:c0000207"}},
		{"Framed-IPv6-Address", []string{"2001:db8::7"}, taro, []string{"168:20010db8" + strings.Repeat("0", 23) + "7"}},
		// RFC 3162 §2.3: reserved, length in bits, prefix.
		{"Framed-IPv6-Prefix", []string{"2001:db8:1::/48"}, taro, []string{"97:0030" + "20010db80001" + strings.Repeat("0", 20)}},
		{"Delegated-IPv6-Prefix", []string{"::/0"}, taro, []string{"123:0000" + strings.Repeat("0", 32)}},
		{"Fortinet-Webfilter-Category-Allow", []string{"0x01fF"}, taro, []string{"26:00003044" + "1004" + "01ff"}},
		{"Service-Type", []string{"Administrative-User"}, taro, []string{"6:00000006"}},
		{"Tunnel-Type", []string{"VLAN"}, taro, []string{"64:0000000d"}}, // no tag
		{"Tunnel-Private-Group-Id", []string{"120"}, taro, []string{"81:" + text("120")}},
		// RFC 2865 §5.26: vendor, its type, its length, value.
		{"Cisco-AVPair", []string{"shell:priv-lvl=15"}, taro, []string{"26:0000000901" + "13" + text("shell:priv-lvl=15")}},
		{"F5-LTM-User-Role", []string{"Guest"}, taro, []string{"26:00000d2f" + "0106" + "000002bc"}},
		{"Cisco-AVPair", []string{"a", "b"}, taro, []string{"26:0000000901" + "0361", "26:0000000901" + "0362"}},
		{"Filter-Id", []string{"{group}"}, taro, []string{"11:" + text("vpn"), "11:" + text("admins")}},
		{"Citrix-User-Groups", []string{"{groups}"}, taro, []string{"26:0000004210" + "0c" + text("vpn,admins")}},
		{"Filter-Id", []string{"{group}"}, nobody, nil},
		{"Class", []string{"g={groups}"}, nobody, nil},
		{"Reply-Message", []string{"{user}@{realm}"}, nobody, []string{"18:" + text("jiro@staff")}},
		{"Juniper-Allow-Commands", []string{"show .{3} {}"}, nobody, []string{"26:00000a4c02" + "0e" + text("show .{3} {}")}},
	} {
		got := encoded(entry(t, c.name, c.values...), c.person)
		if strings.Join(got, " ") != strings.Join(c.want, " ") {
			t.Errorf("%s %q: %q, want %q", c.name, c.values, got, c.want)
		}
	}
}

// A name that looks like a placeholder is a name.
func TestNamesAreNotTemplates(t *testing.T) {
	got := encoded(entry(t, "Class", "{user}"), dictionary.Person{User: "{groups}", Groups: []string{"admins"}})
	if want := "25:" + hex.EncodeToString([]byte("{groups}")); len(got) != 1 || got[0] != want {
		t.Errorf("%q, want %q", got, want)
	}
}

func TestBadValues(t *testing.T) {
	for _, c := range []struct{ name, value, problem string }{
		{"Session-Timeout", "1h", "whole number"},
		{"Session-Timeout", "4294967296", "whole number"},
		{"Session-Timeout", "-1", "whole number"},
		{"Session-Timeout", "007", "whole number"},
		{"Session-Timeout", "{user}", "whole number"},
		{"Tunnel-Type", "16777216", "from 0 to 16777215"}, // would be a tag
		{"Tunnel-Type", "Vlan", "VLAN"},
		{"Framed-IP-Address", "2001:db8::1", "IPv4"},
		{"Framed-IP-Address", "192.0.2", "IPv4"},
		{"Framed-IPv6-Address", "192.0.2.1", "IPv6 address"},
		{"Framed-IPv6-Address", "fe80::1%eth0", "IPv6 address"},
		{"Framed-IPv6-Address", "2001:db8::/32", "IPv6 address"},
		{"Framed-IPv6-Prefix", "2001:db8::", "IPv6 prefix"},
		{"Framed-IPv6-Prefix", "2001:db8::1/64", "IPv6 prefix"},
		{"Framed-IPv6-Prefix", "2001:db8::/129", "IPv6 prefix"},
		{"Framed-IPv6-Prefix", "192.0.2.0/24", "IPv6 prefix"},
		{"Fortinet-Webfilter-Category-Allow", "01", "hexadecimal"},
		{"Fortinet-Webfilter-Category-Allow", "0x", "hexadecimal"},
		{"Fortinet-Webfilter-Category-Allow", "0x1", "hexadecimal"},
		{"Fortinet-Webfilter-Category-Allow", "0x{user}", "hexadecimal"},
		{"Fortinet-Webfilter-Category-Allow", "0x" + strings.Repeat("00", 248), "248 octets"},
		{"Class", "", "empty"},
		{"Class", "{grups}", "{grups}"},
		{"Class", "{User}", "{User}"},
		{"Class", strings.Repeat("x", 254), "254 octets"},
		{"Cisco-AVPair", strings.Repeat("x", 248), "248 octets"},
		{"Cisco-AVPair", "{groups}{groups}", "400 octets"},
		{"Class", "{user}" + strings.Repeat("x", 222), "254 octets"},
	} {
		_, err := dictionary.New(c.name, []string{c.value})
		if wrong := (*dictionary.ValueError)(nil); !errors.As(err, &wrong) || !strings.Contains(wrong.Problem, c.problem) {
			t.Errorf("%s %.20q: %v, want %q", c.name, c.value, err, c.problem)
		}
	}
	if _, err := dictionary.New("Message-Authenticator", []string{"x"}); err == nil {
		t.Error("Message-Authenticator is the door's, and was taken")
	}
	var wrong *dictionary.ValueError
	if _, err := dictionary.New("Class", []string{"a", ""}); !errors.As(err, &wrong) || wrong.Index != 1 {
		t.Errorf("the second value's fault: %v", err)
	}
}

// Numbers and names are FreeRADIUS's, where its dictionaries are installed.
func TestAgainstFreeRADIUS(t *testing.T) {
	files, _ := filepath.Glob("/usr/share/freeradius/dictionary.*")
	if len(files) == 0 {
		t.Skip("FreeRADIUS's dictionaries aren't here: apt-get install freeradius-common")
	}
	theirs := map[string]string{} // name: vendor and number
	values := map[string]string{} // attribute and value's name: number
	for _, file := range files {
		readDictionary(t, file, theirs, values)
	}
	for _, name := range dictionary.Names() {
		want, ok := theirs[name]
		if !ok {
			t.Errorf("FreeRADIUS doesn't know %s", name)
			continue
		}
		for _, value := range []string{"1", "192.0.2.1", "2001:db8::1", "2001:db8::/32", "0x01"} {
			e, err := dictionary.New(name, []string{value})
			if err != nil {
				continue // of another kind
			}
			e.Encode(dictionary.Person{}, func(kind byte, b []byte) {
				got := "0 " + strconv.Itoa(int(kind))
				if kind == 26 {
					got = strconv.Itoa(int(b[0])<<24|int(b[1])<<16|int(b[2])<<8|int(b[3])) + " " + strconv.Itoa(int(b[4]))
				}
				if got != want {
					t.Errorf("%s is %s, FreeRADIUS says %s", name, got, want)
				}
			})
		}
	}
	checked := 0
	for named, number := range values {
		attribute, value, _ := strings.Cut(named, " ")
		e, err := dictionary.New(attribute, []string{value})
		if err != nil {
			continue // not one of ours
		}
		checked++
		e.Encode(dictionary.Person{}, func(_ byte, b []byte) {
			n := b[len(b)-4:]
			if got := strconv.Itoa(int(n[0])<<24 | int(n[1])<<16 | int(n[2])<<8 | int(n[3])); got != number {
				t.Errorf("%s: %s, FreeRADIUS says %s", named, got, number)
			}
		})
	}
	if checked < 40 {
		t.Errorf("only %d names of values were compared", checked)
	}
}

func readDictionary(t *testing.T, file string, attributes, values map[string]string) {
	t.Helper()
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	vendors, vendor := map[string]string{}, "0"
	for lines := bufio.NewScanner(f); lines.Scan(); {
		w := strings.Fields(lines.Text())
		switch {
		case len(w) >= 3 && w[0] == "VENDOR":
			vendors[w[1]] = w[2]
		case len(w) == 2 && w[0] == "BEGIN-VENDOR":
			vendor = vendors[w[1]]
		case len(w) >= 2 && w[0] == "END-VENDOR":
			vendor = "0"
		case len(w) >= 4 && w[0] == "ATTRIBUTE":
			if _, taken := attributes[w[1]]; !taken || vendor != "0" {
				attributes[w[1]] = vendor + " " + w[2]
			}
		case len(w) >= 4 && w[0] == "VALUE" && !strings.HasPrefix(w[3], "0x"):
			values[w[1]+" "+w[2]] = w[3]
		}
	}
}

// What is encoded never takes more than Size has said, and each attribute fits.
func FuzzSize(f *testing.F) {
	f.Add("Class", "{user}", "taro", "vpn")
	f.Add("Cisco-AVPair", "x={group}/{groups}/{realm}", "花子", "管理者")
	f.Add("Filter-Id", "{group}{group}{user}{user}", strings.Repeat("u", 90), strings.Repeat("g", 64))
	f.Add("Session-Timeout", "3600", "taro", "")
	f.Add("Framed-IPv6-Prefix", "2001:db8::/32", "taro", "")
	f.Add("Fortinet-AppCtrl-Category-Block", "0x00000001", "taro", "")
	f.Fuzz(func(t *testing.T, name, text, user, group string) {
		e, err := dictionary.New(name, []string{text, text})
		if err != nil || len(group) > dictionary.MaxGroup {
			return
		}
		p := dictionary.Person{User: user, Realm: strings.Repeat("r", dictionary.MaxRealm)}
		for n := len(group); n <= dictionary.MaxGroupsBytes && len(p.Groups) < dictionary.MaxGroups; n += 1 + len(group) {
			p.Groups = append(p.Groups, group)
		}
		set := dictionary.Set{e}
		most, ok := set.Size().Octets(user)
		if !ok {
			return // too long a name, and refused
		}
		if groups, fits := dictionary.LargestOf(map[string]dictionary.Set{"a": nil, "b": set}).Octets(user); groups != most || !fits {
			t.Errorf("the largest of one set takes %d, the set %d", groups, most)
		}
		total := 0
		e.Encode(p, func(kind byte, value []byte) {
			total += 2 + len(value)
			if len(value) > 253 || kind == 26 && int(value[5]) != len(value)-4 {
				t.Errorf("%s %q: a value of %d octets", name, text, len(value))
			}
		})
		if total > most {
			t.Errorf("%s %q: %d octets, and %d were promised", name, text, total, most)
		}
	})
}
