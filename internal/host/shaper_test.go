//go:build linux

package host

import (
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

// classifier returns the program of h for packets that begin with their IP header: the
// interpreter knows no other network header.
func classifier(t *testing.T, h *ipHeader) *bpf.VM {
	t.Helper()
	program := h.classifier()
	for i, ins := range program {
		switch ins := ins.(type) {
		case bpf.LoadAbsolute:
			ins.Off -= networkHeader
			program[i] = ins
		case bpf.LoadIndirect:
			ins.Off -= networkHeader
			program[i] = ins
		case bpf.LoadMemShift:
			ins.Off -= networkHeader
			program[i] = ins
		}
	}
	vm, err := bpf.NewVM(program)
	check(t, err)
	return vm
}

// ipPacket begins as a packet between two ports does, of one host and another.
func ipPacket(protocol uint16, options int, src, dst byte, sport, dport uint16) []byte {
	ports := []byte{byte(sport >> 8), byte(sport), byte(dport >> 8), byte(dport)}
	if protocol == unix.ETH_P_IPV6 {
		b := make([]byte, 40)
		b[0], b[23], b[39] = 0x60, src, dst
		return append(b, ports...)
	}
	b := make([]byte, 20+options)
	b[0], b[15], b[19] = 0x40|byte(len(b)/4), src, dst
	return append(b, ports...)
}

func TestFlowsAreSpreadOverTheLeaves(t *testing.T) {
	const flows = leaves / 2
	for _, h := range ipHeaders {
		vm := classifier(t, &h)
		for _, tt := range []struct {
			name   string
			packet func(i uint16) []byte
		}{
			{"connections of a client to one server", func(i uint16) []byte { return ipPacket(h.etherType, 0, 1, 2, 40000+i, 443) }},
			{"as Linux numbers them", func(i uint16) []byte { return ipPacket(h.etherType, 0, 1, 2, 40000+2*i, 443) }},
			{"what comes back", func(i uint16) []byte { return ipPacket(h.etherType, 0, 2, 1, 443, 40000+2*i) }},
			{"connections of many clients", func(i uint16) []byte { return ipPacket(h.etherType, 0, byte(i), 100, 40000, 443) }},
			{"behind options", func(i uint16) []byte { return ipPacket(h.etherType, 8, 1, 2, 40000+i, 443) }},
		} {
			t.Run(fmt.Sprintf("%s, protocol %#x", tt.name, h.etherType), func(t *testing.T) {
				used := make(map[int]bool)
				for i := range uint16(flows) {
					class, err := vm.Run(tt.packet(i))
					check(t, err)
					if uint32(class) < firstLeaf || uint32(class) >= firstLeaf+leaves {
						t.Fatalf("class %s", netlink.HandleStr(uint32(class)))
					}
					used[class] = true
				}
				if len(used) < flows/2 {
					t.Errorf("%d flows share %d queues", flows, len(used))
				}
			})
		}
	}
}

func TestPacketsWithoutPortsHaveNoClass(t *testing.T) {
	for _, h := range ipHeaders {
		vm, whole := classifier(t, &h), ipPacket(h.etherType, 0, 1, 2, 3, 4)
		for n := range whole {
			if class, err := vm.Run(whole[:n]); class != 0 || err != nil {
				t.Errorf("%d bytes of protocol %#x: class %s, %v", n, h.etherType, netlink.HandleStr(uint32(class)), err)
			}
		}
	}
}

// cable is two hosts; near's interface lte is that of a path with a rate.
type cable struct{ near, far end }

type end struct {
	*netlab.Host
	addrs map[string]netip.Addr // by network
}

func shapedCable(t *testing.T, rate uint64) *cable {
	t.Helper()
	netlabtest.Require(t)
	c := &cable{
		near: end{addrs: map[string]netip.Addr{"udp4": netip.MustParseAddr("192.0.2.1"), "udp6": netip.MustParseAddr("2001:db8::1")}},
		far:  end{addrs: map[string]netip.Addr{"udp4": netip.MustParseAddr("192.0.2.2"), "udp6": netip.MustParseAddr("2001:db8::2")}},
	}
	for _, e := range []*end{&c.near, &c.far} {
		h, err := netlab.NewHost("end")
		check(t, err)
		t.Cleanup(func() { check(t, h.Close()) })
		e.Host = h
	}
	check(t, netlab.Connect(c.near.Host, "lte", c.far.Host, "lte"))
	for _, e := range []*end{&c.near, &c.far} {
		for _, a := range e.addrs {
			p := netip.PrefixFrom(a, a.BitLen()-2)
			check(t, e.AddAddress("lte", p))
			check(t, e.AddRoute(netlab.Route{To: p.Masked(), Dev: "lte"}))
		}
	}
	control := filepath.Join(t.TempDir(), "box.sock")
	check(t, c.near.Do(func() error {
		lte, err := netlink.LinkByName("lte")
		if err != nil {
			return err
		}
		j, err := OpenJournal(control, nil)
		if err != nil {
			return err
		}
		return NewShaper(j, slog.New(slog.DiscardHandler)).shape(paths.Path{Interface: "lte", Rate: rate}, lte.Attrs().Index)
	}))
	return c
}

func TestPacketsOvertakeThoseOfOtherFlows(t *testing.T) {
	const bulk, others = 40, 8
	c := shapedCable(t, 500e3) // bulk takes more than half a second
	for _, tt := range []struct {
		name     string
		from, to end
	}{{"out", c.near, c.far}, {"in", c.far, c.near}} {
		for network := range tt.from.addrs {
			t.Run(tt.name+" by "+network, func(t *testing.T) {
				at := netip.AddrPortFrom(tt.to.addrs[network], 9).String()
				var sink net.PacketConn
				check(t, tt.to.Do(func() (err error) { sink, err = net.ListenPacket(network, at); return err }))
				defer sink.Close()
				flow := func() net.Conn {
					f, err := tt.from.Dial(t.Context(), network, "", at)
					check(t, err)
					t.Cleanup(func() { f.Close() })
					return f
				}
				download := flow()
				for i := range bulk {
					_, err := download.Write(append(make([]byte, 1200), byte(i)))
					check(t, err)
				}
				for range others {
					_, err := flow().Write([]byte{0})
					check(t, err)
				}
				overtaken, next := 0, 0
				check(t, sink.SetReadDeadline(time.Now().Add(20*time.Second)))
				for buf := make([]byte, 2000); next < bulk; {
					n, _, err := sink.ReadFrom(buf)
					check(t, err)
					if n == 1 {
						overtaken++
					} else if next++; int(buf[n-1]) != next-1 {
						t.Errorf("packet %d of the download comes as number %d", buf[n-1], next-1)
					}
				}
				if overtaken < others/2 { // one may have the download's queue
					t.Errorf("%d packets of %d others came before the download was over", overtaken, others)
				}
			})
		}
	}
}
