//go:build linux

package box

import (
	"net"
	"sync/atomic"

	"github.com/synbond/synbond/state"
)

// sides knows on which side an interface is. Interfaces are configured by name
// and may come and go (PPP, LTE modems), packets carry their index: what is not
// known yet is looked up. Only forget may be called beside the queue's goroutine.
type sides struct {
	byName  map[string]state.Side
	byIndex map[uint32]state.Side
	paths   map[string]uint8 // indices of the paths, by interface
	byOut   map[uint32]uint8
	stale   atomic.Bool // what is known by index may be wrong
}

func newSides(c Config) *sides {
	s := &sides{
		byName: make(map[string]state.Side), byIndex: make(map[uint32]state.Side),
		paths: make(map[string]uint8), byOut: make(map[uint32]uint8),
	}
	for i, p := range c.Paths {
		s.paths[p.Interface] = uint8(i)
	}
	for _, name := range c.Plain {
		s.byName[name] = state.Plain
	}
	for _, p := range c.Paths {
		s.byName[p.Interface] = state.Multipath
	}
	return s
}

// forget drops what is known of interfaces: one may have got the name of another.
func (s *sides) forget() { s.stale.Store(true) }

func (s *sides) of(index uint32) (state.Side, bool) {
	if s.stale.Load() && s.stale.Swap(false) {
		clear(s.byIndex)
		clear(s.byOut)
	}
	if side, ok := s.byIndex[index]; ok {
		return side, true
	}
	dev, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return 0, false
	}
	side, ok := s.byName[dev.Name]
	if ok {
		s.byIndex[index] = side
	}
	return side, ok
}

// path returns the index of the path that has an interface, 0 if none has it. It is called
// after of.
func (s *sides) path(index uint32) uint8 {
	if path, ok := s.byOut[index]; ok || len(s.paths) < 2 {
		return path
	}
	dev, err := net.InterfaceByIndex(int(index))
	if err != nil {
		return 0
	}
	path := s.paths[dev.Name]
	s.byOut[index] = path
	return path
}
