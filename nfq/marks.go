//go:build linux

package nfq

import "slices"

// Mark is a packet mark (skb->mark, SO_MARK). A box owns the bits of [Mask], and of
// their values those whose top byte is 0x5b. The rules set and match these bits only, so
// that marks of other programs stay. No mark leaves the machine.
type Mark uint32

// Mask has the bits that belong to the box.
const Mask Mark = 0xff0000ff

const (
	// Pass lets the kernel forward a packet as if there were no box.
	Pass Mark = 0
	// Relay delivers a packet to the socket of the box to which it belongs.
	Relay Mark = 0x5b000001
	// Refused makes the kernel answer a SYN with a reset, the marks below with the ICMP
	// error of that name.
	Refused         Mark = 0x5b000010
	NoRoute         Mark = 0x5b000011
	HostUnreachable Mark = 0x5b000012
	Prohibited      Mark = 0x5b000013
	// ToPlain and ToPaths deliver a held SYN to the listener for the plain or for the
	// multipath side, by way of lo.
	ToPlain Mark = 0x5b000020
	ToPaths Mark = 0x5b000021
	// PlainSocket and PathSocket mark the box's own sockets that face the plain and the
	// multipath side; OwnSocket marks those that dial to either side from an address of the
	// machine itself. Five more bits are the DSCP of the packets that the socket sends: see
	// [Mark.WithDSCP].
	PlainSocket Mark = 0x5b000081
	PathSocket  Mark = 0x5b000082
	OwnSocket   Mark = 0x5b000083
)

// Parts of the box's bits.
const (
	ownerMask  Mark = 0xff000000            // the box
	groupMask  Mark = 0xff0000f0            // the marks of refused, and of looped SYNs
	classShift      = 2                     // place of the index in codePoints, plus one
	classBits  Mark = 0x1f << classShift    // of a socket's mark
	socketMask Mark = Mask &^ classBits     // the kind of socket
	isSocket   Mark = PlainSocket &^ 3      // a socket of any kind
	socketBits Mark = socketMask &^ Mark(3) // any kind
)

// WithDSCP returns the mark of a socket whose packets get this DSCP, for one of
// codePoints. The kernel cannot set a traffic class on MPTCP sockets over IPv6; the
// rules set it, by this mark.
func (m Mark) WithDSCP(dscp uint8) Mark {
	return m | Mark(slices.Index(codePoints, dscp)+1)<<classShift
}

// Beside returns the mark with the bits of another one that do not belong to the box.
func (m Mark) Beside(other uint32) Mark { return m&Mask | Mark(other)&^Mask }

// codePoints are the DSCPs for which there are rules (IANA "Differentiated Services
// Field Codepoints"): CS1 to CS7, AF11 to AF43, EF, VOICE-ADMIT, NQB and LE.
var codePoints = []uint8{
	8, 16, 24, 32, 40, 48, 56,
	10, 12, 14, 18, 20, 22, 26, 28, 30, 34, 36, 38,
	46, 44, 45, 1,
}
