package rewrite

// MPExperimental is MP_EXPERIMENTAL, the subtype for private use, without a defined
// content (RFC 6824 and RFC 8684, section 8).
type MPExperimental struct {
	Nibble uint8  // the four bits beside the subtype
	Data   []byte // at most 252 bytes; ParseMPExperimental returns a view into the option
}

const experimentalHeaderSize = 3

// ParseMPExperimental reads one whole option. The error is [BadOption].
func ParseMPExperimental(o []byte) (MPExperimental, error) {
	if !isMPTCP(o, subtypeExperimental) {
		return MPExperimental{}, BadOption
	}
	return MPExperimental{o[2] & 0x0f, o[experimentalHeaderSize:len(o):len(o)]}, nil
}

// Append appends the option to b.
func (m MPExperimental) Append(b []byte) []byte {
	return append(appendMPTCP(b, m.Len(), subtypeExperimental, m.Nibble), m.Data...)
}

// Len returns the size of the option in bytes: 3 + len(Data).
func (m MPExperimental) Len() int { return experimentalHeaderSize + len(m.Data) }
