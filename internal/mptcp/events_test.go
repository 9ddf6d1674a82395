//go:build linux

package mptcp

import (
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// datagram is an event as the kernel sends it.
func datagram(kind EventType, attributes ...[]byte) []byte {
	b := make([]byte, unix.NLMSG_HDRLEN+unix.GENL_HDRLEN)
	b[unix.NLMSG_HDRLEN] = uint8(kind)
	b = append(b, slices.Concat(attributes...)...)
	binary.NativeEndian.PutUint32(b, uint32(len(b)))
	binary.NativeEndian.PutUint16(b[4:], 31) // a family's number
	return b
}

// events are those that a datagram is read as.
func events(b []byte) (all []Event) {
	decodeEvents(b, func(ev Event) { all = append(all, ev) })
	return all
}

func bytesOf(addr string) []byte { return netip.MustParseAddr(addr).AsSlice() }

// closedSubflow has every attribute that is read, and one that is not known yet.
var closedSubflow = datagram(SubClosed,
	nl.AppendUint32(nil, eventToken, 0xa1a2a3a4),
	nl.AppendUint16(nil, 2, unix.AF_INET6),
	nl.AppendBytes(nil, eventSrc6, bytesOf("2001:db8::9")),
	nl.AppendBytes(nil, eventSport, []byte{0x90, 1}),
	nl.AppendBytes(nil, eventDst6, bytesOf("2001:db8::1")),
	nl.AppendBytes(nil, eventDport, []byte{1, 0xbb}),
	nl.AppendUint8(nil, eventLocID, 3),
	nl.AppendUint8(nil, eventRemID, 4),
	nl.AppendUint8(nil, eventBackup, 1),
	nl.AppendUint16(nil, eventFlags, flagDenyJoinID0),
	nl.AppendUint8(nil, eventError, uint8(unix.ECONNRESET)),
	nl.AppendUint32(nil, 200, 1),
)

func TestEventsAreDecoded(t *testing.T) {
	for _, c := range []struct {
		name string
		raw  []byte
		want []Event
	}{
		{"nothing", nil, nil},
		{"nothing but a type", datagram(SubClosed), []Event{{Type: SubClosed}}},
		{"everything", closedSubflow, []Event{{
			Type: SubClosed, Token: 0xa1a2a3a4,
			Local: netip.MustParseAddrPort("[2001:db8::9]:36865"), Remote: netip.MustParseAddrPort("[2001:db8::1]:443"),
			LocalID: 3, RemoteID: 4, Backup: true, Error: uint8(unix.ECONNRESET), NoJoin: true,
		}}},
		{"IPv4, as such and in IPv6", datagram(SubEstablished,
			nl.AppendBytes(nil, eventSrc4, bytesOf("192.0.2.1")),
			nl.AppendBytes(nil, eventDst6, bytesOf("::ffff:192.0.2.2"))), []Event{{
			Type: SubEstablished, Local: netip.MustParseAddrPort("192.0.2.1:0"), Remote: netip.MustParseAddrPort("192.0.2.2:0"),
		}}},
		{"a connection that the peer opened", datagram(Established, nl.AppendUint8(nil, eventServerSide, 1)),
			[]Event{{Type: Established, NoJoin: true}}},
		{"two in a datagram", slices.Concat(datagram(Established), datagram(ConnClosed)),
			[]Event{{Type: Established}, {Type: ConnClosed}}},
		{"a token of two bytes", datagram(SubClosed, nl.AppendUint16(nil, eventToken, 1)), nil},
		{"an attribute longer than its message", datagram(SubClosed, []byte{9, 0, 1, 0}), nil},
		{"a message longer than its datagram", closedSubflow[:len(closedSubflow)-1], nil},
		{"a broken event before a good one", slices.Concat(datagram(SubClosed, []byte{3, 0, 1, 0}), datagram(ConnClosed)),
			[]Event{{Type: ConnClosed}}},
	} {
		if got := events(c.raw); !slices.Equal(got, c.want) {
			t.Errorf("%s: %+v, want %+v", c.name, got, c.want)
		}
	}
}

func TestControlMessagesOfNetlinkAreIgnored(t *testing.T) {
	b := slices.Clone(closedSubflow)
	binary.NativeEndian.PutUint16(b[4:], unix.NLMSG_DONE)
	if got := events(b); got != nil {
		t.Errorf("the end of a dump is %+v", got)
	}
}

func FuzzEventsNeverPanic(f *testing.F) {
	f.Add(closedSubflow)
	f.Add(slices.Concat(datagram(Established), closedSubflow))
	f.Fuzz(func(t *testing.T, datagram []byte) {
		if got := events(datagram); len(got) > len(datagram)/(unix.NLMSG_HDRLEN+unix.GENL_HDRLEN) {
			t.Errorf("%d bytes hold %d events", len(datagram), len(got))
		}
	})
}
