package paths

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// link is an interface and the addresses from which it can be used.
type link struct {
	index        int
	enabled      bool
	carrier      bool       // it is enabled and could carry packets (IFF_RUNNING, RFC 2863)
	addr4, addr6 netip.Addr // the first global one of each family, or the zero Addr
	all          []netip.Addr
}

// addr returns the address of a family from which the link can be used.
func (l link) addr(is4 bool) netip.Addr {
	if is4 {
		return l.addr4
	}
	return l.addr6
}

// lacks tells whether subflows of the link as it was before can go on no more: an
// address that they come from is gone, or the interface.
func (l link) lacks(before link) bool {
	gone := func(a netip.Addr) bool { return a.IsValid() && !slices.Contains(l.all, a) }
	return before.index != 0 && before.index != l.index || gone(before.addr4) || gone(before.addr6)
}

// links knows the interfaces of this machine by name, and is kept up to date.
type links struct {
	byName atomic.Pointer[map[string]link]

	mu   sync.Mutex
	next chan struct{} // closed by the next change; nil while nobody waits for it
}

// changed returns a channel that is closed when something changes from now on.
func (l *links) changed() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next == nil {
		l.next = make(chan struct{})
	}
	return l.next
}

// tell wakes those that wait for a change.
func (l *links) tell() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.next != nil {
		close(l.next)
		l.next = nil
	}
}

func (l *links) get(name string) link { return (*l.byName.Load())[name] }

// owner returns the index of the interface that has address a, or 0.
func (l *links) owner(a netip.Addr) int {
	for _, at := range *l.byName.Load() {
		if slices.Contains(at.all, a) {
			return at.index
		}
	}
	return 0
}

// exists tells whether there is an interface with that index.
func (l *links) exists(index int) bool {
	for _, at := range *l.byName.Load() {
		if at.index == index {
			return true
		}
	}
	return false
}

// read takes the interfaces and addresses as they are now.
func (l *links) read() error {
	for {
		// A change in the midst of a list spoils it.
		if err := l.list(); !errors.Is(err, netlink.ErrDumpInterrupted) {
			return err
		}
	}
}

func (l *links) list() error {
	all, err := netlink.LinkList()
	if err != nil {
		return fmt.Errorf("list interfaces: %w", err)
	}
	addrs, err := netlink.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list addresses: %w", err)
	}
	byName := make(map[string]link, len(all))
	for _, dev := range all {
		flags := dev.Attrs().RawFlags
		at := link{
			index: dev.Attrs().Index, enabled: flags&unix.IFF_UP != 0,
			carrier: flags&unix.IFF_UP != 0 && flags&unix.IFF_RUNNING != 0,
		}
		for _, a := range addrs {
			if a.LinkIndex == at.index {
				at.offer(a)
			}
		}
		byName[dev.Attrs().Name] = at
	}
	l.byName.Store(&byName)
	return nil
}

// offer takes address a if it is usable and the first of its family.
func (l *link) offer(a netlink.Addr) {
	ip, ok := netip.AddrFromSlice(a.IP)
	ip = ip.Unmap()
	l.all = append(l.all, ip)
	if !ok || !ip.IsGlobalUnicast() || a.Flags&(unix.IFA_F_TENTATIVE|unix.IFA_F_DEPRECATED|unix.IFA_F_DADFAILED) != 0 {
		return
	}
	first := &l.addr6
	if ip.Is4() {
		first = &l.addr4
	}
	if !first.IsValid() {
		*first = ip
	}
}

// watch reads again, and calls changed, whenever an interface or an address
// changes, until ctx ends.
func (l *links) watch(ctx context.Context, changed func()) error {
	for ctx.Err() == nil {
		if err := l.follow(ctx, changed); err != nil {
			return err
		}
	}
	return nil
}

// drain takes what is still told, until the channel is closed.
func drain[T any](c <-chan T) {
	for range c {
	}
}

// follow is watch for as long as the subscriptions last: one that has more to
// tell than fits into its buffer ends.
func (l *links) follow(ctx context.Context, changed func()) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	addrs := make(chan netlink.AddrUpdate, 16)
	if err := netlink.AddrSubscribe(addrs, ctx.Done()); err != nil {
		return fmt.Errorf("watch addresses: %w", err)
	}
	devs := make(chan netlink.LinkUpdate, 16)
	if err := netlink.LinkSubscribe(devs, ctx.Done()); err != nil {
		return fmt.Errorf("watch interfaces: %w", err)
	}
	// A subscription that has something to tell ends only when that is taken.
	defer func() { go drain(addrs); go drain(devs) }()
	for more := true; more; {
		if err := l.read(); err != nil {
			return err
		}
		changed()
		l.tell()
		select {
		case <-ctx.Done():
			return nil
		case _, more = <-addrs:
		case _, more = <-devs:
		}
	}
	return nil
}
