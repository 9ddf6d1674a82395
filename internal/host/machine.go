//go:build linux

package host

import (
	"context"
	"errors"
	"fmt"
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
	egress   egressCache
	counters counterReader

	mu   sync.Mutex
	next chan struct{} // closed by the next change; nil while nobody waits for it
}

// OpenMachine reads the interfaces as they are now.
func OpenMachine() (*Machine, error) {
	m := &Machine{egress: egressCache{index: make(map[netip.Addr]int)}}
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

// Owner returns the index of the interface that has address a, or 0.
func (m *Machine) Owner(a netip.Addr) int {
	for _, at := range *m.byName.Load() {
		if slices.Contains(at.Addrs, a) {
			return at.Index
		}
	}
	return 0
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

// Watch follows the changes of interfaces and addresses until ctx ends, and also
// those of routes if withRoutes is set. A HAG leaves it unset: its routing daemon
// may change routes by the thousand.
func (m *Machine) Watch(ctx context.Context, withRoutes bool) error {
	groups := []uint32{unix.RTNLGRP_LINK, unix.RTNLGRP_IPV4_IFADDR, unix.RTNLGRP_IPV6_IFADDR}
	if withRoutes {
		groups = append(groups, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	err := nl.Watch(ctx, unix.NETLINK_ROUTE, groups, func(messages []rtnetlink.Message) {
		m.egress.clear()
		if messages == nil || slices.ContainsFunc(messages, concernsLinks) {
			if err := m.read(); err != nil {
				cancel(err)
				return
			}
		}
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

// concernsLinks reports whether a message is about interfaces or addresses, not routes.
func concernsLinks(m rtnetlink.Message) bool {
	return m.Header.Type != unix.RTM_NEWROUTE && m.Header.Type != unix.RTM_DELROUTE
}
