package paths

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/genetlink"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// EventType is enum mptcp_event_type.
type EventType uint8

const (
	Established EventType = 2
	ConnClosed  EventType = 3
	SubClosed   EventType = 11
)

// Attributes of an event, enum mptcp_event_attr.
const (
	eventToken      = 1
	eventDst4       = 7
	eventDst6       = 8
	eventDport      = 10 // network byte order
	eventLocID      = 3
	eventError      = 12
	eventFlags      = 13
	eventServerSide = 18

	// flagDenyJoinID0 tells that the peer has set the C flag (linux/mptcp_pm.h).
	// Kernels that do not know it leave it out, as those do for which it is not set.
	flagDenyJoinID0 = 1 << 0
)

// Event is what the kernel reports of an MPTCP connection or of a subflow.
type Event struct {
	Type    EventType
	Token   uint32
	Remote  netip.AddrPort
	LocalID uint8
	Error   uint8 // errno of a subflow that closed
	// Elsewhere tells that the peer takes no joins at Remote: it has said so (the C
	// flag, RFC 8684, section 3.1), or has opened the connection itself.
	Elsewhere bool
}

// Events delivers the path manager's events in order.
type Events struct{ conn *genetlink.Conn }

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
	// Losing events under load costs subflows, not connections.
	err = errors.Join(
		conn.SetOption(netlink.NoENOBUFS, true),
		conn.SetReadBuffer(4<<20),
		conn.JoinGroup(family.Groups[i].ID),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("subscribe to %s: %w", eventGroup, err), conn.Close())
	}
	return &Events{conn}, nil
}

// Close ends the subscription.
func (e *Events) Close() error { return e.conn.Close() }

// Run calls handle for each event until ctx ends.
func (e *Events) Run(ctx context.Context, handle func(Event)) error {
	stop := context.AfterFunc(ctx, func() { _ = e.conn.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	for {
		msgs, _, err := e.conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) {
			continue
		}
		if err != nil {
			return fmt.Errorf("receive MPTCP events: %w", err)
		}
		for _, m := range msgs {
			if ev, err := decodeEvent(m); err == nil {
				handle(ev)
			}
		}
	}
}

func decodeEvent(m genetlink.Message) (Event, error) {
	ev := Event{Type: EventType(m.Header.Command)}
	ad, err := netlink.NewAttributeDecoder(m.Data)
	if err != nil {
		return Event{}, err
	}
	var dst netip.Addr
	var dport uint16
	for ad.Next() {
		switch ad.Type() {
		case eventFlags:
			ev.Elsewhere = ev.Elsewhere || ad.Uint16()&flagDenyJoinID0 != 0
		case eventServerSide:
			ev.Elsewhere = ev.Elsewhere || ad.Uint8() != 0
		case eventDport:
			if b := ad.Bytes(); len(b) == 2 {
				dport = binary.BigEndian.Uint16(b)
			}
		case eventToken:
			ev.Token = ad.Uint32()
		case eventDst4, eventDst6:
			dst, _ = netip.AddrFromSlice(ad.Bytes())
		case eventLocID:
			ev.LocalID = ad.Uint8()
		case eventError:
			ev.Error = ad.Uint8()
		}
	}
	if dst.IsValid() {
		ev.Remote = netip.AddrPortFrom(dst, dport)
	}
	return ev, ad.Err()
}
