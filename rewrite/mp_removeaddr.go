package rewrite

// RemoveAddr is REMOVE_ADDR, the withdrawal of addresses of the sender (RFC 6824 and
// RFC 8684, section 3.4.2).
type RemoveAddr struct {
	IDs      []byte // 1 to 252 address identifiers; ParseRemoveAddr returns a view into the option
	Reserved uint8  // four bits, zero in a new option
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

// Len returns the size of the option in bytes: 3 + len(IDs).
func (r RemoveAddr) Len() int { return removeAddrHeaderSize + len(r.IDs) }
