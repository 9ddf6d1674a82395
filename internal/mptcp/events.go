//go:build linux

package mptcp

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/genetlink"
	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// EventType is enum mptcp_event_type.
type EventType uint8

const (
	// Lost, of no connection, is not the kernel's: events were lost because the receive
	// buffer was full.
	Lost           EventType = 0
	Established    EventType = 2
	ConnClosed     EventType = 3
	Announced      EventType = 6 // the peer has announced an address (ADD_ADDR)
	SubEstablished EventType = 10
	SubClosed      EventType = 11
	SubPriority    EventType = 13 // the peer has sent MP_PRIO
)

// reported are the types that [Events] delivers, beside Lost. The kernel also reports
// the creation of a connection.
var reported = []EventType{Established, ConnClosed, Announced, SubEstablished, SubClosed, SubPriority}

// Attributes of an event, enum mptcp_event_attr.
const (
	eventToken      = 1
	eventLocID      = 3
	eventRemID      = 4
	eventSrc4       = 5
	eventSrc6       = 6
	eventDst4       = 7
	eventDst6       = 8
	eventSport      = 9 // these two in network byte order
	eventDport      = 10
	eventBackup     = 11
	eventError      = 12
	eventFlags      = 13
	eventIfIndex    = 15
	eventServerSide = 18

	// flagDenyJoinID0: the peer has set the C flag (linux/mptcp_pm.h). Older kernels
	// never report it.
	flagDenyJoinID0 = 1 << 0
)

// Event is a report of the kernel about an MPTCP connection or a subflow.
type Event struct {
	Type          EventType
	Token         uint32
	Local, Remote netip.AddrPort // of the subflow; of a connection's first one; Remote: announced
	LocalID       uint8          // address IDs, RFC 8684, section 3.2
	RemoteID      uint8
	Interface     int   // index of the interface to which it is bound, 0 for none
	Backup        bool  // the subflow is a backup for the peer
	Error         uint8 // errno of a subflow that closed, 0 for an orderly close
	// NoJoin is set if the peer takes no joins at Remote: it has said so (the C flag,
	// RFC 8684, section 3.1), or has opened the connection itself.
	NoJoin bool
}

// eventBuffer is the size of the receive buffer in bytes, for some 5,000 events.
const eventBuffer = 4 << 20

// Events delivers the path manager's events in order.
type Events struct {
	conn *genetlink.Conn
	in   [8192]byte // one datagram, as large as the kernel's (NLMSG_GOODSIZE)
}

// Listen subscribes to the path manager's events (group mptcp_pm_events).
func Listen() (*Events, error) {
	conn, family, err := dial()
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(family.Groups, func(g genetlink.MulticastGroup) bool { return g.Name == eventGroup })
	if i < 0 {
		return nil, errors.Join(fmt.Errorf("kernel has no %s: %w", eventGroup, ErrNoMPTCP), conn.Close())
	}
	if err := errors.Join(
		conn.SetReadBuffer(eventBuffer), conn.SetBPF(onlyReported()), conn.JoinGroup(family.Groups[i].ID),
	); err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to %s: %w", eventGroup, err), conn.Close())
	}
	return &Events{conn: conn}, nil
}

// onlyReported returns a filter for the reported types, so that others do not wake
// the process. Each event is a datagram of its own (kernel: mptcp_nl_mcast_send).
func onlyReported() []bpf.RawInstruction {
	program := []bpf.Instruction{bpf.LoadAbsolute{Off: unix.NLMSG_HDRLEN, Size: 1}} // genlmsghdr.cmd
	for i, kind := range reported {
		program = append(program, bpf.JumpIf{Cond: bpf.JumpEqual, Val: uint32(kind), SkipTrue: uint8(len(reported) - i)})
	}
	raw, err := bpf.Assemble(append(program, bpf.RetConstant{Val: 0}, bpf.RetConstant{Val: math.MaxUint32}))
	if err != nil {
		panic("mptcp: filter: " + err.Error()) // the program is a constant of this file
	}
	return raw
}

// Close ends the subscription.
func (e *Events) Close() error { return e.conn.Close() }

