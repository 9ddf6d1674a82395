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

// option is a view of one TCP option: kind, length and data. It is never a Nop
// and never empty, except after the end of the list.
type option []byte

func (o option) kind() uint8 { return o[0] }

// subtype of an MPTCP option of three bytes or more.
func (o option) subtype() subtype { return subtype(o[2] >> 4) }

// isOption reports whether o is one option of the kind, as long as it says.
func isOption(o []byte, kind uint8) bool {
	return len(o) >= optionMinimumSize && o[0] == kind && int(o[1]) == len(o)
}

// isMPTCP reports whether o is one MPTCP option of the subtype, as long as it says.
func isMPTCP(o []byte, s subtype) bool {
	return len(o) >= mptcpMinimumSize && isOption(o, optionMPTCP) && option(o).subtype() == s
}

// appendMPTCP appends the three bytes with which every MPTCP option begins.
func appendMPTCP(b []byte, size int, s subtype, nibble uint8) []byte {
	return append(b, optionMPTCP, byte(size), byte(s)<<4|nibble&0x0f)
}

// cutOption cuts the first option off a list that is not empty. Nop is an option
// of one byte. End is one too, with all that stands behind it.
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

// isSized reports whether a list begins with an option whose length fits.
func isSized(list []byte) bool {
	return len(list) >= optionMinimumSize && list[1] >= optionMinimumSize && int(list[1]) <= len(list)
}

// nextOption returns the first option of a list and what follows it. At the end
// of the list, which is an End option or the end of the header, the option is
// nil. What stands behind an End option is padding and not looked at. It reads
// as Linux tcp_parse_options does, but reports what that skips silently.
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
