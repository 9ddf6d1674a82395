//go:build linux

package host

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/ruleset"
	"github.com/synbond/synbond/nfq"
)

// The check of the packet filter sends specimens of a box's packets through the rules of other
// programs: the SYN that is looped over lo, segments of hosts and of paths, what the box's
// sockets send, joins and probes.

// specimen is one packet of a box in one hook.
type specimen struct {
	kind   Kind // of the finding if it is dropped
	what   string
	path   string // the path that it concerns, "" for all
	hook   ruleset.Hook
	from   int // the least priority of chains that count
	packet ruleset.Packet
	remedy func(ruleset.By) string
	// wanted are the box's bits that its mark must have behind the hook, 0 for any.
	wanted nfq.Mark
	port   uint16 // of the server, for packets of relayed connections
}

// Priorities of the box's chains.
const (
	always    = -1 << 31
	afterMark = -289 // behind `deliver`, which sets marks
	afterLand = 1001 // behind `land`, which sets them again
)

// firewall finds rules of other programs that drop the box's packets.
func (s Survey) firewall() ([]Finding, error) {
	filter, err := s.Filter()
	if err != nil {
		return nil, err
	}
	var found []Finding
	stops := stopped{}
	for _, sp := range s.specimens(filter) {
		out := filter.Hook(sp.hook, sp.packet, sp.from, ownTables)
		var f Finding
		switch over := sp.beyondLimits(filter, out); {
		case over.Dropped:
			f = sp.kind.Finding(over.By.String(), fmt.Sprintf("%s limits the rate of %s (%s)", over.By, sp.what, sp.family())).With(sp.remedy(over.By))
			f.Limits = true
			if sp.kind.ID == JoinDrops.ID {
				f.Consequence = "further subflows over this path may come late"
			}
		case out.Dropped:
			f = sp.kind.Finding(out.By.String(), fmt.Sprintf("%s drops %s (%s)", out.By, sp.what, sp.family())).With(sp.remedy(out.By))
		case out.Marked && sp.wanted != 0 && out.Mark&uint32(nfq.Mask) != uint32(sp.wanted):
			f = MarkLost.Finding(out.By.String(), fmt.Sprintf("%s overwrites the mark of %s (%s)", out.By, sp.what, sp.family())).With(acceptMark(out.By))
		default:
			continue
		}
		f = f.On(sp.path)
		stops.note(sp, f.key())
		if !slices.ContainsFunc(found, func(o Finding) bool { return o.key() == f.key() }) {
			found = append(found, f)
		}
	}
	for i := range found {
		found[i] = stops.mark(found[i])
	}
	return found, nil
}

// beyondLimits returns the fate of a specimen that is one too many for the limits of rates
// that it meets. A busy box relays more connections a second than a limit for the router's own
// services allows.
func (sp specimen) beyondLimits(filter Filter, usual ruleset.Outcome) ruleset.Outcome {
	if usual.Dropped || !usual.Limited {
		return ruleset.Outcome{}
	}
	p := sp.packet
	p.Exceeds = true
	return filter.Hook(sp.hook, p, sp.from, ownTables)
}

// stopped has, by finding, the ports of servers to which it stops connections, and their
// family. A firewall that stops some ports only leaves others to be relayed.
type stopped map[key]map[uint16]FamilySet

// note takes a specimen that a finding is about.
func (s stopped) note(sp specimen, k key) {
	if sp.port == 0 {
		return
	}
	if s[k] == nil {
		s[k] = make(map[uint16]FamilySet)
	}
	s[k][sp.port] |= familyOf(sp.packet.Data[0]>>4 == 4)
}

// mark says which families a finding stops.
func (s stopped) mark(f Finding) Finding {
	if f.ID == JoinDrops.ID {
		return f
	}
	f.Stops = OverIPv6 | OverIPv4
	for _, port := range specimenPorts {
		f.Stops &= s[f.key()][port]
	}
	if f.Stops == 0 {
		f.Consequence = "some relayed connections hang"
	}
	return f
}

const ownTables = "synbond_"

