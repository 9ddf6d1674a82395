package pcaps

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/synbond/synbond/rewrite"
)

// wrapper puts a header in front of a payload of a version of IP, which may be the payload's
// own or that of a packet deep inside.
type wrapper func(version int, payload []byte) []byte

func be16(values ...int) (b []byte) {
	for _, v := range values {
		b = binary.BigEndian.AppendUint16(b, uint16(v))
	}
	return b
}

var (
	outer4 = [2]netip.Addr{netip.MustParseAddr("10.9.0.1"), netip.MustParseAddr("10.9.0.2")}
	outer6 = [2]netip.Addr{netip.MustParseAddr("2001:db8:9::1"), netip.MustParseAddr("2001:db8:9::2")}
)

func fixed(header ...byte) wrapper {
	return func(_ int, p []byte) []byte { return cat(header, p) }
}

// typed ends a header with the EtherType of the packet.
func typed(header ...byte) wrapper {
	return func(v int, p []byte) []byte { return cat(header, be16(map[int]int{4: 0x0800, 6: 0x86dd}[v]), p) }
}

func ether(etherType int) wrapper { return fixed(cat(macs, be16(etherType))...) }

func inPPP(protocol4, protocol6 []byte) wrapper {
	return func(v int, p []byte) []byte { return cat(map[int][]byte{4: protocol4, 6: protocol6}[v], p) }
}

var (
	inEther = typed(macs...)
	longPPP = inPPP([]byte{0x00, 0x21}, []byte{0x00, 0x57})
	tinyPPP = inPPP([]byte{0x21}, []byte{0x57}) // with compression of the protocol field
)

func inPPPoE(_ int, p []byte) []byte { return cat([]byte{0x11, 0, 0x12, 0x34}, be16(len(p)), p) }

// in4 and in6 wrap a payload in IP.
func in4(protocol byte) wrapper {
	return func(_ int, p []byte) []byte {
		return ipHeader{[]byte{0x45, 0, 0, 0, 0x12, 0x34}, outer4[0], outer4[1], protocol, 64}.packet(p)
	}
}

func in6(protocol byte) wrapper {
	return func(_ int, p []byte) []byte {
		return ipHeader{[]byte{0x60, 0, 0, 0}, outer6[0], outer6[1], protocol, 64}.packet(p)
	}
}

// inIP wraps a packet in IP, with the protocol number of the packet's version.
func inIP(outer func(byte) wrapper) wrapper {
	return func(v int, p []byte) []byte { return outer(map[int]byte{4: 4, 6: 41}[v])(v, p) }
}

func inUDP(addrs [2]netip.Addr, from, to int, checksum bool) wrapper {
	return func(_ int, p []byte) []byte {
		b := cat(be16(from, to, 8+len(p), 0), p)
		if checksum {
			copy(b[6:], be16(int(rewrite.Checksum(pseudoHeader(addrs[0], addrs[1], 17, len(b)), b))))
		}
		return b
	}
}

// withLength puts a header with a length of 16 bits in front of a payload.
func withLength(at, more int, header ...byte) wrapper {
	return func(_ int, p []byte) []byte {
		b := cat(header, p)
		copy(b[at:], be16(len(p)+more))
		return b
	}
}

func inGRE(flags int, more ...byte) wrapper {
	return func(v int, p []byte) []byte {
		b := cat(be16(flags, map[int]int{4: 0x0800, 6: 0x86dd}[v]), more, p)
		if flags&0x8000 != 0 {
			copy(b[4:], be16(int(rewrite.Checksum(b))))
		}
		return b
	}
}

func inLLC(_ int, p []byte) []byte { return cat(macs, be16(len(p)), p) }

func inNFLOG(order binary.ByteOrder) wrapper {
	return func(v int, p []byte) []byte {
		b := []byte{map[int]byte{4: 2, 6: 10}[v], 0, 0, 5}
		b = append(b, 0, 0, 0, 0, 'l', 'o', 'g', 0) // NFULA_PREFIX, with padding
		order.PutUint16(b[4:], 7)
		order.PutUint16(b[6:], 10)
		b = append(b, 0, 0, 0, 0)
		order.PutUint16(b[12:], uint16(4+len(p)))
		order.PutUint16(b[14:], 9)
		return append(b, p...)
	}
}

