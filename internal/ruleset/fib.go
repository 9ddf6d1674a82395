//go:build linux

package ruleset

import (
	"net"
	"net/netip"

	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"
)

// Route returns the name of the interface by which packets from src to dst leave, "" if there
// is no route. An empty src leaves the choice to the kernel.
type Route func(dst, src netip.Addr) string

// fib loads the result of a route lookup (kernel: nft_fib4_eval, nft_fib6_eval).
func (w *walk) fib(e *expr.Fib, regs *registers) truth {
	value := w.fibValue(e)
	if value == nil {
		regs.forget(e.Register, 16)
		return matches
	}
	regs.put(e.Register, value)
	return matches
}

func (w *walk) fibValue(e *expr.Fib) []byte {
	if w.rules.Route == nil || e.FlagOIF {
		return nil
	}
	p := w.packet
	src, dst := p.addresses()
	if e.ResultADDRTYPE {
		if e.FlagSADDR {
			return addressType(src)
		}
		return addressType(dst)
	}
	if !e.FlagSADDR || e.FlagMARK && p.Mark&^ours != 0 {
		return nil
	}
	by := p.In // of a packet that was looped (kernel: nft_fib_is_loopback)
	if p.In != loopback {
		from := dst
		if !isLocal(dst) {
			from = netip.Addr{} // the way back begins at an address of another machine
		}
		by = w.rules.Route(src, from)
		if e.FlagIIF && by != p.In {
			by = "" // by another interface there is a route, but not by this one
		}
	}
	switch {
	case e.FlagPRESENT:
		return binaryutil.NativeEndian.PutUint32(boolean(by != ""))
	case e.ResultOIFNAME:
		b := make([]byte, unix.IFNAMSIZ)
		copy(b, by)
		return b
	case by == "":
		return make([]byte, 4)
	}
	return interfaceIndex(by)
}

const loopback = "lo"

// ours are the bits of a mark that the box sets, by which no policy routing of others goes.
const ours = 0xff0000ff

func boolean(b bool) uint32 {
	if b {
		return 1
	}
	return 0
}

// isLocal reports whether this machine has an address.
func isLocal(a netip.Addr) bool {
	all, err := net.InterfaceAddrs()
	if err != nil {
		return false
	}
	for _, at := range all {
		if n, ok := at.(*net.IPNet); ok {
			if own, ok := netip.AddrFromSlice(n.IP); ok && own.Unmap() == a {
				return true
			}
		}
	}
	return false
}

// addressType returns the type of an address in the routing table.
func addressType(a netip.Addr) []byte {
	kind := uint32(unix.RTN_UNICAST)
	switch {
	case isLocal(a):
		kind = unix.RTN_LOCAL
	case a.IsMulticast():
		kind = unix.RTN_MULTICAST
	}
	return binaryutil.NativeEndian.PutUint32(kind)
}
