//go:build linux

package box

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
)

// encapsulation is a CPE's end of encapsulated subflows. An interface per path is made when the path
// first needs it, and stays until the box stops.
type encapsulation struct {
	log   *slog.Logger
	paths []paths.Path
	mtu   func(ifname string) int // of an interface
	open  func(c host.TUNConfig, take func(b []byte)) (*tunnel, error)
	send  func(path int, datagram []byte) error
	set   func(path int, e paths.Encapsulation)

	counters encap.Counters
	ports    [paths.MaxPaths]atomic.Pointer[port]

	mu    sync.Mutex // guards what follows
	ended bool
	known [paths.MaxPaths]encapsulated
}

// port is the open end of a path.
type port struct {
	*tunnel
	*encap.Port
	offer paths.Offer
}

// encapsulated is what the box knows of the encapsulated way of a path.
type encapsulated struct {
	wanted  bool
	cause   string
	offer   paths.Offer
	failure string // why there is no interface
	retry   time.Duration
}

// retryInterface is the time between two attempts to make an interface.
const retryInterface = 10 * time.Second

// interfaceOf returns the name of the interface of a path's encapsulated subflows.
func interfaceOf(path int) string { return fmt.Sprintf("synbond-cpe%d", path) }

// newEncapsulation connects the end of encapsulated subflows to the monitor and the planner, unless it is
// configured away, or no HAG is there to ask.
func (b *Box) newEncapsulation(undo *undo) {
	if !b.cfg.Encapsulate || len(b.cfg.Upstream.Servers) > 0 {
		return
	}
	s := b.steering
	e := &encapsulation{
		log: b.cfg.Log, paths: b.set.Paths, open: openTunnel, set: s.paths.SetEncapsulation,
		mtu:  func(ifname string) int { return b.machine.Link(ifname).MTU },
		send: s.kernel.monitor.Send,
	}
	s.encapsulation = e
	s.kernel.monitor.Deliver(e.deliver)
	b.set.SetInner(e.pathOf)
	undo.add(e.close)
}

// deliver takes a datagram from the HAG.
func (e *encapsulation) deliver(path int, datagram []byte) {
	p := e.ports[path].Load()
	if p == nil {
		return
	}
	if packet, why := p.Inbound(datagram); why == encap.Passed {
		_, _ = p.Write(packet) // what the kernel does not take counts as lost
	}
}

// pathOf returns the path of an inner address.
func (e *encapsulation) pathOf(inner netip.Addr) (path int, ok bool) {
	if !inner.Is4() || !encap.Prefix.Contains(inner) {
		return -1, false
	}
	for i := range e.paths {
		if p := e.ports[i].Load(); p != nil && p.offer.Inner == inner {
			return i, true
		}
	}
	return -1, false
}

// want returns the paths that need an encapsulated way, a bit each, with the reasons for which
// they do.
func (e *encapsulation) want(all []paths.EncapsulationStatus, refusals []paths.Refusal) (wanted uint8) {
	e.mu.Lock()
	defer e.mu.Unlock()
	for i, at := range all {
		k := &e.known[i]
		k.wanted, k.cause = at.Wanted, cmp.Or(refusals[i].Reason, "a middlebox has reset all subflows of a connection")
		if at.Wanted {
			wanted |= 1 << i
		}
	}
	return wanted
}

// fit opens and closes interfaces as the HAG's offers say.
func (e *encapsulation) fit(now time.Duration, all []paths.Status) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended {
		return
	}
	for i := range all {
		e.fitPath(now, i, &all[i])
	}
}

