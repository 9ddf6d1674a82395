//go:build linux

package probe

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"net/netip"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/paths"
)

// All messages are UDP datagrams. A reply is as large as its probe, so that replies
// amplify nothing, and large ones show that large packets pass both ways. In network byte order:
//
//	 0  magic u32       "sBpr"
//	 4  version u8      1
//	 5  type u8         probe, reply, refusal
//	 6  path u8         index of the path at the CPE
//	 7  flags u8        of a reply, see the constants
//	 8  box u64         random, of the CPE's process
//	16  sequence u64    grows with each probe of a path and family; replies repeat it
//	24  cookie u64      the HAG's, for the address that the probe came from
//	32  instance u64    random, of the HAG's process; of a probe: abilities of the CPE
//	40  revision u32    of the next field; grows with each change
//	44  down u8         a bit for each path that is down, the first one's the lowest
//	45  reason u8       of a refusal
//	46  zero u16
//	48  MAC [16]byte    HMAC-SHA256 of all else, truncated (RFC 2104, section 5)
//	64  items           of extended messages; zeros fill up the datagram
//
// Magic, version, type, box and sequence keep their places in all versions.
//
// An item is a type u8, a length u8 and a value of that length. Items of unknown types
// are skipped:
//
//	1  seen   the address (4 or 16 bytes) and port u16 from which the probe came
//	2  lives  of a reply: the HAG's processes that still carry flows at this address, by
//	          their instances, u64 each; the HAG's own is the first
//	3  encap  of a probe, empty: the CPE asks for encapsulated subflows on this path; of a
//	          reply: its inner IPv4 address and a key u64, or empty if the HAG has none to give
//
// A box that knows no items ignores extended messages. So a CPE says in each probe that
// it takes extended replies (abilityItems), a HAG answers that it takes extended probes
// (flagItems), and only then the CPE sends some. Neither sees anything new in the
// messages of a box that knows no items.
const (
	messageSize    = 64
	maxMessageSize = 1500 // more than fits into a packet of 1500 bytes
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
	offItems    = messageSize
)

// Types of items.
const (
	itemNone  = 0 // and no further items
	itemSeen  = 1
	itemLives = 2
	itemEncap = 3
)

// maxLives is the largest number of instances that are read.
const maxLives = 4

type messageType uint8

const (
	kindProbe messageType = iota + 1
	kindReply
	kindRefusal
)

// Flags of replies.
const (
	flagConfirmed = 1 // the HAG has confirmed the sender's address
	flagItems     = 2 // the HAG takes extended probes
)

// abilityItems in the field instance of a probe: the CPE takes extended replies.
const abilityItems = 1

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

	size  int              // of the datagram; 0 is messageSize, without items
	seen  netip.AddrPort   // zero: not there
	lives [maxLives]uint64 // from the first on; all zero: not there
	encap bool             // the item is there
	grant encap.Grant      // zero: the item is not there, or empty
}

var (
	errNoMessage    = errors.New("not a probe")
	errOtherVersion = errors.New("another version of the probe protocol")
	errBadMAC       = errors.New("wrong MAC: another secret")
)

// parseMessage reads a message without its MAC. Of a message of another version it
// returns the fields that all versions share, and errOtherVersion.
func parseMessage(b []byte) (message, error) {
	if len(b) < messageSize || len(b) > maxMessageSize || binary.BigEndian.Uint32(b) != messageMagic {
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
	if m.kind < kindProbe || m.kind > kindRefusal || m.path >= paths.MaxPaths || m.flags&^(flagConfirmed|flagItems) != 0 ||
		m.reason > otherSecret || b[offZero] != 0 || b[offZero+1] != 0 || !m.parseItems(b[offItems:]) {
		return message{}, errNoMessage
	}
	if len(b) > messageSize {
		m.size = len(b)
	}
	return m, nil
}

// parseItems reads the items, and reports whether they are well formed.
func (m *message) parseItems(b []byte) bool {
	for len(b) > 0 && b[0] != itemNone {
		if len(b) < 2 || len(b) < 2+int(b[1]) {
			return false
		}
		kind, value := b[0], b[2:2+int(b[1])]
		b = b[2+len(value):]
		switch {
		case kind == itemSeen && (len(value) == 4+2 || len(value) == 16+2):
			at, _ := netip.AddrFromSlice(value[:len(value)-2])
			m.seen = netip.AddrPortFrom(at, binary.BigEndian.Uint16(value[len(value)-2:]))
		case kind == itemLives && len(value) > 0 && len(value)%8 == 0:
			for i := range min(len(value)/8, maxLives) {
				m.lives[i] = binary.BigEndian.Uint64(value[8*i:])
			}
		case kind == itemEncap && len(value) == 0:
			m.encap = true
		case kind == itemEncap && len(value) == 4+8:
			inner, _ := netip.AddrFromSlice(value[:4])
			m.encap, m.grant = true, encap.Grant{Inner: inner, Key: binary.BigEndian.Uint64(value[4:])}
		case kind == itemSeen, kind == itemLives, kind == itemEncap:
			return false
		}
	}
	return true
}

// appendItems appends the message's items to b, as far as its size has room, and zeros.
func (m *message) appendItems(b []byte) []byte {
	end := len(b) + max(m.size-messageSize, 0)
	add := func(kind byte, value []byte) {
		if len(b)+2+len(value) <= end {
			b = append(append(b, kind, byte(len(value))), value...)
		}
	}
	if m.seen.IsValid() {
		add(itemSeen, binary.BigEndian.AppendUint16(m.seen.Addr().AsSlice(), m.seen.Port()))
	}
	if m.lives[0] != 0 {
		add(itemLives, m.appendLives(nil))
	}
	switch {
	case m.grant.Inner.IsValid():
		add(itemEncap, binary.BigEndian.AppendUint64(m.grant.Inner.AsSlice(), m.grant.Key))
	case m.encap:
		add(itemEncap, nil)
	}
	return append(b, make([]byte, end-len(b))...)
}

// appendLives appends the instances to b.
func (m *message) appendLives(b []byte) []byte {
	for _, id := range m.lives {
		if id != 0 {
			b = binary.BigEndian.AppendUint64(b, id)
		}
	}
	return b
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
	b = append(b, make([]byte, messageSize-offMAC)...)
	b = m.appendItems(b)
	copy(b[start+offMAC:], c.mac(b[start:]))
	return b
}

// parse is parseMessage with a check of the MAC. With errBadMAC it returns the
// message, too.
func (c *codec) parse(b []byte) (message, error) {
	m, err := parseMessage(b)
	if err == nil && !hmac.Equal(c.mac(b), b[offMAC:offItems]) {
		err = errBadMAC
	}
	return m, err
}

// mac returns the MAC of a message, which is valid until the next call.
func (c *codec) mac(b []byte) []byte {
	c.hmac.Reset()
	c.hmac.Write(b[:offMAC])
	c.hmac.Write(b[offItems:])
	return c.hmac.Sum(c.sum[:0])[:messageSize-offMAC]
}