func withFCS(_ int, p []byte) []byte {
	p = append(slices.Clone(p), make([]byte, max(0, 60-len(p)))...)
	return binary.LittleEndian.AppendUint32(p, crc32.ChecksumIEEE(p))
}

// encapsulation is a link type with headers, the innermost first.
type encapsulation struct {
	name     string
	link     LinkType
	wrappers []wrapper
}

func (e encapsulation) frame(packet []byte) []byte {
	v := int(packet[0] >> 4)
	for _, wrap := range e.wrappers {
		packet = wrap(v, packet)
	}
	return packet
}

var encapsulations = []encapsulation{
	{"PPPoE", LinkEthernet, []wrapper{longPPP, inPPPoE, ether(0x8864)}},
	{"PPPoE with compressed PPP", LinkEthernet, []wrapper{tinyPPP, inPPPoE, ether(0x8864)}},
	{"PPPoE, VLAN", LinkEthernet, []wrapper{longPPP, inPPPoE, fixed(0, 7, 0x88, 0x64), ether(0x8100)}},
	{"PPPoE, QinQ, priority", LinkEthernet, []wrapper{longPPP, inPPPoE, fixed(0x60, 0, 0x88, 0x64), fixed(0, 9, 0x81, 0), ether(0x88a8)}},
	{"PPPoE link", LinkPPPoE, []wrapper{longPPP, inPPPoE}},
	{"PPP", LinkPPP, []wrapper{longPPP}},
	{"PPP with address", LinkPPP, []wrapper{longPPP, fixed(0xff, 3)}},
	{"PPP, all compressed", LinkPPP, []wrapper{tinyPPP}},
	{"PPP serial", LinkPPPSerial, []wrapper{longPPP, fixed(0xff, 3)}},
	{"PPP serial, Cisco", LinkPPPSerial, []wrapper{typed(0x0f, 0)}},
	{"Cisco HDLC", LinkCiscoHDLC, []wrapper{typed(0x0f, 0)}},
	{"PPP of pppd", LinkPPPDaemon, []wrapper{longPPP, fixed(1, 3)}},
	{"PPP with direction", LinkPPPDir, []wrapper{longPPP, fixed(0xff, 3), fixed(0)}},
	{"PPP, MPLS", LinkPPP, []wrapper{fixed(0, 1, 1, 64), fixed(0x02, 0x81)}},
	{"LLC, SNAP", LinkEthernet, []wrapper{typed(0xaa, 0xaa, 3, 0, 0, 0), inLLC}},
	{"LLC", LinkEthernet, []wrapper{fixed(6, 6, 3), inLLC}},
	{"LLC, SNAP, VLAN", LinkEthernet, []wrapper{typed(0xaa, 0xaa, 3, 0, 0, 0), withLength(2, 0, 0, 7, 0, 0), ether(0x8100)}},
	{"FCS", LinkEthernet, []wrapper{inEther, withFCS}},
	{"802.1ah", LinkEthernet, []wrapper{inEther, fixed(0, 0, 0, 5), ether(0x88e7)}},
	{"802.1CB", LinkEthernet, []wrapper{typed(0, 0, 0, 9), ether(0xf1c1)}},
	{"MPLS, two labels", LinkEthernet, []wrapper{fixed(0, 1, 0x01, 64), fixed(0, 2, 0, 64), ether(0x8847)}},
	{"MPLS pseudowire", LinkEthernet, []wrapper{inEther, fixed(0, 1, 1, 64), ether(0x8847)}},
	{"MPLS pseudowire with control word", LinkEthernet, []wrapper{inEther, fixed(0, 0, 0, 8), fixed(0, 1, 1, 64), ether(0x8847)}},
	{"MPLS link", LinkMPLS, []wrapper{fixed(0, 1, 1, 64)}},
	{"IP in IPv4", LinkEthernet, []wrapper{inIP(in4), ether(0x0800)}},
	{"IP in IPv6", LinkRaw, []wrapper{inIP(in6)}},
	{"IP in IP in IP", LinkRaw, []wrapper{inIP(in4), in6(4)}},
	{"MPLS in IP", LinkRaw, []wrapper{fixed(0, 1, 1, 64), in4(137)}},
	{"EtherIP", LinkRaw, []wrapper{inEther, fixed(0x30, 0), in6(97)}},
	{"GRE", LinkEthernet, []wrapper{inGRE(0), in4(47), ether(0x0800)}},
	{"GRE with key", LinkRaw, []wrapper{inGRE(0x2000, 0, 0, 0, 7), in6(47)}},
	{"GRE with everything", LinkRaw, []wrapper{inGRE(0xb000, 0, 0, 0, 0, 0, 0, 0, 7, 0, 0, 0, 9), in4(47)}},
	{"GRE, Ethernet", LinkRaw, []wrapper{inEther, fixed(0x20, 0, 0x65, 0x58, 0, 0, 0, 1), in4(47)}},
	{"PPTP", LinkRaw, []wrapper{longPPP, withLength(4, 0, 0x30, 1, 0x88, 0x0b, 0, 0, 0, 7, 0, 0, 0, 1), in4(47)}},
	{"VXLAN", LinkEthernet, []wrapper{inEther, fixed(8, 0, 0, 0, 0, 0, 42, 0), inUDP(outer4, 5555, 4789, false), in4(17), ether(0x0800)}},
	{"VXLAN with checksum", LinkRaw, []wrapper{inEther, fixed(8, 0, 0, 0, 0, 0, 42, 0), inUDP(outer6, 5555, 4789, true), in6(17)}},
	{"VXLAN, PPPoE", LinkRaw, []wrapper{longPPP, inPPPoE, ether(0x8864), fixed(8, 0, 0, 0, 0, 0, 42, 0), inUDP(outer4, 5555, 8472, true), in4(17)}},
	{"VXLAN-GPE, NSH", LinkRaw, []wrapper{inEther, fixed(0, 2, 2, 3, 0, 0, 1, 255), fixed(0x0c, 0, 0, 4, 0, 0, 42, 0), inUDP(outer4, 5555, 4790, true), in4(17)}},
	{"Geneve with options", LinkRaw, []wrapper{inEther, fixed(1, 0, 0x65, 0x58, 0, 0, 42, 0, 0, 0, 0, 0), inUDP(outer4, 5555, 6081, true), in4(17)}},
	{"GTP-U", LinkRaw, []wrapper{withLength(2, 0, 0x30, 255, 0, 0, 0, 0, 0, 7), inUDP(outer4, 2152, 2152, true), in4(17)}},
	{"GTP-U with extension headers", LinkRaw, []wrapper{
		withLength(2, 16-8+4, 0x36, 255, 0, 0, 0, 0, 0, 7, 0, 1, 0, 0x85, 1, 0x10, 9, 0x85, 1, 0x10, 9, 0), inUDP(outer6, 2152, 2152, true), in6(17)}},
	{"L2TP", LinkRaw, []wrapper{longPPP, fixed(0xff, 3), withLength(2, 8, 0x40, 2, 0, 0, 0, 1, 0, 2), inUDP(outer4, 1701, 9999, true), in4(17)}},
	{"L2TP, offset", LinkRaw, []wrapper{tinyPPP, fixed(0x0a, 2, 0, 1, 0, 2, 0, 1, 0, 0, 0, 2, 0, 0), inUDP(outer4, 9999, 1701, false), in4(17)}},
	{"MPLS in UDP", LinkRaw, []wrapper{fixed(0, 1, 1, 64), inUDP(outer4, 5555, 6635, true), in4(17)}},
	{"GRE in UDP", LinkRaw, []wrapper{inGRE(0), inUDP(outer4, 5555, 4754, true), in4(17)}},
	{"LISP", LinkRaw, []wrapper{fixed(0, 0, 0, 0, 0, 0, 0, 0), inUDP(outer4, 5555, 4341, false), in4(17)}},
	{"WCCP", LinkRaw, []wrapper{fixed(0, 0, 0x88, 0x3e, 0, 0, 0, 0), in4(47)}},
	{"NFLOG", LinkNFLOG, []wrapper{inNFLOG(binary.LittleEndian)}},
	{"NFLOG, big endian", LinkNFLOG, []wrapper{inNFLOG(binary.BigEndian)}},
	{"cooked v1, PPPoE", LinkCooked, []wrapper{longPPP, inPPPoE, fixed(cat(cookedIn, []byte{0x88, 0x64})...)}},
	{"cooked v1 of PPP", LinkCooked, []wrapper{inPPP(cat([]byte{0, 0, 2, 0}, cookedIn[4:], []byte{0, 0x21}), cat([]byte{0, 0, 2, 0}, cookedIn[4:], []byte{0, 0x57}))}},
	{"cooked v1, LLC", LinkCooked, []wrapper{typed(0xaa, 0xaa, 3, 0, 0, 0), fixed(cat(cookedIn, []byte{0, 4})...)}},
	{"cooked v2, PPPoE", LinkCooked2, []wrapper{longPPP, inPPPoE, fixed(cat([]byte{0x88, 0x64}, cooked2In)...)}},
	{"IP over IEEE 1394", LinkFirewire, []wrapper{typed(make([]byte, 16)...)}},
}

