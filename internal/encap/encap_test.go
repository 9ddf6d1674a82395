package encap

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

var (
	join     = netip.MustParseAddrPort("203.0.113.9:7100")
	cpe4     = Via{netip.MustParseAddrPort("198.51.100.7:4321"), 1, 5}
	cpe6     = Via{netip.MustParseAddrPort("[2001:db8::7]:4322"), 0, 6}
	stranger = Via{netip.MustParseAddrPort("198.51.100.8:4321"), 1, 5}
	began    = time.Unix(1_000_000, 0)
)

// packet returns an IPv4 packet with a TCP segment, with right checksums.
func packet(from, to netip.AddrPort, payload string) []byte {
	const options = "\x94\x04\x00\x00" // router alert: a header that is longer than usual
	ip := ipHeader + len(options)
	b := make([]byte, ip+tcpHeader, ip+tcpHeader+len(payload))
	b[0], b[8], b[ipProtocol] = 0x40|byte(ip/4), 64, protocolTCP
	copy(b[ipHeader:], options)
	copy(b[ipSource:], from.Addr().AsSlice())
	copy(b[ipDestination:], to.Addr().AsSlice())
	binary.BigEndian.PutUint16(b[ip:], from.Port())
	binary.BigEndian.PutUint16(b[ip+2:], to.Port())
	b[ip+12], b[ip+13] = tcpHeader/4<<4, 0x10
	b = append(b, payload...)
	binary.BigEndian.PutUint16(b[ipLength:], uint16(len(b)))
	binary.BigEndian.PutUint16(b[ipChecksum:], ^sum(0, b[:ip]))
	binary.BigEndian.PutUint16(b[ip+tcpChecksum:], ^sum(uint32(protocolTCP+len(b)-ip), b[ipSource:ipHeader], b[ip:]))
	return b
}

// sum returns the ones' complement sum of all words (RFC 1071), the oracle of the incremental one.
func sum(start uint32, parts ...[]byte) uint16 {
	n := start
	for _, b := range parts {
		for i := range b {
			n += uint32(b[i]) << (8 * (1 - i%2))
		}
	}
	for n>>16 != 0 {
		n = n&0xffff + n>>16
	}
	return uint16(n)
}

// whole reports whether both checksums of a packet are right.
func whole(b []byte) bool {
	ip := int(b[0]&15) * 4
	return sum(0, b[:ip]) == 0xffff && sum(uint32(protocolTCP+len(b)-ip), b[ipSource:ipHeader], b[ip:]) == 0xffff
}

// keys returns a function that draws 1, 2, 3 …
func keys() func() uint64 {
	n := uint64(0)
	return func() uint64 { n++; return n }
}

// granted returns a hub, and the port of a CPE's path.
func granted(t *testing.T, path int, via Via) (*Hub, *Port, Grant) {
	t.Helper()
	h := NewHub(join, keys())
	g, ok := h.Grant(began, 77, path, via)
	if !ok || !g.Valid() {
		t.Fatalf("grant %+v, %v", g, ok)
	}
	return h, NewPort(path, g, new(Counters)), g
}

// room returns a buffer with a packet after the room for the header.
func room(p []byte) []byte { return append(make([]byte, HeaderSize), p...) }

func TestPacketsGoThereAndBack(t *testing.T) {
	for _, via := range []Via{cpe4, cpe6} {
		h, p, g := granted(t, 3, via)
		local := netip.AddrPortFrom(g.Inner, 50000)
		there := room(packet(local, Remote(3), "an odd number of bytes!"))
		if why := p.Outbound(there); why != Passed {
			t.Fatal(why)
		}
		in, why := h.Inbound(there, via.Addr, via.Socket)
		if want := packet(local, join, "an odd number of bytes!"); why != Passed || !bytes.Equal(in, want) {
			t.Errorf("%v: at the HAG % x, want % x", why, in, want)
		}
		back := room(packet(join, local, "answer"))
		to, why := h.Outbound(back)
		if why != Passed || to != via {
			t.Errorf("%v: the answer goes to %+v, want %+v", why, to, via)
		}
		out, why := p.Inbound(back)
		if want := packet(Remote(3), local, "answer"); why != Passed || !bytes.Equal(out, want) {
			t.Errorf("%v: at the CPE % x, want % x", why, out, want)
		}
		if index, ok := h.Outer(g.Inner); !ok || index != via.Interface {
			t.Errorf("the packets travel by interface %d, %v", index, ok)
		}
	}
}

