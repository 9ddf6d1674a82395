//go:build linux

package tests

import (
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/pcaps"
	"github.com/synbond/synbond/rewrite"
)

// during runs one box alone while fn runs.
func during(t *testing.T, h *netlab.Host, flags []string, fn func(*netlab.Box)) {
	t.Helper()
	b, err := synbond().StartBox(h, scratch(t), h.Name, flags...)
	if err != nil {
		t.Fatal(err)
	}
	fn(b)
	if err := b.Stop(); err != nil {
		t.Errorf("%s ended with %v: %q", h.Name, err, b.Log())
	}
}

// cpeFlags and hagFlags return the flags of a box alone, with both lines.
func cpeFlags(more ...string) []string {
	return append([]string{"--plain", netlab.CPELanInterface, "--path", "dsl", "--path", "lte"}, more...)
}

func hagFlags(n *netlab.Network, more ...string) []string {
	join := netip.AddrPortFrom(n.Lines[1].HAG6, netlab.JoinPort).String()
	return append([]string{"--plain", netlab.HAGWanInterface, "--path", "dsl", "--path", "lte", "--join", join}, more...)
}

// echoServer starts an echo server on the network's server, with or without MPTCP.
func echoServer(t *testing.T, n *netlab.Network, network string, at netip.Addr) netip.AddrPort {
	t.Helper()
	l := listen(t, n.Server, network, netip.AddrPortFrom(at, 0))
	serve(l, echo)
	return addrOf(l)
}

// fallback records, at the HAG's line, connections that end up as plain TCP though
// one end asked for MPTCP: because of the server, of a HAG, of a CPE that learns.
func fallback(t *testing.T) []recording {
	n := goldenNetwork(t)
	k := recordInterfaces(t, n.HAG, "dsl")
	for _, f := range families {
		converse(t, n.Client, "mptcp", echoServer(t, n, "tcp", f.server))
	}
	during(t, n.HAG, hagFlags(n, "--action", "strip"), func(*netlab.Box) {
		converse(t, n.Client, "mptcp", echoServer(t, n, "mptcp", netlab.Server6))
	})
	during(t, n.CPE, cpeFlags("--action", "learn"), func(*netlab.Box) {
		converse(t, n.Client, "tcp", echoServer(t, n, "mptcp", netlab.Server6))
	})
	return []recording{k.finish(t, nil)}
}

// learn records the packets that arrive at a CPE with action learn.
func learn(t *testing.T) []recording {
	n := goldenNetwork(t)
	var s recording
	during(t, n.CPE, cpeFlags("--action", "learn"), func(b *netlab.Box) {
		s = twice(t, n, "tcp", b, netlab.CPELanInterface, "dsl")
	})
	return []recording{s}
}

// prefer records the packets that arrive at a HAG which leaves servers with MPTCP alone.
func prefer(t *testing.T) []recording {
	n := goldenNetwork(t)
	var s recording
	config := configFile(t, `end_to_end = "prefer"`)
	during(t, n.HAG, hagFlags(n, "--config", config), func(b *netlab.Box) {
		s = twice(t, n, "mptcp", b, "dsl", netlab.HAGWanInterface)
	})
	return []recording{s}
}

// twice records the packets that arrive at a box while a client connects twice to a
// server with MPTCP, and twice to one without. The servers have different prefixes.
func twice(t *testing.T, n *netlab.Network, network string, b *netlab.Box, interfaces ...string) recording {
	t.Helper()
	host := map[string]*netlab.Host{n.CPE.Name: n.CPE, n.HAG.Name: n.HAG}[b.Role]
	var ports []port
	for _, ifname := range interfaces {
		ports = append(ports, port{host: host, ifname: ifname, link: pcaps.LinkEthernet, inbound: true})
	}
	k := recordPorts(t, ports...)
	for i, speaks := range []string{"mptcp", "tcp"} {
		to := echoServer(t, n, speaks, families[i].server)
		for range 2 {
			converse(t, n.Client, network, to)
		}
	}
	return k.finish(t, b)
}

// odd sends malformed and unusual SYNs. Nobody waits for the answers: the client's
// kernel resets them.
func odd(t *testing.T, p *pair) {
	to := echoServer(t, p.Network, "tcp", netlab.Server6)
	for i, make := range oddities {
		send(t, p.Client, make(netip.AddrPortFrom(netlab.Client6, uint16(20_000+i)), to))
	}
	to = echoServer(t, p.Network, "tcp", netlab.Server4)
	send(t, p.Client, sourceRouted(netip.AddrPortFrom(netlab.Client4, 20_000), to))
}

