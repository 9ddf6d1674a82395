//go:build linux

package host

import (
	"encoding/binary"
	"fmt"
	"math"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netlink/nl"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

const (
	leafBits  = 8
	leaves    = 1 << leafBits // queues of an interface, each way
	frameSize = 1514          // bytes of a full Ethernet frame

	minRate = 16 // byte/s: below, the time of a burst does not fit into its field
)

// The box's queueing discipline has the handle "5b:" in tc. Its classes are one for the
// whole interface, and below that the leaves.
var (
	shapeHandle = netlink.MakeHandle(0x5b, 0)
	wholeClass  = shapeHandle | 1
	firstLeaf   = shapeHandle | leaves // the others follow
)

// addFairQueue limits the rate at which an interface sends, in bit/s, and shares it
// between flows. Flows are spread over the leaves of a hierarchical token bucket
// (tc-htb(8)). A leaf that sends less than its share of the rate goes first, the others
// take turns with the rest: a packet waits for packets of its own leaf, not for a
// download.
func addFairQueue(index int, rate uint64) error {
	bytes := max(rate/8, 1)
	root := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index, Handle: shapeHandle, Parent: netlink.HANDLE_ROOT})
	root.Defcls = leaves // the first leaf, by its minor number: ARP and the like
	if err := netlink.QdiscAdd(root); err != nil {
		return fmt.Errorf("add a token bucket (CONFIG_NET_SCH_HTB): %w", err)
	}
	if err := netlink.ClassAdd(bucket(index, shapeHandle, wholeClass, bytes, bytes)); err != nil {
		return fmt.Errorf("set its rate: %w", err)
	}
	own := max(bytes/leaves, minRate)
	for leaf := firstLeaf; leaf < firstLeaf+leaves; leaf++ {
		if err := netlink.ClassAdd(bucket(index, wholeClass, leaf, own, bytes)); err != nil {
			return fmt.Errorf("add a leaf: %w", err)
		}
		if err := boundQueue(index, leaf, bytes); err != nil {
			return fmt.Errorf("bound the queue of a leaf (CONFIG_NET_SCH_FIFO): %w", err)
		}
	}
	for i, h := range ipHeaders {
		if err := spread(index, uint16(i+1), h); err != nil {
			return fmt.Errorf("spread flows over the leaves (CONFIG_NET_CLS_BPF): %w", err)
		}
	}
	return nil
}

// bucket returns a class with a guaranteed rate, and a larger one that it may use while
// others leave it, both in byte/s.
func bucket(index int, parent, class uint32, rate, ceil uint64) *netlink.HtbClass {
	return &netlink.HtbClass{
		ClassAttrs: netlink.ClassAttrs{LinkIndex: index, Parent: parent, Handle: class},
		Rate:       rate,
		Ceil:       ceil,
		Buffer:     netlink.Xmittime(rate, burstSize(rate)),
		Cbuffer:    netlink.Xmittime(ceil, burstSize(ceil)),
		Quantum:    frameSize,
	}
}

// burstSize returns a burst in bytes: more than a packet, and enough to keep the rate
// when a wake-up of the kernel's timer is late.
func burstSize(rate uint64) uint32 { return uint32(min(max(rate/250, 2*frameSize), 16<<20)) }

// boundQueue limits the queue of a leaf to 100 ms of the whole rate, in byte/s.
func boundQueue(index int, leaf uint32, rate uint64) error {
	limit := uint32(min(max(rate/10, 64<<10), math.MaxUint32))
	return addTC(unix.RTM_NEWQDISC, nl.TcMsg{Ifindex: int32(index), Parent: leaf}, "bfifo",
		nl.NewRtAttr(nl.TCA_OPTIONS, nl.Uint32Attr(limit))) // struct tc_fifo_qopt
}

// spread sends the packets of a version of IP to the leaves that its classifier names.
func spread(index int, priority uint16, h ipHeader) error {
	program, err := bpf.Assemble(h.classifier())
	if err != nil {
		return err
	}
	var ops []byte // of struct sock_filter, uapi linux/filter.h
	for _, op := range program {
		ops = binary.NativeEndian.AppendUint16(ops, op.Op)
		ops = append(ops, op.Jt, op.Jf)
		ops = binary.NativeEndian.AppendUint32(ops, op.K)
	}
	options := nl.NewRtAttr(nl.TCA_OPTIONS, nil)
	options.AddRtAttr(nl.TCA_BPF_OPS_LEN, nl.Uint16Attr(uint16(len(program))))
	options.AddRtAttr(nl.TCA_BPF_OPS, ops)
	return addTC(unix.RTM_NEWTFILTER, nl.TcMsg{
		Ifindex: int32(index), Parent: shapeHandle, Info: netlink.MakeHandle(priority, bigEndian(h.etherType)),
	}, "bpf", options)
}

// bigEndian returns a number that the kernel reads in network byte order.
func bigEndian(n uint16) uint16 {
	return binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, n))
}

// addTC adds a queueing discipline or a filter that package netlink cannot describe.
func addTC(message int, to nl.TcMsg, kind string, options *nl.RtAttr) error {
	req := nl.NewNetlinkRequest(message, unix.NLM_F_CREATE|unix.NLM_F_EXCL|unix.NLM_F_ACK)
	req.AddData(&to)
	req.AddData(nl.NewRtAttr(nl.TCA_KIND, nl.ZeroTerminated(kind)))
	req.AddData(options)
	_, err := req.Execute(unix.NETLINK_ROUTE, 0)
	return err
}