func (e *encapsulation) fitPath(now time.Duration, i int, s *paths.Status) {
	k, p := &e.known[i], e.ports[i].Load()
	name := e.paths[i].Name
	if s.Offer.Denial != k.offer.Denial && s.Offer.Denial != "" {
		e.log.Warn("subflows on a path cannot be encapsulated", "path", name, "cause", k.cause, "reason", s.Offer.Denial)
	}
	if s.Offer != k.offer {
		k.offer, k.failure, k.retry = s.Offer, "", 0
	}
	if p != nil && (p.offer != s.Offer || p.broken.Load()) {
		e.set(i, paths.Encapsulation{})
		e.ports[i].Store(nil)
		if err := p.close(); err != nil {
			e.log.Debug("close an interface", "interface", p.config.Name, "err", err)
		}
		p = nil
	}
	if p != nil || !s.Offer.Inner.IsValid() || now < k.retry {
		return
	}
	mtu := encap.MTU(e.outerMTU(i, s))
	config := host.TUNConfig{
		Name: interfaceOf(i), MTU: mtu, Local: s.Offer.Inner, Remote: netip.PrefixFrom(encap.Remote(i).Addr(), 32),
	}
	next := &port{Port: encap.NewPort(i, encap.Grant{Inner: s.Offer.Inner, Key: s.Offer.Key}, &e.counters), offer: s.Offer}
	t, err := e.open(config, func(b []byte) {
		if next.Outbound(b) == encap.Passed {
			_ = e.send(i, b) // what cannot be sent counts as lost
		}
	})
	if err != nil {
		if k.failure == "" {
			e.log.Warn("subflows on a path cannot be encapsulated", "path", name, "cause", k.cause, "err", err)
		}
		k.failure, k.retry = err.Error(), now+retryInterface
		return
	}
	next.tunnel, k.failure = t, ""
	e.ports[i].Store(next)
	e.log.Warn("subflows on a path are encapsulated in UDP", "path", name, "cause", k.cause, "interface", config.Name, "mtu", mtu)
	e.set(i, paths.Encapsulation{Index: t.index, Local: s.Offer.Inner, Remote: encap.Remote(i)})
}

// outerMTU returns the size of the largest packets that a path carries, in both address families.
func (e *encapsulation) outerMTU(i int, s *paths.Status) int {
	size := e.mtu(e.paths[i].Interface)
	for _, limit := range []int{s.Limit6, s.Limit4} {
		if limit > 0 && (size == 0 || limit < size) {
			size = limit
		}
	}
	return size
}

// state describes the encapsulated way of a path, nil if it needs none. Open is the number of its
// subflows.
func (e *encapsulation) state(i int, open int) *api.Encapsulation {
	if e == nil {
		return nil
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	k, p := &e.known[i], e.ports[i].Load()
	out := &api.Encapsulation{State: "asked", Subflows: open}
	switch {
	case p != nil:
		out.State, out.Reason, out.Interface = "ready", k.cause, p.config.Name
	case !k.wanted:
		return nil
	case k.offer.Denial != "":
		out.State, out.Reason = "denied", k.offer.Denial
	case k.failure != "":
		out.State, out.Reason = "failed", k.failure
	}
	return out
}

// failureOf returns why this machine cannot encapsulate the subflows of a path that needs it, "" if
// it can.
func (e *encapsulation) failureOf(i int) string {
	if e == nil {
		return ""
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.known[i].failure
}

// ready reports whether subflows of a path can be encapsulated.
func (e *encapsulation) ready(i int) bool { return e != nil && e.ports[i].Load() != nil }

// missing names what others have taken from the interfaces.
func (e *encapsulation) missing() (string, error) {
	return missingOf(e.tunnels())
}

// mend puts back what is missing. An interface that is gone is made anew by fit.
func (e *encapsulation) mend() error {
	return mendAll(e.tunnels())
}

// tunnels returns the open interfaces.
func (e *encapsulation) tunnels() (all []*tunnel) {
	for i := range e.paths {
		if p := e.ports[i].Load(); p != nil {
			all = append(all, p.tunnel)
		}
	}
	return all
}

// missingOf names what others have taken from interfaces, "" for nothing.
func missingOf(all []*tunnel) (string, error) {
	var words []string
	var errs []error
	for _, t := range all {
		w, err := t.missing()
		if errs = append(errs, err); w != "" {
			words = append(words, w)
		}
	}
	return strings.Join(words, ", "), errors.Join(errs...)
}

// mendAll mends the interfaces that are there. One that is gone is left to its owner.
func mendAll(all []*tunnel) error {
	var errs []error
	for _, t := range all {
		if !t.broken.Load() {
			errs = append(errs, t.Mend())
		}
	}
	return errors.Join(errs...)
}

// close removes all interfaces.
func (e *encapsulation) close() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.ended = true
	var errs []error
	for i := range e.ports {
		if p := e.ports[i].Swap(nil); p != nil {
			errs = append(errs, p.close())
		}
	}
	return errors.Join(errs...)
}
