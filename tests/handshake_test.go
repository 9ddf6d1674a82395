//go:build linux

package tests

import (
	"context"
	"io"
	"net"
	"net/netip"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Flags of a handshake segment, and offsets in a TCP header.
const (
	syn, synACK  = 0x02, 0x12
	tcpFlags     = 13
	sourcePort   = 0
	destPort     = 2
	handshakeAll = syn | 0x10
)

// loss describes segments of which the first is lost, or all.
type loss struct {
	name  string
	host  *netlab.Host
	hook  *nftables.ChainHook
	port  uint32 // offset of the server's port
	flags byte
	all   bool
}

// install adds the loss for one server port to the host's rules.
func (l loss) install(server uint16) error {
	return l.host.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		table := c.AddTable(&nftables.Table{Name: "loss", Family: nftables.TableFamilyINet})
		// After the box's own hooks.
		chain := c.AddChain(&nftables.Chain{
			Name: "port" + strconv.Itoa(int(server)), Table: table,
			Type: nftables.ChainTypeFilter, Hooknum: l.hook, Priority: nftables.ChainPriorityRef(-250),
		})
		equal := func(b []byte) expr.Any { return &expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: b} }
		load := func(at, n uint32) expr.Any {
			return &expr.Payload{DestRegister: 1, Base: expr.PayloadBaseTransportHeader, Offset: at, Len: n}
		}
		match := []expr.Any{
			&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1}, equal([]byte{unix.IPPROTO_TCP}),
			load(l.port, 2), equal(binaryutil.BigEndian.PutUint16(server)),
			load(tcpFlags, 1),
			&expr.Bitwise{SourceRegister: 1, DestRegister: 1, Len: 1, Mask: []byte{handshakeAll}, Xor: []byte{0}},
			equal([]byte{l.flags}),
		}
		if !l.all {
			match = append(match, &expr.Limit{Type: expr.LimitTypePkts, Rate: 1, Unit: expr.LimitTimeDay, Burst: 1})
		}
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: append(match, &expr.Verdict{Kind: expr.VerdictDrop})})
		return c.Flush()
	})
}

func TestHandshakeSurvivesTheLossOfAnySegment(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	in, out := nftables.ChainHookInput, nftables.ChainHookOutput
	var all sync.WaitGroup
	for _, l := range []loss{
		{"the client's SYN", p.Client, out, destPort, syn, false},
		{"the CPE's SYN", p.CPE, out, destPort, syn, false},
		{"the HAG's SYN", p.HAG, out, destPort, syn, false},
		{"the server's SYN+ACK", p.Server, out, sourcePort, synACK, false},
		{"the HAG's SYN+ACK", p.HAG, out, sourcePort, synACK, false},
		{"the CPE's SYN+ACK", p.Client, in, sourcePort, synACK, false},
		{"the client's ACK", p.Client, out, destPort, 0x10, false},
		{"the CPE's ACK", p.CPE, out, destPort, 0x10, false},
	} {
		for _, f := range families {
			listener := listenAt(t, p.Server, f.server)
			serve(listener, echo)
			if err := l.install(addrOf(listener).Port()); err != nil {
				t.Fatal(err)
			}
			all.Go(func() {
				if err := say(t.Context(), p.Client, addrOf(listener)); err != nil {
					t.Errorf("%s, %s: %v", l.name, f.name, err)
				}
			})
		}
	}
	all.Wait()
}

// say exchanges a word with an echo server within 10 seconds.
func say(ctx context.Context, h *netlab.Host, to netip.AddrPort) error {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	c, err := h.Dial(ctx, "tcp", "", to.String())
	if err != nil {
		return err
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	if _, err := c.Write([]byte("word")); err != nil {
		return err
	}
	_, err = io.ReadFull(c, make([]byte, 4))
	return err
}

// dialFrom connects from a port, as soon as the kernel allows its use.
func dialFrom(h *netlab.Host, from, to netip.AddrPort) (net.Conn, error) {
	d := net.Dialer{
		Timeout:   5 * time.Second,
		LocalAddr: net.TCPAddrFromAddrPort(from),
		Control: func(_, _ string, raw syscall.RawConn) (err error) {
			if cerr := raw.Control(func(fd uintptr) {
				err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
			}); cerr != nil {
				return cerr
			}
			return err
		},
	}
	d.SetMultipathTCP(false)
	var c net.Conn
	err := h.Do(func() (err error) {
		c, err = d.Dial("tcp", to.String())
		return err
	})
	return c, err
}

func TestClientPortCanBeUsedAgainAtOnce(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	for _, f := range families {
		l := listenAt(t, p.Server, f.server)
		serve(l, func(c net.Conn) {
			c.Write([]byte("welcome")) //nolint:errcheck // the client reads it
		})
		for name, end := range map[string]func(net.Conn) error{
			"the server closes first": func(c net.Conn) error {
				defer c.Close()
				_, err := io.ReadAll(c)
				return err
			},
			"the client resets": func(c net.Conn) error {
				defer c.Close()
				if _, err := io.ReadFull(c, make([]byte, 7)); err != nil {
					return err
				}
				return c.(*net.TCPConn).SetLinger(0)
			},
		} {
			failed := 0
			for range 30 {
				c, err := dialFrom(p.Client, netip.AddrPortFrom(f.client, 40123), addrOf(l))
				if err == nil {
					err = end(c)
				}
				if err != nil {
					failed++
					t.Logf("%s, %s: %v", f.name, name, err)
				}
			}
			if failed > 0 {
				t.Errorf("%s, %s: %d of 30 connections failed", f.name, name, failed)
			}
		}
	}
}

func TestClientsThatGiveUpLeaveNothingInTheBoxes(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	for range 50 {
		reset(t, dial(t, p.Client, addrOf(l)))
		c := dial(t, p.Client, addrOf(l))
		if _, err := c.Write(make([]byte, 100_000)); err != nil {
			t.Fatal(err)
		}
		reset(t, c)
	}
	noLiveFlow(t, p)
}

func noLiveFlow(t *testing.T, p *pair) {
	t.Helper()
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		eventually(t, "no live flow in "+b.Role, func() bool {
			for _, n := range dump(t, b).Totals.Live {
				if n > 0 {
					return false
				}
			}
			return true
		})
		if t.Failed() {
			t.Logf("%s: %+v", b.Role, dump(t, b).Flows)
		}
	}
}

