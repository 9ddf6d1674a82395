//go:build linux

package nfq_test

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/nfq"
)

// leg opens a connection of the box from an address to the server, by a socket with a
// mark.
func (b *bench) leg(mark nfq.Mark, from netip.Addr) (fd int, client, server netip.AddrPort) {
	b.t.Helper()
	server, client = netip.MustParseAddrPort(b.addr), netip.AddrPortFrom(from, 40_000)
	family, transparent := unix.AF_INET6, [3]int{unix.SOL_IPV6, unix.IPV6_TRANSPARENT, 1}
	if from.Is4() {
		family, transparent = unix.AF_INET, [3]int{unix.SOL_IP, unix.IP_TRANSPARENT, 1}
	}
	check(b.t, b.CPE.Do(func() (err error) {
		if fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		b.t.Cleanup(func() { unix.Close(fd) })
		for _, o := range [][3]int{transparent, {unix.SOL_SOCKET, unix.SO_MARK, int(mark)}} {
			if err := unix.SetsockoptInt(fd, o[0], o[1], o[2]); err != nil {
				return err
			}
		}
		return unix.Bind(fd, sockaddr(client))
	}))
	check(b.t, unix.Connect(fd, sockaddr(server)))
	return fd, client, server
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// segment returns an ACK with sequence numbers of no connection.
func segment(t *testing.T, from, to netip.AddrPort) []byte {
	t.Helper()
	ip := &layers.IPv6{Version: 6, NextHeader: layers.IPProtocolTCP, HopLimit: 64, SrcIP: from.Addr().AsSlice(), DstIP: to.Addr().AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(from.Port()), DstPort: layers.TCPPort(to.Port()), ACK: true, Window: 1000}
	check(t, tcp.SetNetworkLayerForChecksum(ip))
	buf := gopacket.NewSerializeBuffer()
	check(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp))
	return buf.Bytes()
}

// hardwareAddr returns the index and the hardware address of a host's interface.
func hardwareAddr(t *testing.T, h *netlab.Host, name string) (index int, mac net.HardwareAddr) {
	t.Helper()
	check(t, h.Netlink(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(name)
		if err == nil {
			index, mac = l.Attrs().Index, l.Attrs().HardwareAddr
		}
		return err
	}))
	return index, mac
}

// hand sends a packet to a neighbour directly, past the routing table.
func hand(t *testing.T, from *netlab.Host, ifname string, to *netlab.Host, itsIfname string, packet []byte) {
	t.Helper()
	index, _ := hardwareAddr(t, from, ifname)
	_, mac := hardwareAddr(t, to, itsIfname)
	check(t, from.Do(func() error {
		fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		defer unix.Close(fd)
		sa := &unix.SockaddrLinklayer{
			Protocol: binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_IPV6)),
			Ifindex:  index, Halen: uint8(len(mac)),
		}
		copy(sa.Addr[:], mac)
		return unix.Sendto(fd, packet, 0, sa)
	}))
}

// segmentsIn returns the number of segments that a socket has received.
func segmentsIn(t *testing.T, fd int) uint32 {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(fd, unix.SOL_TCP, unix.TCP_INFO)
	check(t, err)
	return info.Segs_in
}

// TestLegReceivesNothingFromTheOtherSide sends a segment with the 5-tuple of a multipath
// leg to the box on each side. On the plain side it can only be a segment of the other
// leg that a router has sent back.
func TestLegReceivesNothingFromTheOtherSide(t *testing.T) {
	b := quiet(t)
	check(t, b.CPE.Do(routes(unix.AF_INET6).Install))
	fd, client, server := b.leg(nfq.PathSocket, netlab.Client6)
	before := segmentsIn(t, fd)
	stray := segment(t, server, client)
	hand(t, b.Client, netlab.ClientInterface, b.CPE, netlab.CPELanInterface, stray)
	if got := segmentsIn(t, fd) - before; got != 0 {
		t.Errorf("from the plain side the leg receives %d segments", got)
	}
	hand(t, b.Server, netlab.ServerInterface, b.HAG, netlab.HAGWanInterface, stray)
	eventually(t, "the leg receives nothing from its own side", func() bool { return segmentsIn(t, fd) > before })
}

// resets reads the TCP segments to a host; next returns the port of the next reset.
func resets(t *testing.T, h *netlab.Host) (next func() uint16) {
	t.Helper()
	var fd int
	check(t, h.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_INET6, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
		return err
	}))
	t.Cleanup(func() { unix.Close(fd) })
	check(t, unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 10}))
	return func() uint16 {
		t.Helper()
		for {
			b := make([]byte, 2048)
			n, err := unix.Read(fd, b)
			check(t, err)
			var tcp layers.TCP
			check(t, tcp.DecodeFromBytes(b[:n], gopacket.NilDecodeFeedback))
			if tcp.RST {
				return uint16(tcp.DstPort)
			}
		}
	}
}

// TestResetsByNoSocketStayInTheBox makes the CPE deliver segments to itself for which it
// has no socket. The kernel does so when its lookup meets a handshake that another CPU
// is just replacing by the connection.
func TestResetsByNoSocketStayInTheBox(t *testing.T) {
	b := quiet(t)
	server := netip.MustParseAddrPort(b.addr)
	check(t, b.CPE.Do(routes(unix.AF_INET6).Install))
	check(t, b.CPE.Netlink(func(nl *netlink.Handle) error {
		own := netlink.NewRule()
		own.Family, own.Priority, own.IifName, own.Table = unix.AF_INET6, 1, netlab.CPELanInterface, 91
		return nl.RuleAdd(own)
	}))
	next := resets(t, b.Client)
	knock := func(port uint16) {
		from := netip.AddrPortFrom(netlab.Client6, port)
		hand(t, b.Client, netlab.ClientInterface, b.CPE, netlab.CPELanInterface, segment(t, from, server))
	}
	knock(40_001)
	check(t, b.CPE.Do(func() error { return nfq.Remove(rules.Role) }))
	knock(40_002)
	if port := next(); port != 40_002 {
		t.Errorf("port %d was reset first, want 40002 after the rules were gone", port)
	}
}

// TestResetsOfSocketsLeaveTheBox makes a connection of the box reset its peer, which
// sends after the box has shut the connection down.
func TestResetsOfSocketsLeaveTheBox(t *testing.T) {
	for _, c := range []struct {
		family         int
		client, server netip.Addr
	}{{unix.AF_INET6, netlab.Client6, netlab.Server6}, {unix.AF_INET, netlab.Client4, netlab.Server4}} {
		b := quiet(t)
		l, err := b.Server.Listen("tcp", net.JoinHostPort(c.server.String(), "0"))
		check(t, err)
		t.Cleanup(func() { l.Close() })
		b.addr = l.Addr().String()
		check(t, b.CPE.Do(routes(c.family).Install))
		fd, _, _ := b.leg(nfq.PathSocket, c.client)
		peer, err := l.Accept()
		check(t, err)
		t.Cleanup(func() { peer.Close() })
		check(t, b.Client.Netlink(func(nl *netlink.Handle) error { // the client would send a reset as well
			lan, err := nl.LinkByName(netlab.ClientInterface)
			if err != nil {
				return err
			}
			return nl.LinkSetDown(lan)
		}))
		check(t, unix.Shutdown(fd, unix.SHUT_RDWR))
		eventually(t, "the server gets no reset from "+c.client.String(), func() bool {
			_, err := peer.Write([]byte{0})
			return errors.Is(err, unix.ECONNRESET) || errors.Is(err, unix.EPIPE)
		})
	}
}
