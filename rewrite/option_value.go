package rewrite

// Option is one element of an option list. Type selects the field with its value. The
// other fields are undefined and may hold values of an earlier option: one Option
// serves for a whole list without a reset.
type Option struct {
	Type OptionType
	// Raw holds the bytes of the element, a view into the list. It is the only value
	// of an unknown option, and of End with the bytes behind it.
	Raw []byte

	MSS            MSS
	WindowScale    WindowScale
	SACK           SACK
	Timestamps     Timestamps
	FastOpen       FastOpen
	MPCapable      MPCapable
	MPJoinSYN      MPJoinSYN
	MPJoinSYNACK   MPJoinSYNACK
	MPJoinACK      MPJoinACK
	DSS            DSS
	AddAddr        AddAddr
	RemoveAddr     RemoveAddr
	MPPrio         MPPrio
	MPFail         MPFail
	MPFastclose    MPFastclose
	MPTCPRST       MPTCPRST
	MPExperimental MPExperimental
}

// Parse reads one whole option, kind and length included, or End with all bytes
// behind it. The error is [BadOption], and the Option is then undefined. An unknown
// kind gives [OptionUnknown], at any length. Parse does not allocate; Raw and the
// slices in the other fields are views into raw.
func (o *Option) Parse(raw []byte) error {
	if len(raw) == 0 {
		return BadOption
	}
	o.Raw = raw
	switch kind := raw[0]; {
	case kind == optionEnd:
		o.Type = OptionEnd
		return nil
	case kind == optionNop:
		o.Type = OptionNop
		if len(raw) != 1 {
			return BadOption
		}
		return nil
	case !isOption(raw, kind):
		return BadOption
	case kind == optionMPTCP:
		return o.parseMPTCP(raw)
	}
	return o.parseTCP(raw)
}

func (o *Option) parseTCP(raw []byte) (err error) {
	switch raw[0] {
	case optionMSS:
		o.Type = OptionMSS
		o.MSS, err = ParseMSS(raw)
	case optionWindowScale:
		o.Type = OptionWindowScale
		o.WindowScale, err = ParseWindowScale(raw)
	case optionSACKPermitted:
		o.Type = OptionSACKPermitted
		_, err = ParseSACKPermitted(raw)
	case optionSACK:
		o.Type = OptionSACK
		o.SACK, err = ParseSACK(raw)
	case optionTimestamps:
		o.Type = OptionTimestamps
		o.Timestamps, err = ParseTimestamps(raw)
	case optionFastOpen:
		o.Type = OptionFastOpen
		o.FastOpen, err = ParseFastOpen(raw)
	default:
		o.Type = OptionUnknown
	}
	return err
}

func (o *Option) parseMPTCP(raw []byte) (err error) {
	if len(raw) < mptcpMinimumSize {
		return BadOption
	}
	switch option(raw).subtype() {
	case subtypeCapable:
		o.Type = OptionMPCapable
		o.MPCapable, err = ParseMPCapable(raw)
	case subtypeJoin:
		return o.parseJoin(raw)
	case subtypeDSS:
		o.Type = OptionDSS
		o.DSS, err = ParseDSS(raw)
	case subtypeAddAddr:
		o.Type = OptionAddAddr
		o.AddAddr, err = ParseAddAddr(raw)
	case subtypeRemoveAddr:
		o.Type = OptionRemoveAddr
		o.RemoveAddr, err = ParseRemoveAddr(raw)
	default:
		return o.parseSignal(raw)
	}
	return err
}

// parseSignal reads the subtypes that concern one subflow, or the end of the
// connection.
func (o *Option) parseSignal(raw []byte) (err error) {
	switch option(raw).subtype() {
	case subtypePrio:
		o.Type = OptionMPPrio
		o.MPPrio, err = ParseMPPrio(raw)
	case subtypeFail:
		o.Type = OptionMPFail
		o.MPFail, err = ParseMPFail(raw)
	case subtypeFastclose:
		o.Type = OptionMPFastclose
		o.MPFastclose, err = ParseMPFastclose(raw)
	case subtypeReset:
		o.Type = OptionMPTCPRST
		o.MPTCPRST, err = ParseMPTCPRST(raw)
	case subtypeExperimental:
		o.Type = OptionMPExperimental
		o.MPExperimental, err = ParseMPExperimental(raw)
	default:
		o.Type = OptionUnknown
	}
	return err
}

// parseJoin reads one of the three forms of MP_JOIN, selected by the length.
func (o *Option) parseJoin(raw []byte) (err error) {
	switch len(raw) {
	case joinSYNSize:
		o.Type = OptionMPJoinSYN
		o.MPJoinSYN, err = ParseMPJoinSYN(raw)
	case joinSYNACKSize:
		o.Type = OptionMPJoinSYNACK
		o.MPJoinSYNACK, err = ParseMPJoinSYNACK(raw)
	default:
		o.Type = OptionMPJoinACK
		o.MPJoinACK, err = ParseMPJoinACK(raw)
	}
	return err
}
