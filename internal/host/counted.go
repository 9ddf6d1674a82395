//go:build linux

package host

import (
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/ruleset"
)

// countedPorts are ports of servers whose connections firewalls count.
var countedPorts = []uint16{22, 25, 80, 443, 50051}

// counted finds rules for forwarded packets that count connections, or bytes of connections.
// Segments of relayed connections do not pass there, and connection tracking does not know them.
func (s Survey) counted() (found []Finding, err error) {
	filter, err := s.Filter()
	if err != nil {
		return nil, err
	}
	plains, paths := s.ifnames()
	for _, plain := range plains {
		for _, path := range paths {
			from, to := plain, path
			if s.HAG {
				from, to = path, plain
			}
			for _, e := range s.ends(plain, path) {
				for _, port := range countedPorts {
					e.server = netip.AddrPortFrom(e.server.Addr(), port)
					for _, by := range countedBy(filter, from, to, e) {
						f := NotCounted.Finding(by.String(), by.String()+" counts connections or their bytes")
						if !slices.ContainsFunc(found, func(o Finding) bool { return o.key() == f.key() }) {
							found = append(found, f)
						}
					}
				}
			}
		}
	}
	return found, nil
}

// countedBy returns the rules that count a connection from one interface to another.
func countedBy(filter Filter, from, to string, e ends) (all []ruleset.By) {
	syn := ruleset.Segment{Protocol: unix.IPPROTO_TCP, From: e.client, To: e.server, Flags: ruleset.SYN}
	ack := syn
	ack.Flags = ruleset.ACK
	for _, p := range []ruleset.Packet{
		{In: from, Out: to, State: ruleset.New, Data: syn.Bytes()},
		{In: from, Out: to, State: ruleset.Established, Data: ack.Bytes()},
		{In: to, Out: from, State: ruleset.Established, Data: ack.Reply(ruleset.ACK).Bytes()},
	} {
		if out := filter.Hook(ruleset.Forward, p, always, ownTables); out.Counts != (ruleset.By{}) {
			all = append(all, out.Counts)
		}
	}
	return all
}
