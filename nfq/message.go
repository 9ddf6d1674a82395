//go:build linux

package nfq

import (
	"encoding/binary"

	nfqueue "github.com/florianl/go-nfqueue/v2"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// uapi linux/netfilter/nfnetlink_queue.h.
const (
	msgPacket       = unix.NFNL_SUBSYS_QUEUE << 8 // NFQNL_MSG_PACKET, the first
	msgVerdict      = unix.NFNL_SUBSYS_QUEUE<<8 | 1
	msgConfig       = unix.NFNL_SUBSYS_QUEUE<<8 | 2
	msgVerdictBatch = unix.NFNL_SUBSYS_QUEUE<<8 | 3

	attrPacketHeader  = 1 // struct nfqnl_msg_packet_hdr: ID be32, protocol be16, hook u8
	attrVerdictHeader = 2 // struct nfqnl_msg_verdict_hdr: verdict be32, ID be32
	attrMark          = 3
	attrInDev         = 5
	attrOutDev        = 6
	attrPayload       = 10

	configCommand   = 1 // struct nfqnl_msg_config_cmd: command u8, pad u8, family be16
	configParams    = 2 // struct nfqnl_msg_config_params: copy range be32, copy mode u8
	configMaxLength = 3
	configMask      = 4
	configFlags     = 5

	commandBind   = 1 // NFQNL_CFG_CMD_BIND
	commandUnbind = 2
)

const (
	genmsgSize    = 4 // struct nfgenmsg: family u8, version u8, queue be16
	packetHdrSize = 7
)

// parse reads the netlink messages in b. It calls packet for each queued packet and
// failed for each error that the kernel reports, and stops at a malformed message.
func parse(b []byte, packet func(Packet), failed func(unix.Errno)) {
	for kind, body := range nl.Messages(b) {
		switch kind {
		case msgPacket:
			if p, ok := parsePacket(body); ok {
				packet(p)
			}
		case unix.NLMSG_ERROR: // struct nlmsgerr starts with the negative errno
			if len(body) >= 4 {
				failed(unix.Errno(-int32(binary.NativeEndian.Uint32(body))))
			}
		}
	}
}

// parsePacket reads the attributes of a queued packet. It reports false for a malformed
// one and for one without an ID.
func parsePacket(body []byte) (p Packet, ok bool) {
	if len(body) < genmsgSize {
		return p, false
	}
	for kind, value := range nl.Attributes(body[genmsgSize:]) {
		switch {
		case value == nil:
			return p, false
		case kind == attrPacketHeader && len(value) >= packetHdrSize:
			p.ID, ok = binary.BigEndian.Uint32(value), true
		case kind == attrInDev && len(value) >= 4:
			p.IIF = binary.BigEndian.Uint32(value)
		case kind == attrOutDev && len(value) >= 4:
			p.OIF = binary.BigEndian.Uint32(value)
		case kind == attrMark && len(value) >= 4:
			p.Mark = binary.BigEndian.Uint32(value)
		case kind == attrPayload:
			p.Payload = value
		}
	}
	return p, ok
}

// message builds a netlink message to the queue subsystem.
type message struct{ b []byte }

// start begins a message of a type for a queue. It overwrites b and reuses its memory.
func start(b []byte, kind, queue uint16) message {
	b = binary.NativeEndian.AppendUint32(b[:0], 0) // the length: see bytes
	b = binary.NativeEndian.AppendUint16(b, kind)
	b = binary.NativeEndian.AppendUint16(b, unix.NLM_F_REQUEST)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0) // no sequence number; the kernel fills in the port
	b = append(b, unix.AF_UNSPEC, unix.NFNETLINK_V0)
	return message{binary.BigEndian.AppendUint16(b, queue)}
}

// attr adds an attribute.
func (m *message) attr(kind uint16, value ...byte) { m.b = nl.AppendBytes(m.b, kind, value) }

// attr32 adds an attribute with a number, in network byte order as in all attributes of
// NFQUEUE.
func (m *message) attr32(kind uint16, value uint32) {
	m.attr(kind, byte(value>>24), byte(value>>16), byte(value>>8), byte(value))
}

// bytes sets the message's length and returns the message.
func (m *message) bytes() []byte {
	binary.NativeEndian.PutUint32(m.b, uint32(len(m.b)))
	return m.b
}

// verdict decides on a packet, or on all packets up to it.
type verdict struct {
	kind    uint16 // msgVerdict or msgVerdictBatch
	id      uint32
	verdict uint32 // nfqueue.NfAccept, nfqueue.NfDrop
	mark    Mark   // 0: unchanged
	payload []byte // nil: unchanged
}

// append builds the message of a verdict. It overwrites b and reuses its memory.
func (v verdict) append(b []byte, queue uint16) []byte {
	m := start(b, v.kind, queue)
	var header [8]byte
	binary.BigEndian.PutUint32(header[:], v.verdict)
	binary.BigEndian.PutUint32(header[4:], v.id)
	m.attr(attrVerdictHeader, header[:]...)
	if v.mark != 0 {
		m.attr32(attrMark, uint32(v.mark))
	}
	if v.payload != nil {
		m.attr(attrPayload, v.payload...)
	}
	return m.bytes()
}

// unbind returns the message that unbinds the queue from this socket.
func unbind(queue uint16) []byte {
	m := start(nil, msgConfig, queue)
	m.attr(configCommand, commandUnbind, 0, 0, unix.AF_UNSPEC)
	return m.bytes()
}

// bind returns the body of the message that binds the queue to this socket.
func (c *QueueConfig) bind() []byte {
	// The library adds the netlink header. The body begins with struct nfgenmsg.
	m := message{binary.BigEndian.AppendUint16([]byte{unix.AF_UNSPEC, unix.NFNETLINK_V0}, c.Number)}
	m.attr(configCommand, commandBind, 0, 0, unix.AF_UNSPEC)
	mode, flags := byte(nfqueue.NfQnlCopyPacket), uint32(nfqueue.NfQaCfgFlagFailOpen)
	if c.MetaOnly {
		mode = nfqueue.NfQnlCopyMeta
		flags |= nfqueue.NfQaCfgFlagGSO
	}
	m.attr(configParams, 0, 0, 0xff, 0xff, mode) // copy whole packets
	m.attr32(configFlags, flags)
	m.attr32(configMask, flags)
	m.attr32(configMaxLength, c.MaxLength)
	return m.b
}
