package nfq

// Mark is a packet mark (skb->mark, SO_MARK). A box owns the marks whose top
// byte is 0x5b; they never leave the machine.
type Mark uint32

const (
	// Pass lets the kernel forward a packet as if there were no box.
	Pass Mark = 0
	// Relay delivers a packet to the box: a released SYN to its listener,
	// everything else to the socket that the packet belongs to.
	Relay Mark = 0x5b000001
	// PlainSocket and PathSocket mark the box's own sockets that face the plain and the
	// multipath side; OwnSocket marks those that face the multipath side from an address
	// of the machine itself. Their third byte is the DSCP of the packets that the socket
	// sends: see [Mark.WithDSCP].
	PlainSocket Mark = 0x5b000002
	PathSocket  Mark = 0x5b000003
	OwnSocket   Mark = 0x5b000004
	// Refused makes the kernel answer a SYN with a reset, the marks below with the ICMP
	// error of that name.
	Refused         Mark = 0x5b000010
	NoRoute         Mark = 0x5b000011
	HostUnreachable Mark = 0x5b000012
	Prohibited      Mark = 0x5b000013
)

// dscpShift and dscpBits are the place of the DSCP in a socket's mark.
const (
	dscpShift = 8
	dscpBits  = 0x3f << dscpShift
)

// WithDSCP returns the mark of a socket whose packets get this DSCP. The kernel cannot
// set a traffic class on MPTCP sockets over IPv6; the rules set it, by this mark.
func (m Mark) WithDSCP(dscp uint8) Mark { return m | Mark(dscp&0x3f)<<dscpShift }

// codePoints are the DSCPs for which there are rules (IANA "Differentiated Services
// Field Codepoints"): CS1 to CS7, AF11 to AF43, EF, VOICE-ADMIT, NQB and LE.
var codePoints = []uint8{
	8, 16, 24, 32, 40, 48, 56,
	10, 12, 14, 18, 20, 22, 26, 28, 30, 34, 36, 38,
	46, 44, 45, 1,
}