// packets returns packets of both versions and different lengths.
func packetsOf(k conn) [][]byte {
	return [][]byte{k.syn(), k.syn(capableSYN), k.fromServer(rewrite.ACK, nil, "data of odd"), k.fromServer(rewrite.ACK, nil, strings.Repeat("x", 600))}
}

// A frame with a packet replaced is, byte for byte, the frame built around the other packet.
func TestReplaceInEveryEncapsulation(t *testing.T) {
	for _, e := range encapsulations {
		for _, k := range []conn{conn4, conn6} {
			for _, old := range packetsOf(k) {
				for _, packet := range packetsOf(k) {
					whole := e.frame(old)
					f := frameOf(e.link, whole, len(whole))
					if !bytes.Equal(f.Packet(), old) || f.Missing() != 0 || f.unread.name != "" {
						t.Fatalf("%s: %x: got %x, %d bytes missing, %v", e.name, whole, f.Packet(), f.Missing(), f.unread)
					}
					f.Replace(packet)
					if want := e.frame(packet); !bytes.Equal(f.Data, want) || f.Length != len(want) || !bytes.Equal(f.Packet(), packet) {
						t.Fatalf("%s, %d bytes for %d: got\n%x, %d bytes, want\n%x", e.name, len(packet), len(old), f.Data, f.Length, want)
					}
				}
			}
		}
	}
}

