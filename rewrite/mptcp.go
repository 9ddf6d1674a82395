package rewrite

import "encoding/binary"

// optionMPTCP is the TCP option kind of MPTCP (RFC 8684, section 8).
const optionMPTCP = 30

// subtype is the high nibble of the third byte of an MPTCP option (RFC 8684,
// section 8, and RFC 6824, section 8).
type subtype uint8

const (
	subtypeCapable    subtype = 0x0
	subtypeJoin       subtype = 0x1
	subtypeDSS        subtype = 0x2
	subtypeAddAddr    subtype = 0x3
	subtypeRemoveAddr subtype = 0x4
	subtypePrio       subtype = 0x5
	subtypeFail       subtype = 0x6
	subtypeFastclose  subtype = 0x7
	subtypeReset      subtype = 0x8 // RFC 8684 only
)

// MPTCP is what the MPTCP options of one segment say about the opening of a
// connection (MP_CAPABLE) or of a subflow (MP_JOIN). Fields that the segment's
// step of the handshake does not carry are zero:
//
//	            SYN                     SYN+ACK            ACK
//	MP_CAPABLE  v0: SenderKey, v1: none SenderKey          SenderKey, ReceiverKey
//	MP_JOIN     AddressID,              AddressID,         the full HMAC: not read
//	            Token, Nonce            Nonce, HMAC
type MPTCP struct {
	Capable, Join bool

	// Version of MP_CAPABLE: 0 is RFC 6824, 1 is RFC 8684. Of a higher version
	// only Version and CapableFlags are read. MP_JOIN carries no version.
	Version uint8
	// CapableFlags are the bits A to H of MP_CAPABLE, A being the highest
	// (RFC 8684, section 3.1).
	CapableFlags uint8
	SenderKey    uint64
	ReceiverKey  uint64

	Backup    bool   // B of MP_JOIN, in SYN and SYN+ACK (RFC 8684, section 3.2)
	AddressID uint8  // of the sender's address
	Token     uint32 // of the connection that the subflow joins
	Nonce     uint32 // the sender's random number
	HMAC      uint64 // the sender's, truncated to 64 bits
}

// step is the place of a segment in the handshake. It decides the layout of
// MP_CAPABLE and MP_JOIN.
type step uint8

const (
	stepNone step = iota // neither option may stand here
	stepSYN
	stepSYNACK
	stepACK // the third one, or a later one that repeats its option
)

func (s *Segment) step() step {
	switch {
	case s.IsSYN():
		return stepSYN
	case s.IsSYNACK():
		return stepSYNACK
	case s.Flags&(SYN|RST|ACK) == ACK:
		return stepACK
	}
	return stepNone
}

// MPTCP reads the MPTCP options of the segment. Without one it returns the zero
// MPTCP. Subtypes that neither RFC knows, and what other subtypes say, are left
// aside.
//
// The error is [BadOption], with the zero MPTCP, when an option overruns the
// list, when an MPTCP option has a length that neither RFC 6824 nor RFC 8684
// allows at this step of the handshake, and when a segment holds more than one
// MP_CAPABLE or MP_JOIN: it opens one thing.
func (s *Segment) MPTCP() (MPTCP, error) {
	var m MPTCP
	at := s.step()
	for list := s.Options; ; {
		o, rest, err := nextOption(list)
		if err != nil {
			return MPTCP{}, err
		}
		if o == nil {
			return m, nil
		}
		list = rest
		if o.kind() != optionMPTCP {
			continue
		}
		if err := m.read(mptcpOption(o), at); err != nil {
			return MPTCP{}, err
		}
	}
}

// read takes up one MPTCP option.
func (m *MPTCP) read(o mptcpOption, at step) error {
	if len(o) < mptcpMinimumSize || !o.lengthOK(at) {
		return BadOption
	}
	switch o.subtype() {
	case subtypeCapable, subtypeJoin:
		if m.Capable || m.Join {
			return BadOption
		}
	}
	switch o.subtype() {
	case subtypeCapable:
		m.readCapable(o, at)
	case subtypeJoin:
		m.readJoin(o, at)
	}
	return nil
}

func (m *MPTCP) readCapable(o mptcpOption, at step) {
	m.Capable, m.Version, m.CapableFlags = true, o.version(), o[capableFlags]
	if m.Version > 1 {
		return
	}
	if len(o) >= capableKeySize {
		m.SenderKey = binary.BigEndian.Uint64(o[capableSenderKey:])
	}
	if at == stepACK {
		m.ReceiverKey = binary.BigEndian.Uint64(o[capableReceiverKey:])
	}
}

func (m *MPTCP) readJoin(o mptcpOption, at step) {
	m.Join = true
	if at == stepACK {
		return
	}
	m.Backup, m.AddressID = o[mptcpSubtype]&joinBackup != 0, o[joinAddressID]
	if at == stepSYN {
		m.Token = binary.BigEndian.Uint32(o[joinToken:])
		m.Nonce = binary.BigEndian.Uint32(o[joinNonce:])
		return
	}
	m.HMAC = binary.BigEndian.Uint64(o[joinSYNACKHMAC:])
	m.Nonce = binary.BigEndian.Uint32(o[joinSYNACKNonce:])
}
