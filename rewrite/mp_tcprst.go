package rewrite

// ResetReason says why a subflow was reset (RFC 8684, section 3.6).
type ResetReason uint8

// The reasons that RFC 8684 defines.
const (
	ResetUnspecified ResetReason = iota
	ResetMPTCPError
	ResetLackOfResources
	ResetProhibited
	ResetTooMuchOutstandingData
	ResetUnacceptablePerformance
	ResetMiddlebox
)

// MPTCPRST is MP_TCPRST, in a segment with RST (RFC 8684, section 3.6).
type MPTCPRST struct {
	Transient bool // T: the error may pass, the subflow may be tried again
	Reason    ResetReason
	Reserved  uint8 // U, V and W above T, zero when made
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

// Len is the size of the option in bytes.
func (m MPTCPRST) Len() int { return tcprstSize }
