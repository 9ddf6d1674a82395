//go:build linux

package host

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	rtnetlink "github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
	"github.com/synbond/synbond/internal/paths"
)

// Machine is the interfaces, addresses and routes of this machine. It is safe for
// concurrent use. [Machine.Watch] keeps it up to date.
type Machine struct {
	byName   atomic.Pointer[map[string]paths.Link]
	egress   lookups[netip.Addr, int]
	sources  lookups[sourceQuestion, paths.Source]
	counters counterReader
	// removals has, by the index of their interface, addresses and how often each was
	// removed. It belongs to the goroutine of Watch; links share its inner maps, which are
	// replaced rather than changed.
	removals map[int]map[netip.Addr]int

	mu   sync.Mutex
	next chan struct{} // closed by the next change; nil while nobody waits for it
}

// OpenMachine reads the interfaces as they are now.
func OpenMachine() (*Machine, error) {
	m := &Machine{removals: make(map[int]map[netip.Addr]int)}
	if err := m.read(); err != nil {
		return nil, err
	}
	var err error
	m.counters, err = openCounters()
	return m, err
}

// Close ends the machine's connection to the kernel.
func (m *Machine) Close() error { return m.counters.close() }

// Link returns the interface of that name as it is now, or the zero Link.
func (m *Machine) Link(name string) paths.Link { return (*m.byName.Load())[name] }

// Owners returns the indices of the interfaces that have address a, in ascending order.
func (m *Machine) Owners(a netip.Addr) (all []int) {
	for _, at := range *m.byName.Load() {
		if slices.Contains(at.Addrs, a) {
			all = append(all, at.Index)
		}
	}
	slices.Sort(all)
	return all
}

// Exists reports whether there is an interface with that index.
func (m *Machine) Exists(index int) bool {
	for _, at := range *m.byName.Load() {
		if at.Index == index {
			return true
		}
	}
	return false
}

// Changed returns a channel that is closed at the next change.
func (m *Machine) Changed() <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next == nil {
		m.next = make(chan struct{})
	}
	return m.next
}

// announce wakes those that wait for a change.
func (m *Machine) announce() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.next != nil {
		close(m.next)
		m.next = nil
	}
}

// Watch follows the changes of interfaces, their addresses and settings, and policy rules until
// ctx ends, and also those of routes if withRoutes is set. A HAG leaves it unset: its routing
// daemon may change routes by the thousand.
func (m *Machine) Watch(ctx context.Context, withRoutes bool) error {
	groups := []uint32{
		unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR,
		unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_NETCONF, unix.RTNLGRP_IPV6_NETCONF,
	}
	if withRoutes {
		groups = append(groups, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := nl.Watch(ctx, unix.NETLINK_ROUTE, groups, func(messages []rtnetlink.Message) {
		m.countRemovals(messages)
		if messages == nil || slices.ContainsFunc(messages, concernsLinks) {
			if err := m.read(); err != nil {
				cancel(err)
				return
			}
		}
		m.egress.clear()
		m.sources.clear()
		m.announce()
	})
	if cause := context.Cause(ctx); err == nil && cause != nil && !errors.Is(cause, context.Canceled) {
		err = cause
	}
	if err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	return nil
}

// concernsLinks reports whether a message is about interfaces or addresses.
func concernsLinks(m rtnetlink.Message) bool {
	switch m.Header.Type {
	case unix.RTM_NEWLINK, unix.RTM_DELLINK, unix.RTM_NEWADDR, unix.RTM_DELADDR:
		return true
	}
	return false
}

// countRemovals counts the addresses that messages report removed: those that are added
// again before the machine is read would not be missed.
func (m *Machine) countRemovals(messages []rtnetlink.Message) {
	for _, msg := range messages {
		switch index, a := removedAddress(msg); {
		case a.IsValid():
			counts := maps.Clone(m.removals[index])
			if counts == nil {
				counts = make(map[netip.Addr]int)
			}
			counts[a]++
			m.removals[index] = counts
		case msg.Header.Type == unix.RTM_DELLINK && len(msg.Data) >= linkSize && msg.Data[0] == unix.AF_UNSPEC: // no bridge port
			delete(m.removals, int(binary.NativeEndian.Uint32(msg.Data[messageIndex:])))
		}
	}
}

// struct ifaddrmsg: family, prefix length, flags, scope (a byte each), interface u32, then
// attributes. struct ifinfomsg has its interface at the same place.
const (
	messageIndex = 4
	addressSize  = 8
	linkSize     = 16
)

// removedAddress returns the address whose removal a message reports, and the index of its
// interface.
func removedAddress(msg rtnetlink.Message) (index int, a netip.Addr) {
	if msg.Header.Type != unix.RTM_DELADDR || len(msg.Data) < addressSize {
		return 0, a
	}
	for kind, value := range nl.Attributes(msg.Data[addressSize:]) {
		// IFA_ADDRESS is the peer's where there is an IFA_LOCAL.
		if kind == unix.IFA_LOCAL || kind == unix.IFA_ADDRESS && !a.IsValid() {
			a, _ = netip.AddrFromSlice(value)
		}
	}
	return int(binary.NativeEndian.Uint32(msg.Data[messageIndex:])), a.Unmap()
}
