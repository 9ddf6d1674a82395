//go:build linux

package box

import (
	"net"

	"github.com/synbond/synbond/state"
)

// sides knows on which side an interface is. Interfaces are configured by name
// and may come and go (PPP, LTE modems), packets carry their index: what is not
// known yet is looked up. It is used from the queue's goroutine only.
type sides struct {
	byName  map[string]state.Side
	byIndex map[uint32]state.Side
}

func newSides(c Config) sides {
	s := sides{make(map[string]state.Side), make(map[uint32]state.Side)}
	for _, name := range c.Plain {
		s.byName[name] = state.Plain
	}
	for _, p := range c.Paths {
		s.byName[p.Interface] = state.Multipath
	}
	return s
}

func (s *sides) of(index uint32) (state.Side, bool) {
	if side, ok := s.byIndex[index]; ok {
		return side, true
	}
	dev, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return 0, false
	}
	side, ok := s.byName[dev.Name]
	if ok {
		s.byIndex[index] = side // the kernel gives an index to one interface only
	}
	return side, ok
}
