package verifier_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"otpgate/verifier"
)

func TestGroupsComeWithTheAcceptance(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	want := []string{"管理者", "vpn users"}
	u, receipt, err := g.SetGroups(t.Context(), verifier.By{Who: "clerk", Reason: "moved"}, "retail", "hanako", want)
	g.must(err)
	if !slices.Equal(u.Groups, want) || receipt.Number == "" {
		t.Errorf("groups %q, receipt %+v", u.Groups, receipt)
	}
	last := g.log.entries[len(g.log.entries)-1]
	if last.Event != "user.groups" || last.User != "hanako" || last.Receipt != receipt.Number || last.Client != "clerk" ||
		last.Detail != "groups: 管理者, vpn users; before: none; moved" {
		t.Errorf("in the log: %+v", last)
	}

	if r, err := g.try("hanako", g.wrong("T1")); err != nil || r.Groups != nil {
		t.Errorf("a wrong code tells the groups %q, %v", r.Groups, err)
	}
	code := g.code("T1", 0)
	if r, err := g.try("hanako", code); err != nil || r.Outcome != verifier.Accepted || !slices.Equal(r.Groups, want) {
		t.Errorf("%+v, %v; want accepted with %q", r, err, want)
	}
	if r, err := g.try("hanako", code); err != nil || r.Groups != nil {
		t.Errorf("a used code tells the groups %q, %v", r.Groups, err)
	}

	_, _, err = g.SetGroups(t.Context(), because("left"), "retail", "hanako", nil)
	g.must(err)
	if a := g.account("hanako"); len(a.Groups) != 0 {
		t.Errorf("still in %q", a.Groups)
	}
}

func TestGroupsThatAreRefused(t *testing.T) {
	g := newGate(t)
	g.newToken("hanako", "T1")
	var many []string
	for i := range verifier.MaxGroups + 1 {
		many = append(many, fmt.Sprint(i))
	}
	long := strings.Repeat("x", verifier.MaxGroup)
	for _, c := range []struct {
		user   string
		groups []string
	}{
		{"nobody", []string{"a"}},
		{"hanako", []string{"a", "a"}},
		{"hanako", []string{""}},
		{"hanako", []string{"a,b"}},
		{"hanako", []string{" a"}},
		{"hanako", []string{"a\nb"}},
		{"hanako", []string{"\xff"}},
		{"hanako", []string{long + "x"}},
		{"hanako", []string{long, long[1:], long[2:], long[3:]}},
		{"hanako", many},
	} {
		_, _, err := g.SetGroups(t.Context(), because("moved"), "retail", c.user, c.groups)
		if refusal := (*verifier.Refusal)(nil); !errors.As(err, &refusal) {
			t.Errorf("%s in %.100q: %v, want a refusal", c.user, c.groups, err)
		}
	}
	if a := g.account("hanako"); len(a.Groups) != 0 {
		t.Errorf("a refused step put hanako in %q", a.Groups)
	}
}

func TestLowerNamesRefusesWhoCouldNeverLogIn(t *testing.T) {
	g := newGate(t)
	g.newToken("Hanako", "T1")
	realm := g.Realms["retail"]
	realm.LowerNames = true
	g.Realms["retail"] = realm
	form := verifier.By{Who: "clerk", Form: "1"}
	if _, _, err := g.AddUser(t.Context(), form, "retail", "Taro"); err == nil {
		t.Error("Taro was added")
	}
	if _, _, err := g.Apply(t.Context(), form, "retail", "Taro"); err == nil {
		t.Error("Taro was added by an application")
	}
	if _, _, err := g.AddUser(t.Context(), form, "retail", "taro"); err != nil {
		t.Errorf("taro: %v", err)
	}
	if _, _, err := g.Apply(t.Context(), form, "retail", "Hanako"); err != nil {
		t.Errorf("Hanako, who was there before: %v", err)
	}
}
