package lab

import (
	"slices"
	"testing"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// segment is a TCP header with the given flags.
func segment(flags byte) []byte {
	b := make([]byte, 20)
	b[12], b[tcpFlags] = 0x50, flags
	return b
}

// ip6 puts the parts behind an IPv6 header.
func ip6(next byte, parts ...[]byte) []byte {
	b := make([]byte, ip6Len)
	b[0], b[ip6Next] = 0x60, next
	return append(b, slices.Concat(parts...)...)
}

// ip4 puts a segment behind an IPv4 header with the given options and fragment offset.
func ip4(protocol byte, options int, fragment byte, tcp []byte) []byte {
	b := make([]byte, 20+options)
	b[0] = 0x40 | byte(len(b)/4)
	b[ip4Fragment+1], b[ip4Protocol] = fragment, protocol
	return append(b, tcp...)
}

func ext(next, units byte) []byte {
	b := make([]byte, 8*(int(units)+1))
	b[0], b[1] = next, units
	return b
}

func TestFilterAndParserKeepHandshakes(t *testing.T) {
	const tcp, syn, ack = unix.IPPROTO_TCP, 0x02, 0x10
	for _, tt := range []struct {
		name   string
		packet []byte
		passes bool // the filter
		is     bool
	}{
		{name: "IPv4 SYN", packet: ip4(tcp, 0, 0, segment(syn)), passes: true, is: true},
		{name: "IPv4 SYN+ACK behind options", packet: ip4(tcp, 8, 0, segment(syn|ack)), passes: true, is: true},
		{name: "IPv4 ACK", packet: ip4(tcp, 0, 0, segment(ack))},
		{name: "IPv4 UDP", packet: ip4(unix.IPPROTO_UDP, 0, 0, segment(syn))},
		{name: "IPv4 later fragment", packet: ip4(tcp, 0, 1, segment(syn))},
		{name: "IPv6 SYN", packet: ip6(tcp, segment(syn)), passes: true, is: true},
		{name: "IPv6 SYN+ACK", packet: ip6(tcp, segment(syn|ack)), passes: true, is: true},
		{name: "IPv6 ACK", packet: ip6(tcp, segment(ack))},
		{name: "IPv6 UDP", packet: ip6(unix.IPPROTO_UDP, segment(syn))},
		{name: "IPv6 SYN behind hop-by-hop", packet: ip6(extHopByHop, ext(tcp, 0), segment(syn)), passes: true, is: true},
		{
			name:   "IPv6 SYN behind three headers",
			packet: ip6(extHopByHop, ext(extRouting, 2), ext(extDestination, 2), ext(tcp, 1), segment(syn)),
			passes: true, is: true,
		},
		{name: "IPv6 ACK behind options", packet: ip6(extDestination, ext(tcp, 0), segment(ack)), passes: true},
		{name: "IPv6 first fragment", packet: ip6(extFragment, ext(tcp, 0), segment(syn)), passes: true, is: true},
		{name: "IPv6 later fragment", packet: ip6(extFragment, []byte{tcp, 0, 0, 8, 0, 0, 0, 0}, segment(syn)), passes: true},
		{name: "IPv6 header longer than the packet", packet: ip6(extHopByHop, ext(tcp, 0)[:2], []byte{9, 9, 9, 9, 9, 9}), passes: true},
	} {
		if got := isHandshake(tt.packet); got != tt.is {
			t.Errorf("%s: isHandshake says %v", tt.name, got)
		}
		for n := range tt.packet { // no prefix may crash the parser
			isHandshake(tt.packet[:n])
		}
		if got := runFilter(t, tt.packet); got != tt.passes {
			t.Errorf("%s: filter says %v", tt.name, got)
		}
	}
}

// runFilter runs the filter without its first instruction, the protocol, which
// the interpreter does not know.
func runFilter(t *testing.T, packet []byte) bool {
	t.Helper()
	var ins []bpf.Instruction
	for _, f := range handshakeFilter() {
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
