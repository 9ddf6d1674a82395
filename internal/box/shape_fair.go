package box

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
	leafBits = 8
	leaves   = 1 << leafBits // queues of an interface, each way
	frame    = 1514          // bytes of a full Ethernet frame

	leastRate = 16 // byte/s: below, the time that a burst takes does not fit its field
)

// The box's queueing discipline is "5b:", by its name in tc. Its classes are the
// whole of what the interface carries, and leaves of that.
var (
	shapeHandle = netlink.MakeHandle(0x5b, 0)
	wholeClass  = shapeHandle | 1
	firstLeaf   = shapeHandle | leaves // the others follow
)

// fair lets an interface send so many bit/s, and shares them between flows. They
// are spread over the leaves of a hierarchical token bucket (tc-htb(8)). A leaf
// that sends less than its part of the rate goes first, the others take turns
// with what is left: a packet waits for those of its own leaf, not for a
// download's.
func fair(index int, rate uint64) error {
	bytes := max(rate/8, 1)
	root := netlink.NewHtb(netlink.QdiscAttrs{LinkIndex: index, Handle: shapeHandle, Parent: netlink.HANDLE_ROOT})
	root.Defcls = leaves // the first leaf, by its minor number: ARP and the like
	if err := netlink.QdiscAdd(root); err != nil {
		return fmt.Errorf("add a token bucket (CONFIG_NET_SCH_HTB): %w", err)
	}
	if err := netlink.ClassAdd(bucket(index, shapeHandle, wholeClass, bytes, bytes)); err != nil {
		return fmt.Errorf("set its rate: %w", err)
	}
	own := max(bytes/leaves, leastRate)
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

// bucket is a class that has so many byte/s for itself, and takes as many as
// ceil while others leave them.
func bucket(index int, parent, class uint32, rate, ceil uint64) *netlink.HtbClass {
	return &netlink.HtbClass{
		ClassAttrs: netlink.ClassAttrs{LinkIndex: index, Parent: parent, Handle: class},
		Rate:       rate,
		Ceil:       ceil,
		Buffer:     netlink.Xmittime(rate, burst(rate)),
		Cbuffer:    netlink.Xmittime(ceil, burst(ceil)),
		Quantum:    frame,
	}
}

// burst is more than a packet, and enough for the rate to hold when a wake-up is late.
func burst(rate uint64) uint32 { return uint32(min(max(rate/250, 2*frame), 16<<20)) }

// boundQueue lets 100 ms of the whole rate, in byte/s, wait in a leaf.
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

// bigEndian is a number as the kernel reads it in network byte order.
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
