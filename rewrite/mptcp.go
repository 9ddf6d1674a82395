package rewrite

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
		if err := m.read(o, at); err != nil {
			return MPTCP{}, err
		}
	}
}

// read takes up one MPTCP option.
func (m *MPTCP) read(o option, at step) error {
	if len(o) < mptcpMinimumSize {
		return BadOption
	}
	sub := o.subtype()
	if sub > subtypeJoin {
		return checkOther(o)
	}
	if m.Capable || m.Join {
		return BadOption
	}
	if sub == subtypeJoin {
		return m.readJoin(o, at)
	}
	return m.readCapable(o, at)
}

// checkOther asks for no more than the shape. The Option is large: it must not be
// on the stack of a function that every SYN goes through.
//
//go:noinline
func checkOther(o option) error {
	var other Option
	return other.parseMPTCP(o)
}

func (m *MPTCP) readCapable(o option, at step) error {
	c, err := ParseMPCapable(o)
	if err != nil || !c.mayStand(at) {
		return BadOption
	}
	m.Capable, m.Version, m.CapableFlags = true, c.Version, c.Flags
	if m.Version <= 1 {
		m.SenderKey, m.ReceiverKey = c.SenderKey, c.ReceiverKey
	}
	return nil
}

// mayStand holds version 0 to RFC 6824 and version 1 to RFC 8684. Higher
// versions, whose layout is not known, may have any form of these two.
func (m *MPCapable) mayStand(at step) bool {
	switch at {
	case stepSYN:
		return m.Form == CapableBare || m.Form == CapableKey && m.Version != 1
	case stepSYNACK:
		return m.Form == CapableKey
	case stepACK:
		return m.Form >= CapableKeys
	}
	return false
}

func (m *MPTCP) readJoin(o option, at step) error {
	m.Join = true
	switch at {
	case stepSYN:
		j, err := ParseMPJoinSYN(o)
		m.Backup, m.AddressID, m.Token, m.Nonce = j.Backup, j.AddressID, j.Token, j.Nonce
		return err
	case stepSYNACK:
		j, err := ParseMPJoinSYNACK(o)
		m.Backup, m.AddressID, m.HMAC, m.Nonce = j.Backup, j.AddressID, j.HMAC, j.Nonce
		return err
	case stepACK:
		_, err := ParseMPJoinACK(o)
		return err
	}
	return BadOption
}
