//go:build linux

package tap

import (
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/rewrite"
)

// segment returns a TCP header with the given flags and options.
func segment(flags rewrite.Flags, options ...[]byte) []byte {
	b := append(make([]byte, 20), slices.Concat(options...)...)
	b[tcpOffset], b[tcpFlags] = byte(len(b)/4)<<4, byte(flags)
	return b
}

// ip6 returns an IPv6 header followed by the parts.
func ip6(next byte, parts ...[]byte) []byte {
	b := make([]byte, ip6Size)
	b[0], b[ip6Next] = 0x60, next
	return append(b, slices.Concat(parts...)...)
}

// ip4 returns an IPv4 header, with options of a size in bytes and a fragment offset,
// followed by a payload.
func ip4(protocol byte, options int, fragment byte, payload []byte) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	b[ip4Fragment+1], b[ip4Protocol] = fragment, protocol
	return append(b, payload...)
}

// ext returns an extension header of 8 bytes and as many more units of 8 bytes.
func ext(next, units byte) []byte {
	b := make([]byte, 8*(int(units)+1))
	b[0], b[1] = next, units
	return b
}

// TCP options of an ACK in Linux's layout.
var (
	tcpTimestamps = []byte{1, 1, 8, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	sack          = []byte{1, 1, 5, 10, 0, 0, 0, 1, 0, 0, 0, 2}
	capableACK    = rewrite.MPCapable{Version: 1, Form: rewrite.CapableKeys}.Append(nil)
	capableData   = append(rewrite.MPCapable{Version: 1, Form: rewrite.CapableData}.Append(nil), 0, 0)
	joinACK       = rewrite.MPJoinACK{}.Append(nil)
	dss           = []byte{30, 8, 0x20, 0x01, 0, 0, 0, 1}
)

func TestFilterPassesTheBeginAndEndOfConnections(t *testing.T) {
	const tcp, icmp, icmp6 = unix.IPPROTO_TCP, unix.IPPROTO_ICMP, unix.IPPROTO_ICMPV6
	const fin, syn, rst, psh, ack = rewrite.FIN, rewrite.SYN, rewrite.RST, rewrite.PSH, rewrite.ACK
	for _, tt := range []struct {
		name    string
		payload []byte // behind IPv4 and IPv6
		passes  bool
	}{
		{"SYN", segment(syn), true},
		{"SYN+ACK", segment(syn | ack), true},
		{"FIN", segment(fin | ack), true},
		{"RST", segment(rst), true},
		{"ACK", segment(ack), false},
		{"ACK with timestamps", segment(ack, tcpTimestamps), false},
		{"ACK with SACK behind timestamps", segment(ack, tcpTimestamps, sack), false},
		{"data", append(segment(ack|psh), "some words of data"...), false},
		{"data with the bytes of MP_CAPABLE", append(segment(ack|psh), capableACK...), false},
		{"data behind timestamps with the bytes of MP_CAPABLE", append(segment(ack|psh, tcpTimestamps), capableACK...), false},
		{"MP_CAPABLE", segment(ack, capableACK), true},
		{"MP_CAPABLE behind timestamps", segment(ack, tcpTimestamps, capableACK), true},
		{"MP_CAPABLE with data", append(segment(ack|psh, tcpTimestamps, capableData), "data"...), true},
		{"MP_JOIN", segment(ack, joinACK), true},
		{"MP_JOIN behind timestamps", segment(ack, tcpTimestamps, joinACK[:24]), true},
		{"DSS", segment(ack, dss), false},
		{"DSS behind timestamps", segment(ack, tcpTimestamps, dss), false},
	} {
		for name, packet := range map[string][]byte{
			"IPv4":              ip4(tcp, 0, 0, tt.payload),
			"IPv4 with options": ip4(tcp, 8, 0, tt.payload),
			"IPv6":              ip6(tcp, tt.payload),
		} {
			if got := passes(t, packet); got != tt.passes {
				t.Errorf("%s, %s: passes is %v, want %v", tt.name, name, got, tt.passes)
			}
		}
	}
	for _, tt := range []struct {
		name   string
		packet []byte
		passes bool
	}{
		{"IPv4 UDP", ip4(unix.IPPROTO_UDP, 0, 0, segment(syn)), false},
		{"IPv6 UDP", ip6(unix.IPPROTO_UDP, segment(syn)), false},
		{"IPv4 later fragment", ip4(tcp, 0, 1, segment(syn)), false},
		{"IPv6 behind hop-by-hop", ip6(extHopByHop, ext(tcp, 0), segment(ack)), true},
		{"IPv6 fragment", ip6(extFragment, ext(tcp, 0), segment(ack)), true},
		{"ICMP echo", ip4(icmp, 0, 0, make([]byte, 8)), false},
		{"ICMP unreachable", ip4(icmp, 4, 0, []byte{icmpUnreachable, 1, 0, 0, 0, 0, 0, 0}), true},
		{"ICMP time exceeded", ip4(icmp, 0, 0, []byte{icmpTimeExceeded, 0, 0, 0, 0, 0, 0, 0}), true},
		{"ICMPv6 echo", ip6(icmp6, []byte{128, 0, 0, 0, 0, 0, 0, 0}), false},
		{"ICMPv6 neighbour solicitation", ip6(icmp6, []byte{135, 0, 0, 0, 0, 0, 0, 0}), false},
		{"ICMPv6 unreachable", ip6(icmp6, []byte{1, 3, 0, 0, 0, 0, 0, 0}), true},
	} {
		if got := passes(t, tt.packet); got != tt.passes {
			t.Errorf("%s: passes is %v, want %v", tt.name, got, tt.passes)
		}
	}
}

// passes reports whether the filter passes a packet. The interpreter does not know the
// first instruction, which loads the packet's protocol.
func passes(t *testing.T, packet []byte) bool {
	t.Helper()
	var ins []bpf.Instruction
	for _, f := range filter() {
		ins = append(ins, bpf.RawInstruction{Op: f.Code, Jt: f.Jt, Jf: f.Jf, K: f.K}.Disassemble())
	}
	ins[0] = bpf.LoadConstant{Dst: bpf.RegA, Val: unix.ETH_P_IP}
	if packet[0]>>4 == 6 {
		ins[0] = bpf.LoadConstant{Dst: bpf.RegA, Val: unix.ETH_P_IPV6}
	}
	vm, err := bpf.NewVM(ins)
	if err != nil {
		t.Fatal(err)
	}
	n, err := vm.Run(packet)
	if err != nil {
		t.Fatal(err)
	}
	return n > 0
}
