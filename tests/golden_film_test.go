package tests

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/pcaps"
)

// withBoxes has both boxes run, and film what they see of play: the CPE by its
// plain side, the HAG by its lines.
func withBoxes(play func(*testing.T, *pair)) func(*testing.T) []shot {
	return func(t *testing.T) []shot {
		n := stage(t)
		p := start(t, n)
		cpe := newTake(t, n.CPE, netlab.CPELanInterface)
		hag := newTake(t, n.HAG, "dsl", "lte")
		play(t, p)
		noLiveFlow(t, p)
		return []shot{cpe.shot(t, p.cpe), hag.shot(t, p.hag)}
	}
}

// fromClient is withBoxes for what only the CPE sees: what a client puts into its
// SYN, and the onward one does not have.
func fromClient(play func(*testing.T, *pair)) func(*testing.T) []shot {
	return func(t *testing.T) []shot { return withBoxes(play)(t)[:1] }
}

// stage is a network in which captures show complete checksums. An answer takes
// its time, so that it does not come while the kernel is still sending the question.
func stage(t *testing.T) *netlab.Network {
	t.Helper()
	n := build(t, netlab.Topology{
		Lines:       []netlab.LineConfig{{Name: "dsl", Delay: 3 * time.Millisecond}, {Name: "lte", Delay: 5 * time.Millisecond}},
		ServerDelay: 2 * time.Millisecond,
	})
	for _, at := range []struct {
		host       *netlab.Host
		interfaces []string
	}{
		{n.Client, []string{netlab.ClientInterface}},
		{n.CPE, []string{netlab.CPELanInterface, "dsl", "lte"}},
		{n.HAG, []string{netlab.HAGWanInterface, "dsl", "lte"}},
		{n.Server, []string{netlab.ServerInterface}},
	} {
		for _, ifname := range at.interfaces {
			if err := at.host.CompleteChecksums(ifname); err != nil {
				t.Fatal(err)
			}
		}
	}
	return n
}

// take is a shot that is being filmed.
type take struct {
	sniffer *sniffer
	result  shot
}

// takeAt starts to film at some ports of one host.
func takeAt(t *testing.T, ports ...port) take {
	t.Helper()
	k := take{sniffer: sniff(t, ports...), result: shot{role: ports[0].host.Name, format: "pcapng", origin: fromLab(t)}}
	for _, p := range ports {
		k.result.interfaces = append(k.result.interfaces, pcaps.Interface{Name: p.ifname, LinkType: p.link})
	}
	return k
}

// newTake starts to film at some interfaces of a host.
func newTake(t *testing.T, h *netlab.Host, interfaces ...string) take {
	t.Helper()
	var ports []port
	for _, ifname := range interfaces {
		ports = append(ports, port{host: h, ifname: ifname, link: pcaps.LinkEthernet})
	}
	return takeAt(t, ports...)
}

// shot ends the take, once all is quiet, and asks the box, if there is one, for its flows.
func (k take) shot(t *testing.T, b *netlab.Box) shot {
	t.Helper()
	k.sniffer.quiet(t)
	k.result.frames = k.sniffer.stop()
	if b != nil {
		k.result.flows = dump(t, b).Flows
	}
	return k.result
}

// withoutBoxes films what a host without box sees at one of its interfaces, or
// at all: plain and MPTCP connections by IPv6 and IPv4. edit changes each frame, unless it is nil.
func withoutBoxes(role, format, ifname string, link pcaps.LinkType, edit func(*pcaps.Frame)) func(*testing.T) []shot {
	return func(t *testing.T) []shot {
		n := stage(t)
		at := port{host: n.CPE, ifname: ifname, link: link}
		if role == "hag" {
			at.host = n.HAG
		}
		k := takeAt(t, at)
		for _, f := range families {
			for _, network := range []string{"tcp", "mptcp"} {
				converse(t, n.Client, network, echoServer(t, n, network, f.server))
			}
		}
		s := k.shot(t, nil)
		s.format = format
		if edit != nil {
			for i := range s.frames {
				edit(&s.frames[i])
			}
		}
		return []shot{s}
	}
}

// tagged puts VLAN tags into an Ethernet frame: one into IPv4, two into others.
func tagged(f *pcaps.Frame) {
	const addresses = 12
	var tags []byte
	if binary.BigEndian.Uint16(f.Data[addresses:]) != unix.ETH_P_IP {
		tags = []byte{0x88, 0xa8, 0, 7} // VLAN 7 of the provider
	}
	tags = append(tags, 0x81, 0, 0, 42) // VLAN 42
	f.Data = slices.Concat(f.Data[:addresses], tags, f.Data[addresses:])
	f.Length = len(f.Data)
}

// cut keeps as much of a frame as a capture with a small snap length.
func cut(f *pcaps.Frame) { f.Data = f.Data[:min(len(f.Data), 96)] }
