package probe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"

	"github.com/synbond/synbond/internal/paths"
)

// All messages are UDP datagrams of one size, so that replies amplify nothing. In
// network byte order:
//
//	 0  magic u32       "sBpr"
//	 4  version u8      1
//	 5  type u8         probe, reply, refusal
//	 6  path u8         index of the path at the CPE
//	 7  flags u8        1: the HAG has confirmed the sender's address
//	 8  box u64         random, of the CPE's process
//	16  sequence u64    grows with each probe of a path and family; replies repeat it
//	24  cookie u64      the HAG's, for the address that the probe came from
//	32  instance u64    random, of the HAG's process
//	40  revision u32    of the next field; grows with each change
//	44  down u8         a bit for each path that is down, the first one's the lowest
//	45  reason u8       of a refusal
//	46  zero u16
//	48  MAC [16]byte    HMAC-SHA256 of all before it, truncated (RFC 2104, section 5)
//
// Magic, version, type, box and sequence keep their places in all versions.
const (
	messageSize    = 64
	messageMagic   = 0x73427072
	messageVersion = 1

	offVersion  = 4
	offType     = 5
	offPath     = 6
	offFlags    = 7
	offBox      = 8
	offSequence = 16
	offCookie   = 24
	offInstance = 32
	offRevision = 40
	offDown     = 44
	offReason   = 45
	offZero     = 46
	offMAC      = 48
)

type messageType uint8

const (
	kindProbe messageType = iota + 1
	kindReply
	kindRefusal
)

// flagConfirmed is the only flag.
const flagConfirmed = 1

// refusalReason is the reason for which a HAG refuses a probe.
type refusalReason uint8

const (
	otherVersion refusalReason = iota + 1
	otherSecret
)

// message is a probe, a reply or a refusal.
type message struct {
	version  uint8
	kind     messageType
	path     uint8
	flags    uint8
	box      uint64
	sequence uint64
	cookie   uint64
	instance uint64
	revision uint32
	down     uint8
	reason   refusalReason
}

var (
	errNoMessage    = errors.New("not a probe")
	errOtherVersion = errors.New("another version of the probe protocol")
	errBadMAC       = errors.New("wrong MAC: another secret")
)

// parseMessage reads a message without its MAC. Of a message of another version it
// returns the fields that all versions share, and errOtherVersion.
func parseMessage(b []byte) (message, error) {
	if len(b) != messageSize || binary.BigEndian.Uint32(b) != messageMagic {
		return message{}, errNoMessage
	}
	m := message{
		version:  b[offVersion],
		kind:     messageType(b[offType]),
		box:      binary.BigEndian.Uint64(b[offBox:]),
		sequence: binary.BigEndian.Uint64(b[offSequence:]),
	}
	if m.version != messageVersion {
		return m, fmt.Errorf("%w: %d, not %d", errOtherVersion, m.version, messageVersion)
	}
	m.path, m.flags, m.down = b[offPath], b[offFlags], b[offDown]
	m.cookie = binary.BigEndian.Uint64(b[offCookie:])
	m.instance = binary.BigEndian.Uint64(b[offInstance:])
	m.revision = binary.BigEndian.Uint32(b[offRevision:])
	m.reason = refusalReason(b[offReason])
	if m.kind < kindProbe || m.kind > kindRefusal || m.path >= paths.MaxPaths || m.flags&^flagConfirmed != 0 ||
		m.reason > otherSecret || b[offZero] != 0 || b[offZero+1] != 0 {
		return message{}, errNoMessage
	}
	return m, nil
}

// codec encodes messages with their MAC, and decodes and checks them. It is for one
// goroutine.
type codec struct {
	hmac hash.Hash
	sum  [sha256.Size]byte
}

// newCodec returns a codec for a secret. Without a secret the key is a public one:
// the MAC then detects accidents only.
func newCodec(secret string) *codec {
	if secret == "" {
		secret = "synbond"
	}
	return &codec{hmac: hmac.New(sha256.New, []byte(secret))}
}

// append appends the message and its MAC to b.
func (c *codec) append(b []byte, m message) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, messageMagic)
	b = append(b, m.version, byte(m.kind), m.path, m.flags)
	b = binary.BigEndian.AppendUint64(b, m.box)
	b = binary.BigEndian.AppendUint64(b, m.sequence)
	b = binary.BigEndian.AppendUint64(b, m.cookie)
	b = binary.BigEndian.AppendUint64(b, m.instance)
	b = binary.BigEndian.AppendUint32(b, m.revision)
	b = append(b, m.down, byte(m.reason), 0, 0)
	return append(b, c.mac(b[start:])...)
}

// parse is parseMessage with a check of the MAC. With errBadMAC it returns the
// message, too.
func (c *codec) parse(b []byte) (message, error) {
	m, err := parseMessage(b)
	if err == nil && !hmac.Equal(c.mac(b[:offMAC]), b[offMAC:]) {
		err = errBadMAC
	}
	return m, err
}

// mac returns the MAC of b, which is valid until the next call.
func (c *codec) mac(b []byte) []byte {
	c.hmac.Reset()
	c.hmac.Write(b)
	return c.hmac.Sum(c.sum[:0])[:messageSize-offMAC]
}
