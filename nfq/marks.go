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
	// Socket is set on the box's own sockets.
	Socket Mark = 0x5b000002
	// Refused and the marks below answer a SYN as the named failure would.
	Refused         Mark = 0x5b000010
	NoRoute         Mark = 0x5b000011
	HostUnreachable Mark = 0x5b000012
	Prohibited      Mark = 0x5b000013
)
