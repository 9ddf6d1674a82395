package rewrite

// MPTCP holds the content of MP_CAPABLE or MP_JOIN in one segment: the opening of a
// connection or of a further subflow. Fields without a value at the segment's step of
// the handshake are zero:
//
//	            SYN                     SYN+ACK            ACK
//	MP_CAPABLE  v0: SenderKey, v1: none SenderKey          SenderKey, ReceiverKey
//	MP_JOIN     AddressID,              AddressID,         the full HMAC: not read
//	            Token, Nonce            Nonce, HMAC
type MPTCP struct {
	Capable, Join bool // the segment has MP_CAPABLE, MP_JOIN; never both

	// Version is the one in MP_CAPABLE: 0 is RFC 6824, 1 is RFC 8684. For higher
	// versions only Version and CapableFlags are set. MP_JOIN has no version.
	Version uint8
	// CapableFlags are the bits A to H of MP_CAPABLE, A the highest (RFC 8684, section
	// 3.1). See [CapableChecksum] and the others.
	CapableFlags uint8
	SenderKey    uint64
	ReceiverKey  uint64

	Backup    bool   // B of MP_JOIN, in SYN and SYN+ACK (RFC 8684, section 3.2)
	AddressID uint8  // of the sender's address
	Token     uint32 // of the connection that the subflow joins
	Nonce     uint32 // the sender's random number
	HMAC      uint64 // the sender's HMAC, truncated to 64 bits
}

// step is the place of a segment in the handshake, which determines the layout of
// MP_CAPABLE and MP_JOIN.
type step uint8

const (
	stepNone step = iota // neither option is allowed
	stepSYN
	stepSYNACK
	stepACK // the third ACK, or a later ACK with the same option
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

// MPTCP reads MP_CAPABLE and MP_JOIN of the segment. Without either it returns the
// zero MPTCP. Options behind End are padding. MPTCP checks the length of the other
// subtypes and ignores their content; it ignores subtypes that neither RFC defines.
//
// The error is [BadOption], with the zero MPTCP, in three cases: an option overruns
// the list; an MPTCP option has a length that neither RFC 6824 nor RFC 8684 allows
// at this step of the handshake; the segment has more than one MP_CAPABLE or MP_JOIN.
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

// read adds one MPTCP option to m.
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

// checkOther checks the length of an option of another subtype. The Option is large:
// it must not be on the stack of a function that runs for every SYN.
//
//go:noinline
func checkOther(o option) error {
	var other Option
	return other.parseMPTCP(o)
}

func (m *MPTCP) readCapable(o option, at step) error {
	c, err := ParseMPCapable(o)
	if err != nil || !c.allowedAt(at) {
		return BadOption
	}
	m.Capable, m.Version, m.CapableFlags = true, c.Version, c.Flags
	if m.Version <= 1 {
		m.SenderKey, m.ReceiverKey = c.SenderKey, c.ReceiverKey
	}
	return nil
}

// allowedAt reports whether RFC 6824 (for version 0) or RFC 8684 (for version 1) has
// this form at a step of the handshake. Higher versions, with an unknown layout, may
// have the form of either.
func (m *MPCapable) allowedAt(at step) bool {
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