func TestEveryEncapsulationCutAtEveryByte(t *testing.T) {
	for _, e := range encapsulations {
		packet := conn6.syn(capableSYN)
		whole := e.frame(packet)
		inner := bytes.Index(whole, packet)
		for n := range whole {
			f := frameOf(e.link, whole[:n:n], len(whole))
			checkFrame(t, f)
			if want := packet[:min(max(n-inner, 0), len(packet))]; len(want) >= 6 && (!bytes.Equal(f.Packet(), want) || len(want)+f.Missing() != len(packet)) {
				t.Fatalf("%s, %d bytes: got %x, %d bytes missing, want %x", e.name, n, f.Packet(), f.Missing(), want)
			}
			if n < inner && bytes.Equal(f.Packet(), packet) {
				t.Fatalf("%s, %d bytes: a packet behind the end", e.name, n)
			}
			short := frameOf(e.link, whole[:n:n], n) // the frame itself is short
			checkFrame(t, short)
			if f.Packet() != nil {
				f.Replace(f.Packet())
			}
		}
	}
}

func TestReplayDecidesInEveryEncapsulation(t *testing.T) {
	for _, e := range encapsulations {
		for _, k := range []conn{conn4, conn6} {
			c := newCapture(t, Pcapng).on(Interface{LinkType: e.link})
			for _, p := range [][]byte{k.syn(), k.synack(), k.ack(nil), k.fromClient(rewrite.FIN|rewrite.ACK, nil, "data"), k.fromServer(rewrite.FIN|rewrite.ACK, nil, "")} {
				whole := e.frame(p)
				c.frame(Frame{Data: whole, Length: len(whole)})
			}
			p := replayFile(t, c.bytes(), Config{})
			p.wantFlow(t, "plain relay closed fin")
			p.wantOut(t, "SYN MP_CAPABLE v1", "SYN+ACK", "ACK", "FIN+ACK, 4 bytes", "FIN+ACK")
			for i, f := range p.out {
				direction := f.Direction
				if want := e.frame(f.Packet()); !bytes.Equal(f.Data, want) && direction != Outbound {
					t.Errorf("%s: packet %d is %x, want %x", e.name, i+1, f.Data, want)
				}
			}
			if t.Failed() {
				t.Fatalf("in %s", e.name)
			}
		}
	}
}