func TestPortScansLeaveNothingInTheBoxes(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	const ports = 50
	// The client's kernel knows of no such connections: it answers SYN+ACK with RST.
	flood(t, p.Client, netlab.Client6, addrOf(l), ports)
	eventually(t, "all flows of the scan abandoned", func() bool {
		return dump(t, p.cpe).Totals.Entered["abandoned"] == ports
	})
	noLiveFlow(t, p)
}

func TestFloodOfSYNsIsSurvived(t *testing.T) {
	p := start(t, netlabtest.Build(t, twoLines))
	l := listenAt(t, p.Server, netlab.Server6)
	serve(l, echo)
	// The client's host drops the answers to this victim.
	victim := netip.MustParseAddr("2001:db8:1::bad")
	silence(t, p.Network, victim)
	const each = 1000
	for _, to := range []netip.AddrPort{
		addrOf(l),                                     // half-open, for a minute
		netip.AddrPortFrom(netlab.Server6, 9),         // refused
		netip.AddrPortFrom(netlab.Server6.Next(), 80), // held
	} {
		flood(t, p.Client, victim, to, each)
	}
	for range 5 {
		if err := say(t.Context(), p.Client, addrOf(l)); err != nil {
			t.Error(err)
		}
	}
	eventually(t, "all SYNs in the CPE's totals", func() bool {
		return dump(t, p.cpe).Totals.Entered["dialing"] >= 3*each
	})
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		d := dump(t, b).Totals
		if d.Queue.Dropped+d.Queue.UserDropped+d.Queue.Stray > 0 {
			t.Errorf("%s: trouble with the queue: %+v", b.Role, d.Queue)
		}
		if d.Entered["refused"] < each {
			t.Errorf("%s refused %d of %d", b.Role, d.Entered["refused"], each)
		}
	}
}

// silence routes packets to addr to the client's host, which drops them.
func silence(t *testing.T, n *netlab.Network, addr netip.Addr) {
	t.Helper()
	var mac net.HardwareAddr
	err := n.Client.Netlink(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(netlab.ClientInterface)
		if err == nil {
			mac = l.Attrs().HardwareAddr
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	err = n.CPE.Netlink(func(nl *netlink.Handle) error {
		l, err := nl.LinkByName(netlab.CPELanInterface)
		if err != nil {
			return err
		}
		return nl.NeighSet(&netlink.Neigh{
			LinkIndex: l.Attrs().Index, IP: addr.AsSlice(), HardwareAddr: mac, State: netlink.NUD_PERMANENT,
		})
	})
	if err != nil {
		t.Fatal(err)
	}
}

// flood sends n SYNs from a forged address, each from another port.
func flood(t *testing.T, h *netlab.Host, from netip.Addr, to netip.AddrPort, n int) {
	t.Helper()
	all := make([][]byte, n)
	for i := range all {
		ip, tcp := synOf(netip.AddrPortFrom(from, uint16(20_000+i)), to)
		tcp.Seq = uint32(i)
		all[i] = serialize(ip, tcp)
	}
	send(t, h, all...)
}

// send sends raw packets from a host.
func send(t *testing.T, h *netlab.Host, packets ...[]byte) {
	t.Helper()
	err := h.Do(func() error {
		for _, p := range packets {
			if err := sendRaw(p); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}

// sendRaw sends one packet to the destination in its header.
func sendRaw(p []byte) error {
	domain, to := unix.AF_INET6, unix.Sockaddr(nil)
	if p[0]>>4 == 4 {
		domain, to = unix.AF_INET, &unix.SockaddrInet4{Addr: [4]byte(p[16:20])}
	} else {
		to = &unix.SockaddrInet6{Addr: [16]byte(p[24:40])}
	}
	fd, err := unix.Socket(domain, unix.SOCK_RAW|unix.SOCK_CLOEXEC, unix.IPPROTO_RAW)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	return unix.Sendto(fd, p, 0, to)
}
