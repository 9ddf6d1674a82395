package paths

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
)

// A probe and its answer are UDP datagrams of one size, so that nothing can be
// amplified by them. In network byte order:
//
//	 0  magic u32       "sBpr"
//	 4  version u8      1
//	 5  type u8         probe, answer, refusal
//	 6  path u8         index of the path at the CPE
//	 7  flags u8        1: the HAG knows the sender's address
//	 8  box u64         random, of the CPE's process
//	16  sequence u64    grows with each probe of a path and family; answers repeat it
//	24  cookie u64      the HAG's, for the address that the probe came from
//	32  instance u64    random, of the HAG's process
//	40  revision u32    of what follows; grows with each change
//	44  down u8         a bit for each path that is down, the first one's the lowest
//	45  reason u8       of a refusal
//	46  zero u16
//	48  mac [16]byte    HMAC-SHA256 of all before it, cut short (RFC 2104, section 5)
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
	probe messageType = iota + 1
	answer
	refusal
)

// flagKnown is the only flag.
const flagKnown = 1

// refusalReason is why a HAG answers no probes.
type refusalReason uint8

const (
	otherVersion refusalReason = iota + 1
	otherSecret
)

// message is a probe, an answer or a refusal.
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
	errBadMAC       = errors.New("not signed with this secret")
)

// parseMessage reads a message of this version. Of one of another version it
// returns what all versions share, and errOtherVersion.
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
	if m.kind < probe || m.kind > refusal || m.path >= MaxPaths || m.flags&^flagKnown != 0 ||
		m.reason > otherSecret || b[offZero] != 0 || b[offZero+1] != 0 {
		return message{}, errNoMessage
	}
	return m, nil
}

// sealer signs messages, and checks their signatures. It is for one goroutine.
type sealer struct {
	mac hash.Hash
	sum [sha256.Size]byte
}

// newSealer uses a secret. Without one there is a key that everybody knows.
func newSealer(secret string) *sealer {
	if secret == "" {
		secret = "synbond"
	}
	return &sealer{mac: hmac.New(sha256.New, []byte(secret))}
}

// append adds the message to b.
func (s *sealer) append(b []byte, m message) []byte {
	start := len(b)
	b = binary.BigEndian.AppendUint32(b, messageMagic)
	b = append(b, m.version, byte(m.kind), m.path, m.flags)
	b = binary.BigEndian.AppendUint64(b, m.box)
	b = binary.BigEndian.AppendUint64(b, m.sequence)
	b = binary.BigEndian.AppendUint64(b, m.cookie)
	b = binary.BigEndian.AppendUint64(b, m.instance)
	b = binary.BigEndian.AppendUint32(b, m.revision)
	b = append(b, m.down, byte(m.reason), 0, 0)
	return append(b, s.sign(b[start:])...)
}

// open is parseMessage for a message that must be signed.
func (s *sealer) open(b []byte) (message, error) {
	m, err := parseMessage(b)
	if err == nil && !hmac.Equal(s.sign(b[:offMAC]), b[offMAC:]) {
		err = errBadMAC
	}
	return m, err
}

// sign returns the signature of b, which holds until the next call.
func (s *sealer) sign(b []byte) []byte {
	s.mac.Reset()
	s.mac.Write(b)
	return s.mac.Sum(s.sum[:0])[:messageSize-offMAC]
}