func TestReversedFrameTurnsEveryHeader(t *testing.T) {
	e := encapsulation{"", LinkEthernet, []wrapper{inEther, fixed(8, 0, 0, 0, 0, 0, 42, 0), inUDP(outer4, 5555, 4789, true), in4(17), ether(0x0800)}}
	packet := conn4.syn()
	f := frameOf(LinkEthernet, e.frame(packet), len(e.frame(packet)))
	c := clone(f)
	c.turn()
	if src, dst := addresses(c.Data[14:]); src != outer4[1] || dst != outer4[0] {
		t.Errorf("%s → %s", src, dst)
	}
	inner := len(c.Data) - len(packet) - 14
	for _, at := range []int{0, inner} {
		if !bytes.Equal(c.Data[at:at+6], macs[6:12]) || !bytes.Equal(c.Data[at+6:at+12], macs[:6]) {
			t.Errorf("addresses %x at %d", c.Data[at:at+12], at)
		}
	}
	if !bytes.Equal(c.Packet(), packet) {
		t.Errorf("the packet is %x", c.Packet())
	}
}

func TestUnreadFramesAreCountedByKind(t *testing.T) {
	packet := conn4.syn()
	fragment := func(offset uint16, b []byte) []byte {
		binary.BigEndian.PutUint16(b[6:], offset)
		clear(b[10:12])
		binary.BigEndian.PutUint16(b[10:], rewrite.Checksum(b[:20]))
		return b
	}
	gre := inGRE(0)(4, packet)
	vxlanDatagram := inUDP(outer4, 5555, 4789, false)(4, cat([]byte{8, 0, 0, 0, 0, 0, 1, 0}, inEther(4, packet)))
	for _, c := range []struct {
		link  LinkType
		frame []byte
		kind  string
	}{
		{LinkEthernet, cat(macs, be16(0x0806), packet), ""},
		{LinkEthernet, cat(macs, be16(0x8863), packet), ""},
		{LinkEthernet, cat(macs, be16(0x4321), packet), "EtherType 0x4321"},
		{LinkEthernet, cat(macs, be16(0x88e5), packet), "MACsec"},
		{LinkRaw, in4(47)(4, cat(be16(0x1000, 0x88be), make([]byte, 12), inEther(4, packet))), "ERSPAN"},
		{LinkRaw, in4(47)(4, cat(be16(0x4000, 0x0800), make([]byte, 12))), "GRE with routing"},
		{LinkRaw, in4(50)(4, make([]byte, 40)), "ESP"},
		{LinkRaw, fragment(0x2000, in4(47)(4, gre)), "fragments of GRE"},
		{LinkRaw, fragment(5, in4(47)(4, gre)), "fragments of GRE"},
		{LinkRaw, fragment(0x2000, in4(4)(4, packet)), "fragments of IP in IP"},
		{LinkRaw, fragment(0x2000, in4(17)(4, vxlanDatagram)), "fragments of VXLAN"},
		{LinkRaw, in6(44)(4, cat([]byte{47, 0, 0, 1, 0, 0, 0, 9}, gre)), "fragments of GRE"},
		{LinkRaw, fragment(0x2000, conn4.syn()), ""},
		{LinkPPP, cat(be16(0xc021), packet), ""},
		{LinkPPP, cat(be16(0x003d), packet), "PPP multilink"},
		{LinkPPP, cat(be16(0x0223), packet), "PPP protocol 0x0223"},
		{105, packet, "link type 105"},
		{LinkRaw, in4(17)(4, inUDP(outer4, 1, 2152, false)(4, cat([]byte{0x30, 255, 0, 9, 0, 0, 0, 1}, make([]byte, 9)))), "GTP-U without an IP packet"},
		{LinkRaw, in4(17)(4, inUDP(outer4, 1, 4789, false)(4, []byte("a datagram of another protocol"))), ""},
		{LinkMPLS, bytes.Repeat([]byte{0, 0, 0, 1}, 99), ""},
	} {
		f := frameOf(c.link, c.frame, len(c.frame))
		got := ""
		if f.unread.name != "" {
			got = f.unread.String()
		}
		if got != c.kind {
			t.Errorf("%x: %q, want %q", c.frame, got, c.kind)
		}
	}
	deep := packet
	for range maxLayers + 1 {
		deep = in4(4)(4, deep)
	}
	if f := frameOf(LinkRaw, deep, len(deep)); f.unread.String() != fmt.Sprintf("more than %d headers", maxLayers) || f.Packet() == nil {
		t.Errorf("%v", f.unread)
	}
	cut := ether(0x8864)(4, inPPPoE(4, longPPP(4, packet)))
	if f := frameOf(LinkEthernet, cut[:16], len(cut)); f.unread.String() != "packets cut off in PPPoE" {
		t.Errorf("%v", f.unread)
	}
}

