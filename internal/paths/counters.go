package paths

import (
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// uapi linux/if_link.h: struct if_stats_msg, its filter and its attribute.
const (
	statsIndex  = 4 // after family u8 and padding
	statsFilter = 8
	statsSize   = 12

	statsLink64 = 1 // IFLA_STATS_LINK_64; its bit in the filter is 1 << (it - 1)
)

// counters are those of an interface, since it was made.
type counters struct {
	sentPackets, receivedPackets uint64
	sentBytes, receivedBytes     uint64
}

// counterReader reads the counters of interfaces, some 10 µs each.
type counterReader struct{ conn *netlink.Conn }

func openCounters() (*counterReader, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return nil, fmt.Errorf("open rtnetlink: %w", err)
	}
	return &counterReader{c}, nil
}

func (r *counterReader) close() error { return r.conn.Close() }

// read returns the counters of the interface with that index, ENODEV if there is none.
func (r *counterReader) read(index int) (counters, error) {
	request := make([]byte, statsSize)
	binary.NativeEndian.PutUint32(request[statsIndex:], uint32(index))
	binary.NativeEndian.PutUint32(request[statsFilter:], 1<<(statsLink64-1))
	answers, err := r.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: unix.RTM_GETSTATS, Flags: netlink.Request}, Data: request,
	})
	if err != nil {
		return counters{}, err
	}
	for _, m := range answers {
		if len(m.Data) < statsSize {
			continue
		}
		for kind, b := range attributes(m.Data[statsSize:]) {
			// struct rtnl_link_stats64: received and sent packets, then their bytes.
			if kind == statsLink64 && len(b) >= 32 {
				word := func(i int) uint64 { return binary.NativeEndian.Uint64(b[8*i:]) }
				return counters{
					receivedPackets: word(0), sentPackets: word(1),
					receivedBytes: word(2), sentBytes: word(3),
				}, nil
			}
		}
	}
	return counters{}, errors.New("no counters")
}
