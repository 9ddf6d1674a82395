//go:build linux

package host

import (
	"net/netip"

	"github.com/synbond/synbond/internal/paths"
)

// Network is the interfaces and routes of a machine. A [Machine] is one.
type Network interface {
	// Link returns the interface of that name, or the zero Link.
	Link(name string) paths.Link
	// Source returns the local end of packets to dst by the interface with that index.
	Source(dst netip.Addr, index int) paths.Source
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

// reversePath finds paths on which the kernel drops the answers from the HAG.
func (s Survey) reversePath() (found []Finding, err error) {
	network, err := s.Network()
	if err != nil {
		return nil, err
	}
	for _, p := range s.Paths {
		at, join := network.Link(p.Interface), paths.PickJoin(p.Join, true)
		if !at.Carrier || !join.IsValid() {
			continue
		}
		if src := network.Source(join.Addr(), at.Index); src.Filter != "" && !src.MarkMatters {
			found = append(found, ReversePath.Finding(p.Interface, src.Filter+" drops what comes back").On(p.Name).
				With("sysctl "+src.FilterRemedy+", or a policy rule that sends packets from "+src.Addr.String()+" by "+p.Interface))
		}
	}
	return found, nil
}
