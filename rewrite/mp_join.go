package rewrite

import "encoding/binary"

// MP_JOIN opens a further subflow of a connection. Each step of the handshake has
// another form of the option, with another length. [Join] computes and verifies the
// HMACs.

// MPJoinSYN is MP_JOIN in a SYN (RFC 6824 and RFC 8684, section 3.2).
type MPJoinSYN struct {
	Backup    bool   // B: use the subflow only if no regular subflow works
	AddressID uint8  // of the sender's address
	Token     uint32 // of the receiver's key, see [Token]: identifies the connection
	Nonce     uint32 // the sender's random number
	Reserved  uint8  // the three bits beside B, zero in a new option
}

// MPJoinSYNACK is MP_JOIN in a SYN+ACK (RFC 6824 and RFC 8684, section 3.2).
type MPJoinSYNACK struct {
	Backup    bool   // B, as in [MPJoinSYN]
	AddressID uint8  // of the sender's address
	HMAC      uint64 // the leftmost 64 bits of the sender's HMAC
	Nonce     uint32 // the sender's random number
	Reserved  uint8  // the three bits beside B, zero in a new option
}

// MPJoinACK is MP_JOIN in the third ACK (RFC 6824 and RFC 8684, section 3.2).
type MPJoinACK struct {
	HMAC     [20]byte // the leftmost 160 bits of the sender's HMAC: in version 0 all of it
	Reserved uint16   // twelve bits, zero in a new option
}

const (
	joinSYNSize    = 12
	joinSYNACKSize = 16
	joinACKSize    = 24
)

// ParseMPJoinSYN reads one whole option. The error is [BadOption].
func ParseMPJoinSYN(o []byte) (MPJoinSYN, error) {
	if len(o) != joinSYNSize || !isMPTCP(o, subtypeJoin) {
		return MPJoinSYN{}, BadOption
	}
	m := MPJoinSYN{AddressID: o[3], Token: binary.BigEndian.Uint32(o[4:]), Nonce: binary.BigEndian.Uint32(o[8:])}
	m.Backup, m.Reserved = splitBackup(o)
	return m, nil
}

// Append appends the option to b.
func (m MPJoinSYN) Append(b []byte) []byte {
	b = append(appendMPTCP(b, m.Len(), subtypeJoin, backupNibble(m.Backup, m.Reserved)), m.AddressID)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint32(b, m.Token), m.Nonce)
}

// Len returns the size of the option in bytes: 12.
func (m MPJoinSYN) Len() int { return joinSYNSize }

// ParseMPJoinSYNACK reads one whole option. The error is [BadOption].
func ParseMPJoinSYNACK(o []byte) (MPJoinSYNACK, error) {
	if len(o) != joinSYNACKSize || !isMPTCP(o, subtypeJoin) {
		return MPJoinSYNACK{}, BadOption
	}
	m := MPJoinSYNACK{AddressID: o[3], HMAC: binary.BigEndian.Uint64(o[4:]), Nonce: binary.BigEndian.Uint32(o[12:])}
	m.Backup, m.Reserved = splitBackup(o)
	return m, nil
}

// Append appends the option to b.
func (m MPJoinSYNACK) Append(b []byte) []byte {
	b = append(appendMPTCP(b, m.Len(), subtypeJoin, backupNibble(m.Backup, m.Reserved)), m.AddressID)
	return binary.BigEndian.AppendUint32(binary.BigEndian.AppendUint64(b, m.HMAC), m.Nonce)
}

// Len returns the size of the option in bytes: 16.
func (m MPJoinSYNACK) Len() int { return joinSYNACKSize }

// ParseMPJoinACK reads one whole option. The error is [BadOption].
func ParseMPJoinACK(o []byte) (MPJoinACK, error) {
	if len(o) != joinACKSize || !isMPTCP(o, subtypeJoin) {
		return MPJoinACK{}, BadOption
	}
	return MPJoinACK{HMAC: [20]byte(o[4:]), Reserved: reserved12(o)}, nil
}

// Append appends the option to b.
func (m MPJoinACK) Append(b []byte) []byte {
	b = appendMPTCP(b, m.Len(), subtypeJoin, uint8(m.Reserved>>8))
	return append(append(b, byte(m.Reserved)), m.HMAC[:]...)
}

// Len returns the size of the option in bytes: 24.
func (m MPJoinACK) Len() int { return joinACKSize }

// backupBit is B of MP_JOIN and MP_PRIO, in the byte with the subtype.
const backupBit = 0x01

func splitBackup(o []byte) (backup bool, reserved uint8) {
	return o[2]&backupBit != 0, o[2] >> 1 & 0x07
}

func backupNibble(backup bool, reserved uint8) (nibble uint8) {
	nibble = reserved << 1
	if backup {
		nibble |= backupBit
	}
	return nibble
}

// reserved12 returns the twelve bits behind the subtype, up to the end of the fourth
// byte.
func reserved12(o []byte) uint16 { return binary.BigEndian.Uint16(o[2:]) & 0x0fff }
