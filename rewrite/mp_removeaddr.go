package rewrite

// RemoveAddr is REMOVE_ADDR: the sender is no longer reached at the addresses with
// these identifiers, one at least (RFC 6824 and RFC 8684, section 3.4.2). Parsed
// IDs are a view into the option.
type RemoveAddr struct {
	IDs      []byte
	Reserved uint8 // four bits, zero when made
}

const removeAddrHeaderSize = 3

// ParseRemoveAddr reads one whole option. The error is [BadOption].
func ParseRemoveAddr(o []byte) (RemoveAddr, error) {
	if !isMPTCP(o, subtypeRemoveAddr) || len(o) == removeAddrHeaderSize {
		return RemoveAddr{}, BadOption
	}
	return RemoveAddr{o[removeAddrHeaderSize:len(o):len(o)], o[2] & 0x0f}, nil
}

// Append appends the option to b.
func (r RemoveAddr) Append(b []byte) []byte {
	return append(appendMPTCP(b, r.Len(), subtypeRemoveAddr, r.Reserved), r.IDs...)
}

// Len is the size of the option in bytes: 3 and one for each of IDs.
func (r RemoveAddr) Len() int { return removeAddrHeaderSize + len(r.IDs) }