func TestReplayCountsUnreadFrames(t *testing.T) {
	c := newCapture(t, Pcapng).on(Interface{LinkType: LinkRaw})
	for range 1204 {
		b := in4(47)(4, cat(be16(0x1000, 0x88be), make([]byte, 60)))
		c.frame(Frame{Data: b, Length: len(b)})
	}
	p := replayFile(t, c.bytes(), Config{})
	var text strings.Builder
	if err := p.report.Print(&text); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(text.String(), "1,204 frames of ERSPAN not read\n") || p.report.Totals.Unread["ERSPAN"] != 1204 || p.report.Totals.NotIP != 0 {
		t.Error(text.String())
	}
}

// tshark finds the same packets in each encapsulation of the output, and no wrong checksum.
func TestTsharkReadsEveryEncapsulationOfTheOutput(t *testing.T) {
	// What tshark reads only with other preferences, or not at all.
	unread := []string{
		"PPP of pppd", "MPLS link", "NFLOG, big endian", "cooked v1 of PPP", // not at all
		"MPLS pseudowire", "MPLS pseudowire with control word", "VXLAN, PPPoE", // the label, the port
	}
	c := newCapture(t, Pcapng)
	for i, e := range encapsulations {
		if slices.Contains(unread, e.name) {
			continue
		}
		c.on(Interface{Name: e.name, LinkType: e.link})
		for _, k := range []conn{conn4, conn6} {
			k.client = netip.AddrPortFrom(k.client.Addr(), uint16(20000+i))
			whole := e.frame(k.syn())
			c.frame(Frame{Data: whole, Length: len(whole)})
		}
	}
	in, err := NewReader(bytes.NewReader(c.bytes()))
	if err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	if _, err := Replay(t.Context(), in, NewWriter(&out, Pcapng), relay(Config{})); err != nil {
		t.Fatal(err)
	}
	const bad = 0 // of checksum.status
	lines := runTool(t, out.Bytes(), "tshark", "-r", "FILE", "-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-o", "udp.check_checksum:TRUE",
		"-o", "eth.check_fcs:TRUE", "-T", "fields", "-e", "frame.interface_name", "-e", "tcp.options.mptcp.subtype", "-e", "_ws.malformed", "-Y",
		fmt.Sprintf("tcp && !(tcp.checksum.status == %[1]d) && !(ip.checksum.status == %[1]d) && !(udp.checksum.status == %[1]d)", bad))
	found := make(map[string]int)
	for _, line := range lines {
		found[strings.TrimSuffix(line, "\t0\t")]++
	}
	for _, e := range encapsulations {
		if !slices.Contains(unread, e.name) && found[e.name] != 2 {
			t.Errorf("%s: tshark reads %d of 2 packets", e.name, found[e.name])
		}
	}
	if t.Failed() {
		t.Logf("%q", lines)
	}
}
