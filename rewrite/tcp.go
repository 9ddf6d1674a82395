package rewrite

import (
	"encoding/binary"
	"strings"
)

// Flags are the control bits of a TCP header, with the values in the header (RFC 9293,
// section 3.1; ECE and CWR: RFC 3168).
type Flags uint8

// The control bits.
const (
	FIN Flags = 1 << iota
	SYN
	RST
	PSH
	ACK
	URG
	ECE
	CWR
)

var flagNames = [8]string{"FIN", "SYN", "RST", "PSH", "ACK", "URG", "ECE", "CWR"}

// String returns the names of the set bits, lowest first: "SYN|ACK".
func (f Flags) String() string {
	var names []string
	for i, name := range flagNames {
		if f&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, "|")
}

// tcpHeader is a view of a TCP header with its options (RFC 9293, section 3.1). Its
// methods read without checks, after the validation by parseTCP.
type tcpHeader []byte

const (
	tcpMinimumSize = 20

	tcpSourcePort      = 0
	tcpDestinationPort = 2
	tcpSequence        = 4
	tcpAcknowledgment  = 8
	tcpDataOffset      = 12
	tcpFlags           = 13
	tcpWindow          = 14
)

func (h tcpHeader) sourcePort() uint16      { return binary.BigEndian.Uint16(h[tcpSourcePort:]) }
func (h tcpHeader) destinationPort() uint16 { return binary.BigEndian.Uint16(h[tcpDestinationPort:]) }
func (h tcpHeader) sequence() uint32        { return binary.BigEndian.Uint32(h[tcpSequence:]) }
func (h tcpHeader) acknowledgment() uint32  { return binary.BigEndian.Uint32(h[tcpAcknowledgment:]) }
func (h tcpHeader) headerLength() int       { return int(h[tcpDataOffset]>>4) * 4 } // bytes
func (h tcpHeader) flags() Flags            { return Flags(h[tcpFlags]) }
func (h tcpHeader) window() uint16          { return binary.BigEndian.Uint16(h[tcpWindow:]) }
func (h tcpHeader) options() []byte         { return h[tcpMinimumSize:] }

// parseTCP splits an IP payload into the TCP header and the TCP payload.
func parseTCP(payload []byte) (header tcpHeader, data []byte, err error) {
	if len(payload) < tcpMinimumSize {
		return nil, nil, BadTCPHeader
	}
	size := tcpHeader(payload).headerLength()
	if size < tcpMinimumSize || size > len(payload) {
		return nil, nil, BadTCPHeader
	}
	return payload[:size:size], payload[size:], nil
}
