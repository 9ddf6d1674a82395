//go:build linux

package host

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
	"github.com/synbond/synbond/internal/paths"
)

// uapi linux/if_link.h: struct if_stats_msg, its filter and its attribute.
const (
	statsIndex  = 4 // after family u8 and padding
	statsFilter = 8
	statsSize   = 12

	statsLink64 = 1 // IFLA_STATS_LINK_64; its bit in the filter is 1 << (it - 1)
)

// counterReader reads the counters of interfaces, at some 10 µs each.
type counterReader struct{ conn *netlink.Conn }

func openCounters() (counterReader, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return counterReader{}, fmt.Errorf("open rtnetlink: %w", err)
	}
	return counterReader{c}, nil
}

func (r counterReader) close() error { return r.conn.Close() }

// Counters returns the counters of the interface with that index, ENODEV if there
// is none.
func (m *Machine) Counters(index int) (paths.LinkCounters, error) {
	request := make([]byte, statsSize)
	binary.NativeEndian.PutUint32(request[statsIndex:], uint32(index))
	binary.NativeEndian.PutUint32(request[statsFilter:], 1<<(statsLink64-1))
	answers, err := m.counters.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETSTATS, Flags: netlink.Request}, Data: request,
	})
	if err != nil {
		return paths.LinkCounters{}, err
	}
	for _, m := range answers {
		if len(m.Data) < statsSize {
			continue
		}
		for kind, b := range nl.Attributes(m.Data[statsSize:]) {
			// struct rtnl_link_stats64: received and sent packets, then their bytes.
			if kind == statsLink64 && len(b) >= 32 {
				word := func(i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }
				return paths.LinkCounters{
					ReceivedPackets: word(0), SentPackets: word(1),
					ReceivedBytes: word(2), SentBytes: word(3),
				}, nil
			}
		}
	}
	return paths.LinkCounters{}, errors.New("no counters")
}
