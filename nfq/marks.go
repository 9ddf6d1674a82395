package nfq

// Mark is a packet mark (skb->mark, SO_MARK). A box owns the marks whose top
// byte is 0x5b; they never leave the machine.
type Mark uint32

const (
	// Pass lets a packet go its ordinary way.
	Pass Mark = 0
	// Relay delivers a packet to the box: a released SYN to its listener,
	// everything else to the socket that the packet belongs to.
	Relay Mark = 0x5b000001
	// PlainSocket and PathSocket are set on the box's own sockets, by the side that
	// they face; OwnSocket on those that face the paths from an address of the machine
	// itself. Their third byte is the DSCP of what these send: see [Mark.WithDSCP].
	PlainSocket Mark = 0x5b000002
	PathSocket  Mark = 0x5b000003
	OwnSocket   Mark = 0x5b000004
	// Refused and the marks below answer a SYN as the named failure would.
	Refused         Mark = 0x5b000010
	NoRoute         Mark = 0x5b000011
	HostUnreachable Mark = 0x5b000012
	Prohibited      Mark = 0x5b000013
)

// dscpShift and dscpBits are where a socket's mark holds a DSCP.
const (
	dscpShift = 8
	dscpBits  = 0x3f << dscpShift
)

// WithDSCP is the mark of a socket that sends with a DSCP. The kernel sets no
// traffic class on MPTCP sockets over IPv6; the rules do, by this mark.
func (m Mark) WithDSCP(dscp uint8) Mark { return m | Mark(dscp&0x3f)<<dscpShift }

// codePoints are the DSCPs that the rules know (IANA "Differentiated Services
// Field Codepoints"): CS1 to CS7, AF11 to AF43, EF, VOICE-ADMIT, NQB and LE.
var codePoints = []uint8{
	8, 16, 24, 32, 40, 48, 56,
	10, 12, 14, 18, 20, 22, 26, 28, 30, 34, 36, 38,
	46, 44, 45, 1,
}
