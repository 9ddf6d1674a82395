//go:build linux

package tests

import (
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/pcaps"
)

// throughBoxes runs both boxes and records the traffic that exchange makes: at the
// CPE's plain side and at the HAG's lines.
func throughBoxes(exchange func(*testing.T, *pair)) func(*testing.T) []recording {
	return func(t *testing.T) []recording {
		n := goldenNetwork(t)
		p := start(t, n)
		cpe := recordInterfaces(t, n.CPE, netlab.CPELanInterface)
		hag := recordInterfaces(t, n.HAG, "dsl", "lte")
		exchange(t, p)
		noLiveFlow(t, p)
		return []recording{cpe.finish(t, p.cpe), hag.finish(t, p.hag)}
	}
}

// throughBoxesAtCPE is throughBoxes with the CPE's recording only, for fields of a
// client's SYN that the onward SYN does not have.
func throughBoxesAtCPE(exchange func(*testing.T, *pair)) func(*testing.T) []recording {
	return func(t *testing.T) []recording { return throughBoxes(exchange)(t)[:1] }
}

// goldenNetwork makes a network in which captures show complete checksums. Its delays
// keep an answer from arriving while the kernel is still sending the question.
func goldenNetwork(t *testing.T) *netlab.Network {
	t.Helper()
	n := netlabtest.Build(t, netlab.Topology{
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

// recorder is a recording under way.
type recorder struct {
	sniffer *sniffer
	result  recording
}

// recordPorts starts to record at ports of one host.
func recordPorts(t *testing.T, ports ...port) recorder {
	t.Helper()
	k := recorder{sniffer: sniff(t, ports...), result: recording{role: ports[0].host.Name, format: "pcapng", origin: fromLab(t)}}
	for _, p := range ports {
		k.result.interfaces = append(k.result.interfaces, pcaps.Interface{Name: p.ifname, LinkType: p.link})
	}
	return k
}

// recordInterfaces starts to record on interfaces of a host.
func recordInterfaces(t *testing.T, h *netlab.Host, interfaces ...string) recorder {
	t.Helper()
	var ports []port
	for _, ifname := range interfaces {
		ports = append(ports, port{host: h, ifname: ifname, link: pcaps.LinkEthernet})
	}
	return recordPorts(t, ports...)
}

// finish ends the recording once the interfaces are quiet, and adds the flows of the
// box, unless it is nil.
func (k recorder) finish(t *testing.T, b *netlab.Box) recording {
	t.Helper()
	k.sniffer.quiet(t)
	k.result.frames = k.sniffer.stop()
	if b != nil {
		k.result.flows = dump(t, b).Flows
	}
	return k.result
}

// withoutBoxes records plain and MPTCP connections by IPv6 and IPv4 on one interface,
// or all interfaces, of a host without box. edit changes each frame, unless it is nil.
func withoutBoxes(role, format, ifname string, link pcaps.LinkType, edit func(*pcaps.Frame)) func(*testing.T) []recording {
	return func(t *testing.T) []recording {
		n := goldenNetwork(t)
		at := port{host: n.CPE, ifname: ifname, link: link}
		if role == "hag" {
			at.host = n.HAG
		}
		k := recordPorts(t, at)
		for _, f := range families {
			for _, network := range []string{"tcp", "mptcp"} {
				converse(t, n.Client, network, echoServer(t, n, network, f.server))
			}
		}
		s := k.finish(t, nil)
		s.format = format
		if edit != nil {
			for i := range s.frames {
				edit(&s.frames[i])
			}
		}
		return []recording{s}
	}
}

// addVLANTags adds VLAN tags to an Ethernet frame: one to IPv4, two to others.
func addVLANTags(f *pcaps.Frame) {
	const addresses = 12
	var tags []byte
	if binary.BigEndian.Uint16(f.Data[addresses:]) != unix.ETH_P_IP {
		tags = []byte{0x88, 0xa8, 0, 7} // VLAN 7 of the provider
	}
	tags = append(tags, 0x81, 0, 0, 42) // VLAN 42
	f.Data = slices.Concat(f.Data[:addresses], tags, f.Data[addresses:])
	f.Length = len(f.Data)
}

// truncateFrame shortens a frame to a snap length of 96 bytes.
func truncateFrame(f *pcaps.Frame) { f.Data = f.Data[:min(len(f.Data), 96)] }
