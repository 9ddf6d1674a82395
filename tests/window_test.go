//go:build linux

package tests

import (
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// connection is one end of an established TCP connection, as the kernel reports it.
type connection struct {
	local, remote     netip.AddrPort
	window            uint32 // congestion window, in segments
	paced             bool   // it has a greatest pacing rate
	congestionControl string
}

// Of uapi linux/inet_diag.h: the request's extensions, which are also the types of the
// answer's attributes, and offsets in struct inet_diag_msg.
const (
	diagInfo         = 2
	diagCong         = 4
	diagPorts        = 4
	diagAddresses    = 8
	diagAttributes   = 72
	sockDiagByFamily = 20 // uapi linux/sock_diag.h
)

// connections lists the established connections of a host.
func connections(t *testing.T, h *netlab.Host, family byte) []connection {
	t.Helper()
	var c *netlink.Conn
	err := h.Do(func() (err error) {
		c, err = netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	request := make([]byte, 56) // struct inet_diag_req_v2
	request[0], request[1], request[2] = family, unix.IPPROTO_TCP, 1<<(diagInfo-1)|1<<(diagCong-1)
	binary.NativeEndian.PutUint32(request[4:], 1<<unix.BPF_TCP_ESTABLISHED)
	answers, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: request,
	})
	if err != nil {
		t.Fatal(err)
	}
	var all []connection
	for _, a := range answers {
		one, err := parseConnection(a.Data)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, one)
	}
	return all
}

// parseConnection reads a struct inet_diag_msg and its attributes.
func parseConnection(b []byte) (c connection, err error) {
	if len(b) < diagAttributes {
		return c, fmt.Errorf("an answer of %d bytes", len(b))
	}
	addr := func(at int) netip.Addr {
		if b[0] == unix.AF_INET {
			return netip.AddrFrom4([4]byte(b[at:]))
		}
		return netip.AddrFrom16([16]byte(b[at:])).Unmap()
	}
	c.local = netip.AddrPortFrom(addr(diagAddresses), binary.BigEndian.Uint16(b[diagPorts:]))
	c.remote = netip.AddrPortFrom(addr(diagAddresses+16), binary.BigEndian.Uint16(b[diagPorts+2:]))
	attributes, err := netlink.NewAttributeDecoder(b[diagAttributes:])
	if err != nil {
		return c, err
	}
	for attributes.Next() {
		switch attributes.Type() {
		case diagInfo:
			info := attributes.Bytes()
			c.window = binary.NativeEndian.Uint32(info[unsafe.Offsetof(unix.TCPInfo{}.Snd_cwnd):])
			c.paced = binary.NativeEndian.Uint64(info[unsafe.Offsetof(unix.TCPInfo{}.Max_pacing_rate):]) != math.MaxUint64
		case diagCong:
			c.congestionControl = attributes.String()
		}
	}
	return c, attributes.Err()
}

// legs are a box's sockets for a client's connection with a subflow on each line.
type legs struct {
	plain    connection
	subflows []connection // the first one, and the joined one
}

// legsAt waits until a box has all legs of a client's connection.
func (p *pair) legsAt(t *testing.T, h *netlab.Host, c net.Conn) (all legs) {
	t.Helper()
	client, server := c.LocalAddr().(*net.TCPAddr).AddrPort(), c.RemoteAddr().(*net.TCPAddr).AddrPort()
	family := byte(unix.AF_INET6)
	if client.Addr().Is4() {
		family = unix.AF_INET
	}
	// The leg towards the client has the server's address.
	onward, accepted := [2]netip.AddrPort{client, server}, [2]netip.AddrPort{server, client}
	plain, first := accepted, onward
	if h == p.HAG {
		plain, first = onward, accepted
	}
	eventually(t, h.Name+": a plain leg and two subflows", func() bool {
		all = legs{}
		for _, c := range connections(t, h, family) {
			switch ends := [2]netip.AddrPort{c.local, c.remote}; {
			case ends == plain:
				all.plain = c
			case ends == first, c.local.Port() == netlab.JoinPort, c.remote.Port() == netlab.JoinPort:
				all.subflows = append(all.subflows, c)
			}
		}
		return all.plain.local.IsValid() && len(all.subflows) == 2
	})
	return all
}