// Run calls handle for each event until ctx ends.
func (e *Events) Run(ctx context.Context, handle func(Event)) error {
	stop := context.AfterFunc(ctx, func() { _ = e.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	raw, err := e.conn.SyscallConn()
	if err != nil {
		return err
	}
	for {
		var n int
		var failed error
		err := raw.Read(func(fd uintptr) bool {
			n, failed = unix.Read(int(fd), e.in[:])
			return failed != unix.EAGAIN
		})
		switch err := errors.Join(err, failed); {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, unix.ENOBUFS):
			handle(Event{Type: Lost})
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return fmt.Errorf("receive MPTCP events: %w", err)
		default:
			decodeEvents(e.in[:n], handle)
		}
	}
}

// decodeEvents calls handle for each well-formed event in a datagram.
func decodeEvents(b []byte, handle func(Event)) {
	for kind, body := range nl.Messages(b) {
		// Types below NLMSG_MIN_TYPE are netlink's own.
		if kind < unix.NLMSG_MIN_TYPE || len(body) < unix.GENL_HDRLEN {
			continue
		}
		if ev, err := decodeEvent(EventType(body[0]), body[unix.GENL_HDRLEN:]); err == nil {
			handle(ev)
		}
	}
}

// errEvent means that an attribute of an event does not have the size of its type.
var errEvent = errors.New("malformed MPTCP event")

// eventAttrs are the attributes of an event by their type: size in bytes, and field.
var eventAttrs = [...]struct {
	size int
	set  func(*Event, []byte)
}{
	eventToken:  {4, func(ev *Event, v []byte) { ev.Token = binary.NativeEndian.Uint32(v) }},
	eventLocID:  {1, func(ev *Event, v []byte) { ev.LocalID = v[0] }},
	eventRemID:  {1, func(ev *Event, v []byte) { ev.RemoteID = v[0] }},
	eventSrc4:   {4, func(ev *Event, v []byte) { setAddr(&ev.Local, v) }},
	eventSrc6:   {16, func(ev *Event, v []byte) { setAddr(&ev.Local, v) }},
	eventDst4:   {4, func(ev *Event, v []byte) { setAddr(&ev.Remote, v) }},
	eventDst6:   {16, func(ev *Event, v []byte) { setAddr(&ev.Remote, v) }},
	eventSport:  {2, func(ev *Event, v []byte) { setPort(&ev.Local, v) }},
	eventDport:  {2, func(ev *Event, v []byte) { setPort(&ev.Remote, v) }},
	eventBackup: {1, func(ev *Event, v []byte) { ev.Backup = v[0] != 0 }},
	eventError:  {1, func(ev *Event, v []byte) { ev.Error = v[0] }},
	eventFlags: {2, func(ev *Event, v []byte) {
		ev.NoJoin = ev.NoJoin || binary.NativeEndian.Uint16(v)&flagDenyJoinID0 != 0
	}},
	eventIfIndex:    {4, func(ev *Event, v []byte) { ev.Interface = int(int32(binary.NativeEndian.Uint32(v))) }},
	eventServerSide: {1, func(ev *Event, v []byte) { ev.NoJoin = ev.NoJoin || v[0] != 0 }},
}

func setAddr(a *netip.AddrPort, v []byte) {
	addr, _ := netip.AddrFromSlice(v) // its size was checked
	*a = netip.AddrPortFrom(addr.Unmap(), a.Port())
}

func setPort(a *netip.AddrPort, v []byte) {
	*a = netip.AddrPortFrom(a.Addr(), binary.BigEndian.Uint16(v))
}

// decodeEvent reads the known attributes of an event.
func decodeEvent(kind EventType, b []byte) (Event, error) {
	ev := Event{Type: kind}
	for attr, v := range nl.Attributes(b) {
		switch {
		case v == nil:
			return Event{}, errEvent
		case int(attr) >= len(eventAttrs) || eventAttrs[attr].set == nil:
		case len(v) != eventAttrs[attr].size:
			return Event{}, errEvent
		default:
			eventAttrs[attr].set(&ev, v)
		}
	}
	return ev, nil
}
