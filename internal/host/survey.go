//go:build linux

package host

import (
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/ruleset"
	"github.com/synbond/synbond/nfq"
)

// Survey is a look at a machine on behalf of a box. Without a box's configuration, checks
// of interfaces and paths find nothing.
type Survey struct {
	// Surroundings is the machine. [NewHere] returns the one that this process runs on.
	Surroundings

	HAG       bool
	Running   bool // the box runs: it has made its settings
	Plain     []string
	Paths     []paths.Path     // of a CPE: with the join addresses that they use
	Join      []netip.AddrPort // of a HAG: its own
	Peers     []Peer           // of a HAG: addresses of CPEs, as far as they are known
	HalfOpen  int              // handshakes that the box may hold
	OwnSource bool             // over IPv4 the box dials from its own address already
}

// Peer is an address of a CPE, as a HAG sees it.
type Peer struct {
	Addr netip.Addr
	// Interface is the one by which its probes come in, "" if that is not known.
	Interface string
	// Missing: it cannot be heard any more, by what the CPE says over another path or because
	// its probes do not come.
	Missing bool
}

// Surroundings are the parts of a machine that checks read.
type Surroundings interface {
	// Sysctl returns a kernel setting, or os.ErrNotExist if the kernel lacks it. The key is
	// that of [ReadSysctl].
	Sysctl(key string) (string, error)
	// Now returns the time of the machine's clock.
	Now() time.Time
	// File returns the contents of a file under /proc.
	File(name string) (string, error)
	// Addresses returns the usable addresses of an interface with their prefixes.
	Addresses(ifname string) []netip.Prefix
	// Route returns the interface by which packets to dst leave that come from src, "" if
	// there is no route. Without src the kernel chooses.
	Route(dst, src netip.Addr) string
	// MarkRules returns the policy rules of other programs for marks, of an address family.
	MarkRules(is4 bool) []nfq.MarkRule
	// Network returns the interfaces and routes as they are now.
	Network() (Network, error)
	// Filter returns the packet filter.
	Filter() (Filter, error)
}

// Filter is the packet filter of a machine. [ruleset.Rules] is one.
type Filter interface {
	// Hook returns the fate of a packet in a hook, by the chains with a priority of at least
	// from, without those of tables whose name begins with except.
	Hook(h ruleset.Hook, p ruleset.Packet, from int, except string) ruleset.Outcome
}

// here is the machine and the network namespace of the calling thread.
type here struct{ rules *ruleset.Reader }

// NewHere returns the machine of the calling process, in the network namespace of the
// calling thread. It is for one goroutine at a time.
func NewHere() Surroundings { return here{new(ruleset.Reader)} }

// Sysctl implements [Surroundings].
func (here) Sysctl(key string) (string, error) { return ReadSysctl(key) }

// Now implements [Surroundings].
func (here) Now() time.Time { return time.Now() }

// File implements [Surroundings].
func (here) File(name string) (string, error) {
	b, err := os.ReadFile(name)
	return string(b), err
}

// Addresses implements [Surroundings].
func (here) Addresses(ifname string) (all []netip.Prefix) {
	dev, err := net.InterfaceByName(ifname)
	if err != nil {
		return nil
	}
	addrs, err := dev.Addrs()
	if err != nil {
		return nil
	}
	for _, a := range addrs {
		n, ok := a.(*net.IPNet)
		if !ok {
			continue
		}
		ip, _ := netip.AddrFromSlice(n.IP)
		if ip = ip.Unmap(); ip.IsGlobalUnicast() {
			ones, _ := n.Mask.Size()
			all = append(all, netip.PrefixFrom(ip, ones))
		}
	}
	return all
}

// Route implements [Surroundings].
func (here) Route(dst, src netip.Addr) string {
	var with *netlink.RouteGetOptions
	if src.IsValid() {
		with = &netlink.RouteGetOptions{SrcAddr: src.AsSlice()}
	}
	routes, err := netlink.RouteGetWithOptions(dst.AsSlice(), with)
	if err != nil || len(routes) == 0 {
		return ""
	}
	dev, err := net.InterfaceByIndex(routes[0].LinkIndex)
	if err != nil {
		return ""
	}
	return dev.Name
}

// MarkRules implements [Surroundings].
func (here) MarkRules(is4 bool) []nfq.MarkRule {
	family := unix.AF_INET6
	if is4 {
		family = unix.AF_INET
	}
	return nfq.Routes{Family: family}.ByMark()
}

// Filter implements [Surroundings].
func (h here) Filter() (Filter, error) {
	r, err := h.rules.Read()
	if err != nil {
		return nil, err
	}
	r.Route = h.Route
	return r, nil
}
