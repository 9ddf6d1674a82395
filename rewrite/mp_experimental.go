package rewrite

// MPExperimental is MP_EXPERIMENTAL, the subtype for private use, whose content
// only its users know (RFC 6824 and RFC 8684, section 8). Parsed Data is a view
// into the option.
type MPExperimental struct {
	Nibble uint8 // the four bits beside the subtype
	Data   []byte
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

// Len is the size of the option in bytes: 3 and one for each of Data.
func (m MPExperimental) Len() int { return experimentalHeaderSize + len(m.Data) }
