package box

import (
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/rewrite"
	"github.com/synbond/synbond/state"
)

// What connect(2) says to a "destination unreachable", by code (kernel:
// icmpv6_err_convert in net/ipv6/icmp.c, icmp_err_convert in net/ipv4/icmp.c).
var (
	unreachable6 = [...]unix.Errno{
		unix.ENETUNREACH, unix.EACCES, unix.EHOSTUNREACH, unix.EHOSTUNREACH,
		unix.ECONNREFUSED, unix.EACCES, unix.EACCES,
	}
	unreachable4 = [...]unix.Errno{
		unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENOPROTOOPT, unix.ECONNREFUSED,
		unix.EMSGSIZE, unix.EOPNOTSUPP, unix.ENETUNREACH, unix.EHOSTDOWN, unix.ENONET,
		unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETUNREACH, unix.EHOSTUNREACH,
		unix.EHOSTUNREACH, unix.EHOSTUNREACH, unix.EHOSTUNREACH,
	}
)

// ICMP decides about an ICMP error that this machine sends: the kernel answers
// to the address that a packet bears, even where the packet is the box's own.
// If the error ends the dial of a flow, ok is true, the error itself is to be
// dropped, and d is for the held SYN of f. Otherwise it goes its way.
func (c *Core) ICMP(now time.Duration, packet []byte) (d Decision, f state.Flow, ok bool) {
	var e rewrite.ICMPError
	if e.Parse(packet) != nil {
		return Decision{}, state.Flow{}, false
	}
	codes := unreachable6[:]
	if e.Src.Addr().Is4() {
		codes = unreachable4[:]
	}
	if int(e.Code) >= len(codes) || codes[e.Code] == unix.EMSGSIZE {
		return Decision{}, state.Flow{}, false
	}
	return c.Connected(now, state.KeyOf(e.Src, e.Dst), codes[e.Code])
}
