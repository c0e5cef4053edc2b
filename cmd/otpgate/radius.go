package main

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"otpgate/internal/admin"
	"otpgate/internal/audit"
	"otpgate/radius"
)

type radiusCmd struct {
	Clients radiusClientsCmd `cmd:"" help:"Show what came from each client since the gateway's start: last seen, accepted, rejected, dropped and why."`
}

type radiusClientsCmd struct {
	daemonFlags
}

// Run shows the clients.
func (c radiusClientsCmd) Run(ctx context.Context, term terminal) error {
	client, err := c.client()
	if err != nil {
		return err
	}
	seen, err := client.RadiusClients(ctx)
	if err != nil {
		return err
	}
	if c.JSON {
		return printJSON(term.out, seen)
	}
	return printSeen(term, seen)
}

func printSeen(term terminal, seen admin.RadiusSeen) error {
	t := newTable(term.out, zoned("CLIENT\tLAST SEEN (%s)\tFROM\tREQUESTS\tACCEPTED\tREJECTED\tCHALLENGED\tDROPPED\tUNSIGNED\tMETHODS"))
	for _, c := range seen.Clients {
		from := ""
		if c.From.IsValid() {
			from = c.From.String()
		}
		dropped := 0
		for _, n := range c.Dropped {
			dropped += n
		}
		if err := t.row("%s\t%s\t%s\t%d\t%d\t%d\t%d\t%d\t%d\t%s", c.Name, when(c.Last), orDash(from),
			c.Requests, c.Accepts, c.Rejects, c.Challenges, dropped, c.Unsigned, orDash(byCount(c.Methods))); err != nil {
			return err
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, c := range seen.Clients {
		if len(c.Dropped) > 0 {
			fmt.Fprintf(term.out, "dropped at %s: %s\n", c.Name, byCount(c.Dropped))
		}
		if len(c.Refused) > 0 {
			fmt.Fprintf(term.out, "rejected at %s without a look at the code: %s\n", c.Name, byCount(c.Refused))
		}
	}
	for _, u := range seen.Unknown {
		fmt.Fprintf(term.out, "no client has the address %s: %s, the last at %s\n", u.Address, count(u.Packets, "packet"), when(u.Last))
	}
	for _, r := range seen.Refused {
		from := "an unknown address"
		if r.From.IsValid() {
			from = r.From.String()
		}
		fmt.Fprintf(term.out, "TLS connections refused, %s: %d, the last from %s at %s\n", r.Reason, r.Connections, from, when(r.Last))
	}
	_, err := fmt.Fprintf(term.out, "since %s; unsigned: without Message-Authenticator\n", when(seen.Since))
	return err
}

// byCount prints what was counted, the most frequent first.
func byCount(counts map[string]int) string {
	names := slices.Sorted(maps.Keys(counts))
	slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(counts[b], counts[a]) })
	for i, name := range names {
		names[i] = fmt.Sprintf("%s %d", name, counts[name])
	}
	return strings.Join(names, ", ")
}

// seenRadius lets operators see the RADIUS door, which doesn't know theirs.
type seenRadius struct{ server *radius.Server }

func (s seenRadius) Seen() admin.RadiusSeen {
	seen := s.server.Seen()
	out := admin.RadiusSeen{Since: seen.Since, Clients: []admin.RadiusClient{}, Unknown: []admin.RadiusUnknown{}, Refused: []admin.RadiusRefused{}}
	for _, c := range seen.Clients {
		out.Clients = append(out.Clients, admin.RadiusClient(c))
	}
	for _, u := range seen.Unknown {
		out.Unknown = append(out.Unknown, admin.RadiusUnknown(u))
	}
	for _, r := range seen.Refused {
		out.Refused = append(out.Refused, admin.RadiusRefused(r))
	}
	return out
}

// accountLog keeps accounting in the audit log.
type accountLog struct{ log *audit.Log }

func (l accountLog) Account(ctx context.Context, a radius.Account) error {
	details := []string{}
	if a.Session != "" {
		details = append(details, fmt.Sprintf("session %q", a.Session))
	}
	if a.Seconds > 0 {
		details = append(details, fmt.Sprintf("%d s long", a.Seconds))
	}
	for _, address := range []netip.Addr{a.Address, a.Address6} {
		if address.IsValid() {
			details = append(details, "address "+address.String())
		}
	}
	if a.Received > 0 || a.Sent > 0 {
		details = append(details, fmt.Sprintf("%d octets from the person, %d to them", a.Received, a.Sent))
	}
	if a.Delay > 0 {
		details = append(details, fmt.Sprintf("told %d s late", a.Delay))
	}
	details = append(details, "from "+a.Gear.String())
	return l.log.Append(ctx, audit.Entry{
		Time: a.Time, Event: "radius.accounting", Outcome: a.Status, Realm: a.Realm, User: a.User,
		Door: "radius", Client: a.Client, From: a.Station, Detail: strings.Join(details, ", "),
	})
}