func (sp specimen) family() string {
	if sp.packet.Data[0]>>4 == 4 {
		return "IPv4"
	}
	return "IPv6"
}

// specimens returns the packets of connections from one side of the box to the other that
// the filter lets the router forward, and of joins and probes.
func (s Survey) specimens(filter Filter) (all []specimen) {
	plains, paths := s.ifnames()
	for _, plain := range plains {
		for i, path := range paths {
			for _, e := range s.ends(plain, path) {
				first := i == 0 || s.HAG // a CPE's connections begin on the first path
				c := connection{plain, path, nfq.PlainSocket, nfq.PathSocket, nfq.ToPlain, e, first}
				if s.HAG {
					c = connection{path, plain, nfq.PathSocket, nfq.PlainSocket, nfq.ToPaths, e, first}
				}
				all = append(all, c.specimens(filter)...)
			}
		}
	}
	if s.HAG {
		return append(all, s.joinsHere()...)
	}
	return append(all, s.joinsThere()...)
}

// ifnames returns the interfaces of both sides. Without a configuration they have names
// that no rule has.
func (s Survey) ifnames() (plain, paths []string) {
	if len(s.Plain) == 0 && len(s.Paths) == 0 {
		return []string{"the plain side"}, []string{"a path"}
	}
	for _, p := range s.Paths {
		paths = append(paths, p.Interface)
	}
	return s.Plain, paths
}

// ends are the two ends of a connection.
type ends struct{ client, server netip.AddrPort }

// Addresses of hosts that are surely somewhere else, for specimens.
var (
	far4 = netip.MustParseAddr("93.184.215.14")
	far6 = netip.MustParseAddr("2606:2800:21f:cb07:6820:80da:af6b:8b2c")
)

// specimenPorts are ports of servers: one that firewalls know, and one that they do not.
var specimenPorts = []uint16{443, 50051}

// ends returns the ends of connections that a box relays: on a CPE from a host beside the plain
// interface, on a HAG from one beyond the path, each to a far server.
func (s Survey) ends(plain, path string) (all []ends) {
	near, out := plain, path
	if s.HAG {
		near, out = path, plain
	}
	prefixes := s.Addresses(near)
	if len(s.Plain) == 0 {
		prefixes = []netip.Prefix{netip.MustParsePrefix("192.168.1.1/24"), netip.MustParsePrefix("2001:db8::1/64")}
	}
	for _, p := range prefixes {
		if slices.ContainsFunc(all, func(e ends) bool { return e.client.Addr().Is4() == p.Addr().Is4() }) {
			continue // one of each family
		}
		for _, port := range specimenPorts {
			all = append(all, ends{netip.AddrPortFrom(beside(p), 40000), netip.AddrPortFrom(s.server(out, p.Addr()), port)})
		}
	}
	return all
}

// server returns the address of a server beyond an interface: a far one, or one beside the
// interface where the route to that is another.
func (s Survey) server(out string, like netip.Addr) netip.Addr {
	server := far(like)
	if s.Route(server, netip.Addr{}) == out {
		return server
	}
	for _, p := range s.Addresses(out) {
		if p.Addr().Is4() == like.Is4() {
			return beside(p)
		}
	}
	return server
}

func far(like netip.Addr) netip.Addr {
	if like.Is4() {
		return far4
	}
	return far6
}

// beside returns an address in the prefix that is not that of the prefix itself.
func beside(p netip.Prefix) netip.Addr {
	if next := p.Addr().Next(); p.Contains(next) && p.Masked().Contains(next.Next()) {
		return next
	}
	return p.Addr().Prev()
}

// connection is a connection that the box relays, with its interfaces, marks and ends: from a
// host on side a to one on side b.
type connection struct {
	a, b             string
	markA, markB, to nfq.Mark
	ends
	begins bool // relayed connections begin on this way
}