// windows returns the congestion windows of a new MPTCP connection between two hosts,
// in a network without boxes.
func windows(t *testing.T, from, to *netlab.Host, addr netip.Addr) (both []uint32) {
	t.Helper()
	l := listen(t, to, "mptcp", netip.AddrPortFrom(addr, 0))
	serve(l, echo)
	c, err := from.Dial(within(t, 10*time.Second), "mptcp", "", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	chat(t, c, "hello")
	at := c.LocalAddr().(*net.TCPAddr).AddrPort()
	for _, h := range []*netlab.Host{from, to} {
		for _, s := range connections(t, h, unix.AF_INET6) {
			if s.local == at || s.remote == at {
				both = append(both, s.window)
			}
		}
	}
	return both
}

// Initial windows in segments: the boxes' default, and the kernel's own.
const boxWindow, kernelWindow = 64, 10

const keepsWindow = "subflows begin with the kernel's initial window"

// expected returns the initial window of subflows on this machine. refused is the
// reason why it is the kernel's, if it is.
func expected(t *testing.T) (window uint32, refused error) {
	t.Helper()
	w, err := mptcp.OpenWindow(boxWindow)
	if err != nil {
		return kernelWindow, err
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	return boxWindow, nil
}

func TestSubflowsBeginWithTheBoxesWindowAndNothingElseDoes(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl", Delay: 5 * time.Millisecond}, {Name: "lte", Delay: 10 * time.Millisecond}}})
	want, refused := expected(t)
	p := start(t, n)
	boxes := []*netlab.Box{p.cpe, p.hag}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { p.checkWindows(t, f, want) })
	}
	for _, b := range boxes {
		if got := pathsOf(t, b).Transport.InitialWindow; got != int(want) {
			t.Errorf("the %s says that the initial window is %d, want %d", b.Role, got, want)
		}
	}
	check := func(what string, from, to *netlab.Host, addr netip.Addr, want uint32) {
		t.Helper()
		if got := windows(t, from, to, addr); !slices.Equal(got, []uint32{want, want}) {
			t.Errorf("%s: windows of %d, want %d", what, got, want)
		}
	}
	check("MPTCP of other machines", n.Client, n.Server, netlab.Server6, kernelWindow)
	check("MPTCP of the boxes' machines", n.CPE, n.HAG, n.Lines[0].HAG6, want)
	p.down(t)
	check("the same without boxes", n.CPE, n.HAG, n.Lines[0].HAG6, kernelWindow)
	for _, b := range boxes {
		if told := strings.Count(strings.Join(b.Log(), "\n"), keepsWindow); (told == 1) != (refused != nil) {
			t.Errorf("the %s told %d times that it keeps the kernel's window, which it does because of: %v", b.Role, told, refused)
		}
	}
}

// checkWindows compares the windows of a new relayed connection at both boxes. Its
// first subflow is paced, since it has made round trips.
func (p *pair) checkWindows(t *testing.T, f family, want uint32) {
	c := chatter(t, p.Network, f)
	for _, h := range []*netlab.Host{p.CPE, p.HAG} {
		all := p.legsAt(t, h, c)
		for _, s := range all.subflows {
			first := s.local.Port() != netlab.JoinPort && s.remote.Port() != netlab.JoinPort
			if s.window != want || first && s.paced != (want != kernelWindow) {
				t.Errorf("at the %s a subflow %s to %s has a window of %d, want %d; is it paced: %v", h.Name, s.local, s.remote, s.window, want, s.paced)
			}
		}
		if got := all.plain; got.window != kernelWindow || got.paced {
			t.Errorf("at the %s the plain leg has a window of %d, want %d; is it paced: %v", h.Name, got.window, kernelWindow, got.paced)
		}
	}
}

// TestFurtherSubflowsBeginWithTheRateOfEarlierOnes moves bytes over a slow line, and
// checks the rate that the box reports as learnt, and the next connection.
func TestFurtherSubflowsBeginWithTheRateOfEarlierOnes(t *testing.T) {
	if _, refused := expected(t); refused != nil {
		t.Skip("could not check the windows of further subflows: ", refused)
	}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) { learnWindows(t, f) })
	}
}

