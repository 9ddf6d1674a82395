package rewrite

// TCP option kinds (IANA "TCP Option Kind Numbers").
const (
	optionEnd           = 0
	optionNop           = 1
	optionMSS           = 2
	optionWindowScale   = 3
	optionSACKPermitted = 4
	optionSACK          = 5
	optionTimestamps    = 8
	optionMPTCP         = 30
	optionFastOpen      = 34
)

// subtype is the high nibble of the third byte of an MPTCP option (RFC 8684,
// section 8, and RFC 6824, section 8).
type subtype uint8

const (
	subtypeCapable      subtype = 0x0
	subtypeJoin         subtype = 0x1
	subtypeDSS          subtype = 0x2
	subtypeAddAddr      subtype = 0x3
	subtypeRemoveAddr   subtype = 0x4
	subtypePrio         subtype = 0x5
	subtypeFail         subtype = 0x6
	subtypeFastclose    subtype = 0x7
	subtypeReset        subtype = 0x8 // RFC 8684 only
	subtypeExperimental subtype = 0xf
)

const (
	optionMinimumSize = 2 // kind and length
	mptcpMinimumSize  = 3 // kind, length and subtype
	maxOptionsSize    = 40
)

// option is a view of one TCP option: kind, length and data. It is never a Nop. Nil
// stands for the end of the list.
type option []byte

func (o option) kind() uint8 { return o[0] }

// subtype returns the subtype of an MPTCP option of at least three bytes.
func (o option) subtype() subtype { return subtype(o[2] >> 4) }

// isOption reports whether o is one whole option of the kind: its length byte equals
// len(o).
func isOption(o []byte, kind uint8) bool {
	return len(o) >= optionMinimumSize && o[0] == kind && int(o[1]) == len(o)
}

// isMPTCP reports whether o is one whole MPTCP option of the subtype.
func isMPTCP(o []byte, s subtype) bool {
	return len(o) >= mptcpMinimumSize && isOption(o, optionMPTCP) && option(o).subtype() == s
}

// appendMPTCP appends the first three bytes of an MPTCP option: kind, length, subtype
// with the nibble beside it.
func appendMPTCP(b []byte, size int, s subtype, nibble uint8) []byte {
	return append(b, optionMPTCP, byte(size), byte(s)<<4|nibble&0x0f)
}

// cutOption splits a list, which must not be empty, into its first element and the
// rest. Nop is an element of one byte. End is an element with all bytes behind it.
func cutOption(list []byte) (o, rest []byte, err error) {
	switch {
	case list[0] == optionEnd:
		return list, nil, nil
	case list[0] == optionNop:
		return list[:1], list[1:], nil
	case !isSized(list):
		return nil, nil, BadOption
	}
	return list[:list[1]], list[list[1]:], nil
}

// isSized reports whether a list begins with an option that does not overrun it.
func isSized(list []byte) bool {
	return len(list) >= optionMinimumSize && list[1] >= optionMinimumSize && int(list[1]) <= len(list)
}

// nextOption returns the first option of a list and the rest behind it, without Nop.
// At the end of the list (an End, or the end of the header) the option is nil; bytes
// behind End are padding. nextOption reads like Linux tcp_parse_options, which
// ignores the rest of a list from a bad length on; nextOption returns [BadOption].
func nextOption(list []byte) (o option, rest []byte, err error) {
	for len(list) > 0 && list[0] == optionNop {
		list = list[1:]
	}
	if len(list) == 0 || list[0] == optionEnd {
		return nil, nil, nil
	}
	if !isSized(list) {
		return nil, nil, BadOption
	}
	return list[:list[1]], list[list[1]:], nil
}
