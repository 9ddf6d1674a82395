package pcaps

import (
	"net"
	"slices"
	"time"

	"github.com/synbond/synbond/state"
)

// nic is an interface of the box.
type nic struct {
	Interface
	side state.Side
}

// nics holds the interfaces of a box by name and by index. Packets have an index, and
// interfaces may come and go: an unknown index leads to a lookup, once a second at most.
type nics struct {
	byName  map[string]*nic
	byIndex map[int]*nic
	lookup  time.Time // of the next lookup
}

func newNICs(cfg RecorderConfig) nics {
	n := nics{make(map[string]*nic), make(map[int]*nic), time.Time{}}
	for side, names := range [...][]string{state.Plain: cfg.Plain, state.Multipath: cfg.Multipath} {
		for _, name := range names {
			side := state.Side(side)
			n.byName[name] = &nic{Interface{
				Name: name, Description: "synbond " + string(cfg.Role) + ", " + side.String() + " side", LinkType: LinkRaw,
			}, side}
		}
	}
	return n
}

// all returns the interfaces in the order of the configuration.
func (n *nics) all(cfg RecorderConfig) []Interface {
	var out []Interface
	for _, name := range slices.Concat(cfg.Plain, cfg.Multipath) {
		out = append(out, n.byName[name].Interface)
	}
	return out
}

// of returns the interface of the box with an index, or nil.
func (n *nics) of(index int, now time.Time) *nic {
	if nic := n.byIndex[index]; nic != nil {
		return nic
	}
	if now.Before(n.lookup) {
		return nil
	}
	n.lookup = now.Add(time.Second)
	all, err := net.Interfaces()
	if err != nil {
		return nil
	}
	for _, i := range all {
		if nic := n.byName[i.Name]; nic != nil {
			n.byIndex[i.Index] = nic // the kernel never reuses an index
		}
	}
	return n.byIndex[index]
}
