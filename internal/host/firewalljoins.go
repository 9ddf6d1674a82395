//go:build linux

package host

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/ruleset"
)

// joinsThere returns specimens of the joins and probes of a CPE, and of their answers.
func (s Survey) joinsThere() (all []specimen) {
	for _, p := range s.Paths {
		near := s.Addresses(p.Interface) // once: they may change at any time
		for _, join := range p.Join {
			own := slices.IndexFunc(near, func(a netip.Prefix) bool { return a.Addr().Is4() == join.Addr().Is4() })
			if own < 0 {
				continue
			}
			from := netip.AddrPortFrom(near[own].Addr(), 40000)
			all = append(all, talk{p.Name, "", p.Interface, from, join}.specimens()...)
		}
	}
	return all
}

// joinsHere returns specimens of the joins and probes that reach a HAG.
func (s Survey) joinsHere() (all []specimen) {
	for _, join := range s.Join {
		for _, p := range s.Paths {
			from, ok := s.joinsFrom(p.Interface, join.Addr())
			if !ok {
				continue // they may come by another path
			}
			all = append(all, talk{p.Name, p.Interface, "", netip.AddrPortFrom(from, 40000), join}.specimens()...)
		}
	}
	return all
}

// joinsFrom returns an address from which joins come in by an interface of a HAG: that of a
// CPE, because rules may name the CPEs' networks, or else one beside the join address.
func (s Survey) joinsFrom(ifname string, join netip.Addr) (from netip.Addr, ok bool) {
	for _, p := range s.Peers {
		if p.Interface == ifname && p.Addr.Is4() == join.Is4() {
			return p.Addr, true
		}
	}
	near := s.Addresses(ifname)
	i := slices.IndexFunc(near, func(a netip.Prefix) bool { return a.Addr() == join })
	if i < 0 {
		return netip.Addr{}, false
	}
	return beside(near[i]), true
}

// talk is a join or a probe from a CPE to a HAG, as that end sees it which is this machine:
// the first packet comes in or goes out by an interface, the answer the other way.
type talk struct {
	path     string
	in, out  string
	from, to netip.AddrPort
}

func (t talk) specimens() (all []specimen) {
	for _, protocol := range []struct {
		number        uint8
		what          string
		flags, answer uint8
	}{{unix.IPPROTO_TCP, "joins", ruleset.SYN, ruleset.SYN | ruleset.ACK}, {unix.IPPROTO_UDP, "probes", 0, 0}} {
		first := ruleset.Segment{Protocol: protocol.number, From: t.from, To: t.to, Flags: protocol.flags}
		answer := first.Reply(protocol.answer)
		what, arrives, leaves := protocol.what, first, answer
		stateIn, stateOut := ruleset.New, ruleset.Established
		if t.out != "" {
			what, arrives, leaves = "answers to "+protocol.what, answer, first
			stateIn, stateOut = ruleset.Established, ruleset.New
		}
		dev := cmp.Or(t.in, t.out)
		for _, h := range []ruleset.Hook{ruleset.Prerouting, ruleset.Input} {
			p := ruleset.Packet{In: dev, State: stateIn, Data: arrives.Bytes()}
			all = append(all, specimen{JoinDrops, what + " that come in by " + dev, t.path, h, always, p, t.accept, 0, 0})
		}
		for _, h := range []ruleset.Hook{ruleset.Output, ruleset.Postrouting} {
			p := ruleset.Packet{Out: dev, State: stateOut, Data: leaves.Bytes()}
			all = append(all, specimen{JoinDrops, protocol.what + " or their answers that leave by " + dev, t.path, h, always, p, t.accept, 0, 0})
		}
	}
	return all
}

// accept proposes a rule for joins and probes.
func (t talk) accept(by ruleset.By) string {
	port := fmt.Sprintf("meta l4proto { tcp, udp } th dport %d accept", t.to.Port())
	if by.Base.Name == "" || isIPTables(by.Base) {
		return fmt.Sprintf("let it accept TCP and UDP of port %d", t.to.Port())
	}
	return fmt.Sprintf("nft insert rule %s %s (answers: sport), or a way back by this interface", by.Base, port)
}
