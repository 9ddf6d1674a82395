package rewrite

// ResetReason is the reason code for the reset of a subflow (RFC 8684, section 3.6).
type ResetReason uint8

// The reason codes of RFC 8684.
const (
	ResetUnspecified ResetReason = iota
	ResetMPTCPError
	ResetLackOfResources
	ResetProhibited
	ResetTooMuchOutstandingData
	ResetUnacceptablePerformance
	ResetMiddlebox
)

// MPTCPRST is MP_TCPRST, the reason for a reset in a segment with RST (RFC 8684,
// section 3.6).
type MPTCPRST struct {
	Transient bool        // T: the error condition is temporary; the host may try the subflow again
	Reason    ResetReason // any byte; codes above ResetMiddlebox are unassigned
	Reserved  uint8       // U, V and W above T, zero in a new option
}

const (
	tcprstSize   = 4
	transientBit = 0x01
)

// ParseMPTCPRST reads one whole option. The error is [BadOption].
func ParseMPTCPRST(o []byte) (MPTCPRST, error) {
	if len(o) != tcprstSize || !isMPTCP(o, subtypeReset) {
		return MPTCPRST{}, BadOption
	}
	return MPTCPRST{o[2]&transientBit != 0, ResetReason(o[3]), o[2] >> 1 & 0x07}, nil
}

// Append appends the option to b.
func (m MPTCPRST) Append(b []byte) []byte {
	nibble := m.Reserved << 1
	if m.Transient {
		nibble |= transientBit
	}
	return append(appendMPTCP(b, m.Len(), subtypeReset, nibble), byte(m.Reason))
}

// Len returns the size of the option in bytes: 4.
func (m MPTCPRST) Len() int { return tcprstSize }