// oddities make one packet each.
var oddities = []func(from, to netip.AddrPort) []byte{
	oddOptions(), // none at all
	oddOptions(mpCapable(1, 0), mpCapable(1, 0)),
	oddOptions(mpCapable(0, 0x0102030405060708)),
	oddOptions(rewrite.Option{Type: rewrite.OptionMPJoinSYN, MPJoinSYN: rewrite.MPJoinSYN{AddressID: 1, Token: 1, Nonce: 2}}),
	oddOptions(unknown(30, 7)),   // MPTCP of a length that no RFC has
	oddOptions(unknown(19, 18)),  // TCP-MD5: must not be edited
	oddOptions(unknown(254, 40)), // no room for another
	oddHeader(func(_ *layers.IPv6, tcp *layers.TCP) { tcp.FIN = true }),
	oddHeader(func(_ *layers.IPv6, tcp *layers.TCP) { tcp.ECE, tcp.CWR = true, true }),
	oddHeader(func(ip *layers.IPv6, _ *layers.TCP) { ip.HopLimit = 1 }),
	func(from, to netip.AddrPort) []byte {
		p := oddOptions()(from, to)
		p[len(p)-1]++ // of the urgent pointer
		return p
	},
	func(from, to netip.AddrPort) []byte {
		ip, tcp := synOf(from, to)
		ip.NextHeader = layers.IPProtocolIPv6Fragment
		first := gopacket.Payload{unix.IPPROTO_TCP, 0, 0, 1, 0, 0, 0, 7} // offset 0, more to come, identification 7
		return serialize(ip, first, tcp)
	},
}

// synOf returns the headers of a SYN, for the caller to change.
func synOf(from, to netip.AddrPort) (*layers.IPv6, *layers.TCP) {
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, HopLimit: 64, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: 1, SYN: true, Window: 64000}
	tcp.SetNetworkLayerForChecksum(ip) //nolint:errcheck // never fails for IP
	return ip, tcp
}

func oddHeader(spoil func(*layers.IPv6, *layers.TCP)) func(from, to netip.AddrPort) []byte {
	return func(from, to netip.AddrPort) []byte {
		ip, tcp := synOf(from, to)
		spoil(ip, tcp)
		return serialize(ip, tcp)
	}
}

func oddOptions(list ...rewrite.Option) func(from, to netip.AddrPort) []byte {
	return oddHeader(func(_ *layers.IPv6, tcp *layers.TCP) { tcp.Options = tcpOptions(list...) })
}

// sourceRouted returns a SYN with a loose source route that has a hop left.
func sourceRouted(from, to netip.AddrPort) []byte {
	hop := netlab.CPELan4.As4()
	last := to.Addr().As4()
	route := append([]byte{4}, last[:]...) // the pointer, and the address that comes after the next hop
	ip := &layers.IPv4{
		Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: from.Addr().AsSlice(), DstIP: hop[:],
		Options: []layers.IPv4Option{{OptionType: 131, OptionLength: 7, OptionData: route}},
	}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), Seq: 1, SYN: true, Window: 64000}
	// The checksum is over the final destination (RFC 1122, section 4.2.3.8).
	tcp.SetNetworkLayerForChecksum(&layers.IPv4{Protocol: layers.IPProtocolTCP, SrcIP: ip.SrcIP, DstIP: last[:]}) //nolint:errcheck // never fails for IP
	return serialize(ip, tcp)
}

func mpCapable(version uint8, key uint64) rewrite.Option {
	m := rewrite.MPCapable{Version: version, Flags: rewrite.CapableHMACSHA, SenderKey: key}
	if key != 0 {
		m.Form = rewrite.CapableKey
	}
	return rewrite.Option{Type: rewrite.OptionMPCapable, MPCapable: m}
}

// unknown is an option of zeros.
func unknown(kind, size byte) rewrite.Option {
	raw := make([]byte, size)
	raw[0], raw[1] = kind, size
	return rewrite.Option{Raw: raw}
}

// tcpOptions are the codec's options for gopacket, which knows none of MPTCP.
func tcpOptions(list ...rewrite.Option) []layers.TCPOption {
	var all []layers.TCPOption
	for _, o := range list {
		raw := o.Append(nil)
		option := layers.TCPOption{OptionType: layers.TCPOptionKind(raw[0])}
		if len(raw) > 1 {
			option.OptionLength, option.OptionData = raw[1], raw[2:]
		}
		all = append(all, option)
	}
	return all
}

// serialize makes a packet with right lengths and checksums.
func serialize(all ...gopacket.SerializableLayer) []byte {
	b := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, all...); err != nil {
		panic(err) // the layers are constants of the tests
	}
	return b.Bytes()
}
