package rewrite

import "encoding/binary"

// MPFail is MP_FAIL, the report of a wrong DSS checksum (RFC 6824, section 3.6; RFC
// 8684, section 3.7).
type MPFail struct {
	DSN      uint64 // data sequence number of the first byte of the bad mapping
	Reserved uint16 // twelve bits, zero in a new option
}

// MPFastclose is MP_FASTCLOSE, the abrupt close of the connection with all its
// subflows, as RST closes a TCP connection (RFC 6824 and RFC 8684, section 3.5).
type MPFastclose struct {
	ReceiverKey uint64 // the receiver's key, from MP_CAPABLE
	Reserved    uint16 // twelve bits, zero in a new option
}

const (
	failSize      = 12
	fastcloseSize = 12
)

// ParseMPFail reads one whole option. The error is [BadOption].
func ParseMPFail(o []byte) (MPFail, error) {
	if len(o) != failSize || !isMPTCP(o, subtypeFail) {
		return MPFail{}, BadOption
	}
	return MPFail{binary.BigEndian.Uint64(o[4:]), reserved12(o)}, nil
}

// Append appends the option to b.
func (m MPFail) Append(b []byte) []byte {
	b = append(appendMPTCP(b, m.Len(), subtypeFail, uint8(m.Reserved>>8)), byte(m.Reserved))
	return binary.BigEndian.AppendUint64(b, m.DSN)
}

// Len returns the size of the option in bytes: 12.
func (m MPFail) Len() int { return failSize }

// ParseMPFastclose reads one whole option. The error is [BadOption].
func ParseMPFastclose(o []byte) (MPFastclose, error) {
	if len(o) != fastcloseSize || !isMPTCP(o, subtypeFastclose) {
		return MPFastclose{}, BadOption
	}
	return MPFastclose{binary.BigEndian.Uint64(o[4:]), reserved12(o)}, nil
}

// Append appends the option to b.
func (m MPFastclose) Append(b []byte) []byte {
	b = append(appendMPTCP(b, m.Len(), subtypeFastclose, uint8(m.Reserved>>8)), byte(m.Reserved))
	return binary.BigEndian.AppendUint64(b, m.ReceiverKey)
}

// Len returns the size of the option in bytes: 12.
func (m MPFastclose) Len() int { return fastcloseSize }