func TestHubTakesOnlyWhatAPathMaySend(t *testing.T) {
	h, p, g := granted(t, 0, cpe4)
	other, _ := h.Grant(began, 78, 0, stranger)
	local := netip.AddrPortFrom(g.Inner, 50000)
	datagram := func(from, to netip.AddrPort) []byte {
		b := room(packet(from, to, "x"))
		putHeader(b, g.Key)
		return b
	}
	with := func(change func([]byte)) []byte {
		b := datagram(local, Remote(0))
		change(b)
		return b
	}
	for _, c := range []struct {
		name string
		in   []byte
		via  Via
		want Reason
	}{
		{"a segment to the join listener", datagram(local, Remote(0)), cpe4, Passed},
		{"nothing", nil, cpe4, Malformed},
		{"a header only", with(func([]byte) {})[:HeaderSize], cpe4, Malformed},
		{"a probe", with(func(b []byte) { b[3]++ }), cpe4, Malformed},
		{"another key", with(func(b []byte) { b[offKey]++ }), cpe4, Stranger},
		{"the key of another CPE", with(func(b []byte) { putHeader(b, other.Key) }), cpe4, Stranger},
		{"another address", datagram(local, Remote(0)), stranger, Stranger},
		{"another port", datagram(local, Remote(0)), Via{netip.AddrPortFrom(cpe4.Addr.Addr(), 1), 1, 5}, Stranger},
		{"another socket", datagram(local, Remote(0)), Via{cpe4.Addr, 0, 5}, Stranger},
		{"another inner address", datagram(netip.AddrPortFrom(other.Inner, 5), Remote(0)), cpe4, WrongEnds},
		{"a host's address", datagram(netip.MustParseAddrPort("10.0.0.1:5"), Remote(0)), cpe4, WrongEnds},
		{"to another host", datagram(local, netip.MustParseAddrPort("10.0.0.1:9000")), cpe4, WrongEnds},
		{"to another port", datagram(local, netip.AddrPortFrom(Remote(0).Addr(), 22)), cpe4, WrongEnds},
		{"to another path's end", datagram(local, Remote(1)), cpe4, WrongEnds},
		{"UDP", with(func(b []byte) { b[HeaderSize+ipProtocol] = 17 }), cpe4, Malformed},
		{"a fragment", with(func(b []byte) { b[HeaderSize+ipFragment] = 0x20 }), cpe4, Malformed},
		{"the last fragment", with(func(b []byte) { b[HeaderSize+ipFragment+1] = 1 }), cpe4, Malformed},
		{"IPv6", with(func(b []byte) { b[HeaderSize] = 0x60 }), cpe4, Malformed},
		{"a header that is too short", with(func(b []byte) { b[HeaderSize] = 0x44 }), cpe4, Malformed},
		{"a header that is too long", with(func(b []byte) { b[HeaderSize] = 0x4f }), cpe4, Malformed},
		{"bytes after the packet", append(datagram(local, Remote(0)), 0), cpe4, Malformed},
	} {
		if _, got := h.Inbound(c.in, c.via.Addr, c.via.Socket); got != c.want {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if _, why := p.Inbound(with(func(b []byte) { b[offKey]++ })); why != Stranger {
		t.Errorf("the CPE takes another key: %v", why)
	}
	if _, why := p.Inbound(datagram(netip.MustParseAddrPort("10.0.0.1:22"), local)); why != WrongEnds {
		t.Errorf("the CPE takes a packet of another host: %v", why)
	}
}

func TestNothingElseLeavesTheDevices(t *testing.T) {
	h, p, g := granted(t, 0, cpe4)
	local := netip.AddrPortFrom(g.Inner, 50000)
	host := netip.MustParseAddrPort("10.0.0.1:9000")
	for _, c := range []struct {
		name     string
		from, to netip.AddrPort
	}{
		{"from another address", host, Remote(0)}, {"to another address", local, host},
		{"to another port", local, netip.AddrPortFrom(Remote(0).Addr(), 80)},
	} {
		if why := p.Outbound(room(packet(c.from, c.to, ""))); why != WrongEnds {
			t.Errorf("CPE, %s: %v", c.name, why)
		}
	}
	for _, c := range []struct {
		name     string
		from, to netip.AddrPort
		want     Reason
	}{
		{"from another host", host, local, WrongEnds}, {"from another port", netip.AddrPortFrom(join.Addr(), 22), local, WrongEnds},
		{"to another host", join, host, WrongEnds}, {"to an address that is free", join, netip.AddrPortFrom(address(99), 5), Stranger},
	} {
		if _, why := h.Outbound(room(packet(c.from, c.to, ""))); why != c.want {
			t.Errorf("HAG, %s: %v", c.name, why)
		}
	}
	if why := p.Outbound(make([]byte, HeaderSize)); why != Malformed {
		t.Errorf("CPE, nothing: %v", why)
	}
	if _, why := h.Outbound(room([]byte{0x60, 0, 0, 0})); why != Malformed {
		t.Errorf("HAG, a part of an IPv6 packet: %v", why)
	}
}

func TestGrantsFollowTheCPE(t *testing.T) {
	h, p, g := granted(t, 0, cpe4)
	if again, _ := h.Grant(began, 77, 0, cpe4); again != g {
		t.Errorf("asked twice, the CPE gets %+v and %+v", g, again)
	}
	moved := Via{netip.AddrPortFrom(cpe4.Addr.Addr(), 999), 1, 5} // the NAT has chosen another port
	h.Heard(began, 77, 0, moved)
	h.Heard(began, 77, 0, cpe6)
	local := netip.AddrPortFrom(g.Inner, 50000)
	for _, c := range []struct {
		via  Via
		want Reason
	}{{cpe4, Stranger}, {moved, Passed}, {cpe6, Passed}} {
		b := room(packet(local, Remote(0), ""))
		p.Outbound(b)
		if _, why := h.Inbound(b, c.via.Addr, c.via.Socket); why != c.want {
			t.Errorf("from %v: %v, want %v", c.via.Addr, why, c.want)
		}
		if to, _ := h.Outbound(room(packet(join, local, ""))); c.want == Passed && to != c.via {
			t.Errorf("the answer goes to %v, want %v", to.Addr, c.via.Addr)
		}
	}
}

func TestGrantsEndWithTheirCPE(t *testing.T) {
	h, _, g := granted(t, 0, cpe4)
	h.Grant(began, 78, 0, stranger)
	for s := range 10 {
		h.Heard(began.Add(time.Duration(s)*forgetAfter/5), 78, 0, stranger)
	}
	if _, ok := h.Outer(g.Inner); ok || h.Inner(77, 0).IsValid() {
		t.Error("the grant of a CPE that has gone is there")
	}
	if !h.Inner(78, 0).IsValid() || h.Inner(78, 1).IsValid() || len(h.byKey) != 1 || len(h.byLow) != 1 || len(h.boxes) != 1 {
		t.Errorf("%d keys, %d addresses, %d CPEs are left", len(h.byKey), len(h.byLow), len(h.boxes))
	}
}

func TestHubIsBounded(t *testing.T) {
	h := NewHub(join, keys())
	seen := make(map[netip.Addr]bool)
	given := 0
	for box := range uint64(maxBoxes + 5) {
		for path := range MaxPaths {
			g, ok := h.Grant(began, box, path, cpe4)
			if !ok {
				continue
			}
			given++
			if seen[g.Inner] || !g.Valid() {
				t.Fatalf("the address %v is given twice, or none", g.Inner)
			}
			seen[g.Inner] = true
		}
	}
	if given != maxBoxes*MaxPaths {
		t.Errorf("%d grants, want %d", given, maxBoxes*MaxPaths)
	}
	if _, ok := h.Grant(began, 1, MaxPaths, cpe4); ok {
		t.Error("a path beyond the last one gets a grant")
	}
	if _, ok := h.Grant(began.Add(time.Hour), maxBoxes+1, 0, cpe4); !ok {
		t.Error("no grant although all others have gone")
	}
}

func TestMTULeavesRoomForTheHeaders(t *testing.T) {
	for outer, want := range map[int]int{0: 1440, 1500: 1440, 9000: 1440, 1492: 1432, 1280: 1220, 500: 576} {
		if got := MTU(outer); got != want {
			t.Errorf("over packets of %d bytes: %d, want %d", outer, got, want)
		}
	}
}

func TestCountersSayWhatBecameOfPackets(t *testing.T) {
	h, _, _ := granted(t, 0, cpe4)
	h.Inbound(nil, cpe4.Addr, 1)
	h.Outbound(make([]byte, HeaderSize))
	n := uint64(0)
	for _, c := range h.Counts() {
		if n += c.Packets; c.Packets > 0 && c.Reason != Malformed {
			t.Errorf("%+v", c)
		}
	}
	if n != 2 {
		t.Errorf("%d packets are counted", n)
	}
}

func FuzzInbound(f *testing.F) {
	g := Grant{address(1), 1}
	local := netip.AddrPortFrom(g.Inner, 50000)
	for _, p := range [][]byte{packet(local, Remote(0), "hello"), packet(Remote(0), local, ""), {}} {
		b := room(p)
		putHeader(b, g.Key)
		f.Add(b)
		f.Add(b[:len(b)/2])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		h := NewHub(join, keys())
		h.Grant(began, 77, 0, cpe4)
		before := bytes.Clone(b)
		got, why := h.Inbound(b, cpe4.Addr, cpe4.Socket)
		if why != Passed {
			if !bytes.Equal(b, before) {
				t.Error("a datagram that is not taken has changed")
			}
			return
		}
		s, ok := parseSegment(got)
		if !ok || s.destination() != join || s.source().Addr() != g.Inner || len(got) != len(before)-HeaderSize {
			t.Errorf("the packet % x", got)
		}
		if was := before[HeaderSize:]; whole(was) != whole(got) {
			t.Errorf("the checksums of % x were right: %v, are: %v", was, whole(was), whole(got))
		}
		s.setDestination(Remote(0))
		if again := room(got); NewPort(0, g, new(Counters)).Outbound(again) != Passed {
			t.Error("the packet cannot go back")
		}
	})
}

func TestChecksumsStayRight(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	end := func() netip.AddrPort {
		var a [4]byte
		binary.BigEndian.PutUint32(a[:], r.Uint32())
		return netip.AddrPortFrom(netip.AddrFrom4(a), uint16(r.Uint32()))
	}
	for range 2000 {
		s, ok := parseSegment(packet(end(), end(), string(make([]byte, r.IntN(9)))))
		s.setSource(end())
		s.setDestination(end())
		if !ok || !whole(s) {
			t.Fatalf("% x", s)
		}
	}
}

func TestForwardingAllocatesNothing(t *testing.T) {
	h, p, g := granted(t, 0, cpe4)
	local := netip.AddrPortFrom(g.Inner, 50000)
	b, back := room(packet(local, Remote(0), "x")), room(packet(join, local, "x"))
	there, answer := bytes.Clone(b), bytes.Clone(back)
	if n := testing.AllocsPerRun(100, func() {
		copy(b, there)
		copy(back, answer)
		p.Outbound(b)
		h.Inbound(b, cpe4.Addr, cpe4.Socket)
		h.Outbound(back)
		p.Inbound(back)
	}); n > 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkInbound(b *testing.B) {
	h := NewHub(join, keys())
	g, _ := h.Grant(began, 77, 0, cpe4)
	d := room(packet(netip.AddrPortFrom(g.Inner, 5), Remote(0), string(make([]byte, 1400))))
	putHeader(d, g.Key)
	in := bytes.Clone(d)
	b.ReportAllocs()
	for b.Loop() {
		copy(in, d[:64])
		h.Inbound(in, cpe4.Addr, cpe4.Socket)
	}
}