func learnWindows(t *testing.T, f family) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{
		{Name: "dsl", Rate: 20e6, Delay: 2 * time.Millisecond},
		// The buffer is small, so that packets are lost: without losses a window is only raised.
		{Name: "lte", Rate: 20e6, Delay: 5 * time.Millisecond, Buffer: 64 << 10},
	}})
	p := start(t, n)
	sees(t, p.cpe, "lte", "is up", isUp)
	dialer := traffic(t, n.Server, n.Client, f.server)
	// The windows of subflows over IPv4 and IPv6: those of an IPv6 connection may be of both.
	type windows map[bool]int
	for _, at := range []struct {
		netlab.Direction
		*netlab.Host
		learnt func() windows
	}{
		{netlab.Up, n.CPE, func() windows {
			s := pathOf(t, p.cpe, "lte")
			return windows{true: s.FurtherWindow4, false: s.FurtherWindow6}
		}},
		{netlab.Down, n.HAG, func() windows {
			w := windows{}
			for _, to := range pathsOf(t, p.hag).Peers[0].Paths {
				if to.Index == 1 {
					w[to.Address.Is4()] = to.FurtherWindow
				}
			}
			return w
		}},
	} {
		before := windows{true: boxWindow, false: boxWindow}
		if got := at.learnt(); !maps.Equal(got, before) {
			t.Errorf("%s: the windows are %v before anything was sent", at.Name, got)
		}
		if _, err := netlab.Transfer(within(t, 20*time.Second), dialer, at.Direction, 6<<20); err != nil {
			t.Fatal(err)
		}
		eventually(t, at.Name+" learns something", func() bool { return !maps.Equal(at.learnt(), before) })
		c := chatter(t, n, f)
		for _, s := range p.legsAt(t, at.Host, c).subflows {
			want := at.learnt()[s.local.Addr().Unmap().Is4()]
			if joined := s.local.Port() == netlab.JoinPort || s.remote.Port() == netlab.JoinPort; joined && int(s.window) != want {
				t.Errorf("a subflow at the %s begins with %d segments, and learnt are %d", at.Name, s.window, want)
			}
		}
		c.Close()
		sees(t, p.cpe, "lte", "has lost its subflow", has(0))
	}
}

// TestBoxesInAUserNamespaceKeepTheKernelsWindow runs the test above where the kernel
// accepts no BPF program from a box.
func TestBoxesInAUserNamespaceKeepTheKernelsWindow(t *testing.T) {
	netlabtest.Require(t)
	if inUserNamespace() {
		return // the test above ran in one
	}
	cmd := exec.Command("/proc/self/exe", "-test.run=^TestSubflowsBeginWithTheBoxesWindowAndNothingElseDoes$", "-test.v")
	cmd.Env = append(os.Environ(), "CI=true") // it must not be skipped
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  unix.CLONE_NEWUSER | unix.CLONE_NEWNET,
		UidMappings: []syscall.SysProcIDMap{{HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{HostID: os.Getgid(), Size: 1}},
		Pdeathsig:   syscall.SIGKILL,
	}
	out, err := cmd.CombinedOutput()
	if errors.Is(err, unix.EPERM) && cmd.ProcessState == nil {
		t.Skipf("no user namespaces: %v", err)
	}
	if err != nil || !strings.Contains(string(out), "--- PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func TestMultipathLegsHaveTheirOwnCongestionControl(t *testing.T) {
	for _, name := range []string{"reno", "bbr"} {
		t.Run(name, func(t *testing.T) {
			topology := twoLines
			topology.Multipath = name
			n := netlabtest.Build(t, topology)
			known, err := n.CPE.ReadSysctl("net.ipv4.tcp_available_congestion_control")
			if err != nil {
				t.Fatal(err)
			}
			if !slices.Contains(strings.Fields(known), name) {
				t.Skipf("this kernel has %s", known)
			}
			p := start(t, n)
			c := chatter(t, n, families[0])
			for _, h := range []*netlab.Host{n.CPE, n.HAG} {
				all := p.legsAt(t, h, c)
				for _, s := range all.subflows {
					if s.congestionControl != name {
						t.Errorf("at the %s a subflow %s to %s has %s", h.Name, s.local, s.remote, s.congestionControl)
					}
				}
				if got := all.plain.congestionControl; got != n.CongestionControl {
					t.Errorf("at the %s the plain leg has %s, want %s", h.Name, got, n.CongestionControl)
				}
			}
			for _, b := range []*netlab.Box{p.cpe, p.hag} {
				if got := pathsOf(t, b).Transport.CongestionControl; got != name {
					t.Errorf("the %s says that it is %s", b.Role, got)
				}
			}
		})
	}
}

func TestUnknownCongestionControlGivesOneLine(t *testing.T) {
	n := netlabtest.Build(t, twoLines)
	before := snapshot(t, n.CPE)
	args := "cpe --plain lan --path dsl --congestion-control nonsense --control " + scratch(t) + "/box.sock"
	call(t, n.CPE, nil, strings.Fields(args)...).oneLine(t, 1, `"nonsense"`, "tcp_available_congestion_control")
	same(t, before, snapshot(t, n.CPE))
}