// forwarded reports whether the router would forward the connection without a box: its SYN,
// and the answer.
func (c connection) forwarded(filter Filter, syn ruleset.Segment) bool {
	asked := ruleset.Packet{In: c.a, State: ruleset.New, Data: syn.Bytes()}
	answered := ruleset.Packet{In: c.b, State: ruleset.Established, Data: syn.Reply(ruleset.SYN | ruleset.ACK).Bytes()}
	for _, h := range []ruleset.Hook{ruleset.Prerouting, ruleset.Forward} {
		if filter.Hook(h, asked, always, ownTables).Dropped || filter.Hook(h, answered, always, ownTables).Dropped {
			return false
		}
		asked.Out, answered.Out = c.b, c.a
	}
	return true
}

// port returns the port of the server if the connection stands for those that begin on its
// way, else 0.
func (c connection) port() uint16 {
	if !c.begins {
		return 0
	}
	return c.server.Port()
}

func (c connection) specimens(filter Filter) []specimen {
	syn := ruleset.Segment{Protocol: unix.IPPROTO_TCP, From: c.client, To: c.server, Flags: ruleset.SYN}
	ack := syn
	ack.Flags = ruleset.ACK
	packet := func(in, out string, mark nfq.Mark, s ruleset.Segment) ruleset.Packet {
		return ruleset.Packet{In: in, Out: out, Mark: uint32(mark), State: ruleset.Untracked, Data: s.Bytes()}
	}
	if !c.forwarded(filter, syn) {
		return nil
	}
	looped := "the SYNs that the box loops over lo"
	loop := func(hook ruleset.Hook, from int, in, out string, wanted nfq.Mark) specimen {
		return specimen{LoopDrops, looped, "", hook, from, packet(in, out, c.to, syn), acceptMark, wanted, c.port()}
	}
	relayed := func(kind Kind, what string, hook ruleset.Hook, from int, p ruleset.Packet, wanted nfq.Mark) specimen {
		return specimen{kind, what, "", hook, from, p, acceptMark, wanted, c.port()}
	}
	in := func(dev string, s ruleset.Segment) []specimen {
		p, what := packet(dev, "", nfq.Relay, s), "relayed packets that come in by "+dev
		return []specimen{
			relayed(InputDrops, what, ruleset.Prerouting, afterMark, p, 0),
			relayed(InputDrops, what, ruleset.Prerouting, afterLand, p, nfq.Relay),
			relayed(InputDrops, what, ruleset.Input, always, p, 0),
		}
	}
	out := func(dev string, mark nfq.Mark, s ruleset.Segment) []specimen {
		p, what := packet("", dev, mark, s), "packets of relayed connections that leave by "+dev
		return []specimen{
			relayed(OutputDrops, what, ruleset.Output, always, p, 0),
			relayed(OutputDrops, what, ruleset.Postrouting, always, p, 0),
		}
	}
	return slices.Concat(
		[]specimen{
			loop(ruleset.Output, always, "", "lo", c.to), loop(ruleset.Postrouting, always, "", "lo", c.to),
			loop(ruleset.Prerouting, always, "lo", "", 0), loop(ruleset.Input, always, "lo", "", 0),
		},
		out(c.a, c.markA, ack.Reply(ruleset.SYN|ruleset.ACK)), in(c.a, ack),
		out(c.b, c.markB, syn), in(c.b, ack.Reply(ruleset.ACK)),
	)
}

// acceptMark proposes a rule that accepts the box's packets before the rule that drops them.
func acceptMark(by ruleset.By) string {
	if isIPTables(by.Base) {
		tool := map[string]string{"ip": "iptables", "ip6": "ip6tables"}[by.Base.Family]
		return fmt.Sprintf("%s -t %s -I %s -m mark --mark %s -j ACCEPT", tool, by.Base.Table, by.Base.Name, nfq.AdviceXT)
	}
	return fmt.Sprintf("nft insert rule %s %s", by.Base, nfq.Advice)
}

// isIPTables reports whether a chain looks like one of iptables.
func isIPTables(c ruleset.Chain) bool {
	return (c.Family == "ip" || c.Family == "ip6") && slices.Contains([]string{"raw", "mangle", "nat", "filter", "security"}, c.Table) &&
		strings.ToUpper(c.Name) == c.Name
}
