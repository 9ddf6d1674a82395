package rewrite

// mptcpOption is a view of one MPTCP option, kind and length included: RFC 8684,
// section 3. Only its first three bytes are there until lengthOK says so.
type mptcpOption []byte

const (
	mptcpMinimumSize = 3

	mptcpSubtype = 2 // high nibble; the low one belongs to the subtype

	// MP_CAPABLE, RFC 6824 and RFC 8684, section 3.1: sizes by what it carries.
	capableFlags       = 3
	capableSenderKey   = 4
	capableReceiverKey = 12
	capableBareSize    = 4  // v1 SYN
	capableKeySize     = 12 // v0 SYN, SYN+ACK
	capableKeysSize    = 20 // third ACK
	capableDataSize    = 22 // v1: with a data-level length
	capableDataSumSize = 24 // v1: and a checksum

	// MP_JOIN, RFC 6824 and RFC 8684, section 3.2.
	joinBackup      = 0x01 // B, in the byte of the subtype
	joinAddressID   = 3
	joinToken       = 4
	joinNonce       = 8
	joinSYNACKHMAC  = 4
	joinSYNACKNonce = 12
	joinSYNSize     = 12
	joinSYNACKSize  = 16
	joinACKSize     = 24
)

func (o mptcpOption) subtype() subtype { return subtype(o[mptcpSubtype] >> 4) }

// version of MP_CAPABLE.
func (o mptcpOption) version() uint8 { return o[mptcpSubtype] & 0x0f }

// lengthOK reports whether RFC 6824 or RFC 8684 allows the length of this option
// at this step of the handshake. Subtypes that neither knows may have any.
func (o mptcpOption) lengthOK(at step) bool {
	n := len(o)
	switch o.subtype() {
	case subtypeCapable:
		return o.capableLengthOK(at)
	case subtypeJoin:
		return at == stepSYN && n == joinSYNSize ||
			at == stepSYNACK && n == joinSYNACKSize ||
			at == stepACK && n == joinACKSize
	case subtypeDSS:
		return o.dssLengthOK()
	case subtypeAddAddr:
		return o.addAddrLengthOK()
	case subtypeRemoveAddr:
		return n >= 4 // a list of address identifiers (section 3.4.2)
	case subtypePrio:
		return n == 3 || n == 4 // RFC 6824, section 3.3.8: may name an address
	case subtypeFail, subtypeFastclose:
		return n == 12 // sections 3.7 and 3.5
	case subtypeReset:
		return n == 4 // RFC 8684, section 3.6
	}
	return true
}

// capableLengthOK holds version 0 to RFC 6824 and version 1 to RFC 8684. Higher
// versions, whose layout is not known, may have any length of these two.
func (o mptcpOption) capableLengthOK(at step) bool {
	n, v := len(o), o.version()
	switch at {
	case stepSYN:
		return n == capableBareSize && v != 0 || n == capableKeySize && v != 1
	case stepSYNACK:
		return n == capableKeySize
	case stepACK:
		return n == capableKeysSize || v != 0 && (n == capableDataSize || n == capableDataSumSize)
	}
	return false
}

// dssLengthOK: what follows the flags is told by them (section 3.3); a checksum
// is there if it was negotiated, which one segment does not tell.
func (o mptcpOption) dssLengthOK() bool {
	const (
		hasAck, wideAck = 0x01, 0x02 // A, a
		hasMap, wideMap = 0x04, 0x08 // M, m
		checksum        = 2
	)
	if len(o) < 4 {
		return false
	}
	want, flags := 4, o[3]
	if flags&hasAck != 0 {
		want += 4
		if flags&wideAck != 0 {
			want += 4
		}
	}
	if flags&hasMap == 0 {
		return len(o) == want
	}
	want += 4 + 4 + 2 // data sequence number, subflow sequence number, length
	if flags&wideMap != 0 {
		want += 4
	}
	return len(o) == want || len(o) == want+checksum
}

// addAddrLengthOK: an IPv4 or IPv6 address, a port or none, and in RFC 8684 a
// truncated HMAC unless it is an echo (section 3.4.1). The low nibble, IPVer in
// one RFC and the echo flag in the other, does not say which of them is spoken.
func (o mptcpOption) addAddrLengthOK() bool {
	switch len(o) {
	case 8, 10, 16, 18, 20, 22, 28, 30:
		return true
	}
	return false
}
