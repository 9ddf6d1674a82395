//go:build linux

package host

import (
	"fmt"
	"net/netip"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
)

// Network is the interfaces and routes of a machine. A [Machine] is one.
type Network interface {
	// Link returns the interface of that name, or the zero Link.
	Link(name string) paths.Link
	// Source returns the local end of packets to dst by the interface with that index.
	Source(dst netip.Addr, index int) paths.Source
	// Drops returns the setting of a reverse-path filter that drops what comes from remote to
	// local by an interface, and the one that mends it, as [paths.Source] has them; "" without one.
	Drops(remote, local netip.Addr, ifname string) (filter, remedy string)
}

// Network implements [Surroundings].
func (here) Network() (Network, error) {
	m := &Machine{}
	return m, m.read()
}

// interfaces finds interfaces of the box that are missing, and those that are ports of others.
func (s Survey) interfaces() (found []Finding, err error) {
	network, err := s.Network()
	if err != nil {
		return nil, err
	}
	add := func(name, path string) {
		switch at := network.Link(name); {
		case at.Index == 0:
			found = append(found, NoInterface.Finding(name, "there is no interface "+name).On(path))
		case at.Master != "":
			found = append(found, PortOfMaster.Finding(name, "interface "+name+" is a port of "+at.Master).On(path).
				With("name "+at.Master+" in the place of "+name))
		}
	}
	for _, name := range s.Plain {
		add(name, "")
	}
	for _, p := range s.Paths {
		add(p.Interface, p.Name)
	}
	return found, nil
}

// families are the address families of joins.
var families = []struct {
	name string
	is4  bool
}{{"IPv6", false}, {"IPv4", true}}

// policyRules finds policy rules of others that send what the box's sockets send elsewhere.
func (s Survey) policyRules() (found []Finding, err error) {
	for _, f := range families {
		for _, m := range nfq.MarksTaken(s.MarkRules(f.is4)) {
			words := fmt.Sprintf("the policy rule of priority %d for %s (fwmark 0x%x/0x%x) applies to the box's packets", m.Priority, f.name, m.Mark, m.Mask)
			at := MarkTaken.Finding(fmt.Sprintf("%s %d", f.name, m.Priority), words)
			at.Stops = familyOf(f.is4)
			found = append(found, at)
		}
	}
	return found, nil
}

// joinRoutes finds paths that have an address of a family and no route to the join address,
// and those on which the kernel drops the answers from there.
func (s Survey) joinRoutes() (found []Finding, err error) {
	network, err := s.Network()
	if err != nil {
		return nil, err
	}
	if s.HAG {
		return s.waysBack(network), nil
	}
	for _, p := range s.Paths {
		at := network.Link(p.Interface)
		for _, f := range families {
			join := paths.PickJoin(p.Join, f.is4)
			if !at.Carrier || !join.IsValid() || !at.Addr(f.is4).IsValid() {
				continue
			}
			switch src := network.Source(join.Addr(), at.Index); {
			case !src.Addr.IsValid():
				found = append(found, NoJoinRoute.Finding(f.name, "no "+f.name+" route to "+join.Addr().String()+" by "+p.Interface).On(p.Name).
					With("ip route add "+join.Addr().String()+" via GATEWAY dev "+p.Interface+", or a default route with a higher metric"))
			case src.Filter != "" && !src.MarkMatters:
				found = append(found, ReversePath.Finding(p.Interface, src.Filter+" drops what comes back").On(p.Name).
					With("sysctl "+src.FilterRemedy+", or a policy rule that sends packets from "+src.Addr.String()+" by "+p.Interface))
			}
		}
	}
	return found, nil
}

// waysBack finds paths of a HAG on which the kernel drops what CPEs send, because its route to
// them leads elsewhere.
func (s Survey) waysBack(network Network) (found []Finding) {
	for _, p := range s.Paths {
		for _, peer := range s.Peers {
			if !peer.Missing || peer.Interface != p.Interface {
				continue
			}
			join := paths.PickJoin(s.Join, peer.Addr.Is4()).Addr()
			if filter, remedy := network.Drops(peer.Addr, join, p.Interface); filter != "" {
				found = append(found, ReversePath.Finding(p.Interface, filter+" drops what comes from "+peer.Addr.String()+" by "+p.Interface).On(p.Name).
					With("sysctl "+remedy+", or a route to "+peer.Addr.String()+" by "+p.Interface))
				break // others are alike
			}
		}
	}
	return found
}
