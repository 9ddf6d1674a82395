package rewrite

// Append appends the option to b, from the field for Type. [OptionUnknown] and
// [OptionEnd] append Raw; an End without Raw appends a single byte.
func (o *Option) Append(b []byte) []byte {
	if o.Type.IsMPTCP() {
		return o.appendMPTCP(b)
	}
	switch o.Type {
	case OptionEnd:
		if len(o.Raw) == 0 {
			return append(b, optionEnd)
		}
	case OptionNop:
		return append(b, optionNop)
	case OptionMSS:
		return o.MSS.Append(b)
	case OptionWindowScale:
		return o.WindowScale.Append(b)
	case OptionSACKPermitted:
		return SACKPermitted{}.Append(b)
	case OptionSACK:
		return o.SACK.Append(b)
	case OptionTimestamps:
		return o.Timestamps.Append(b)
	case OptionFastOpen:
		return o.FastOpen.Append(b)
	}
	return append(b, o.Raw...)
}

func (o *Option) appendMPTCP(b []byte) []byte {
	switch o.Type {
	case OptionMPCapable:
		return o.MPCapable.Append(b)
	case OptionMPJoinSYN:
		return o.MPJoinSYN.Append(b)
	case OptionMPJoinSYNACK:
		return o.MPJoinSYNACK.Append(b)
	case OptionMPJoinACK:
		return o.MPJoinACK.Append(b)
	case OptionDSS:
		return o.DSS.Append(b)
	case OptionAddAddr:
		return o.AddAddr.Append(b)
	case OptionRemoveAddr:
		return o.RemoveAddr.Append(b)
	case OptionMPPrio:
		return o.MPPrio.Append(b)
	case OptionMPFail:
		return o.MPFail.Append(b)
	case OptionMPFastclose:
		return o.MPFastclose.Append(b)
	case OptionMPTCPRST:
		return o.MPTCPRST.Append(b)
	}
	return o.MPExperimental.Append(b)
}

// Len returns the number of bytes that [Option.Append] appends.
func (o *Option) Len() int {
	if o.Type.IsMPTCP() {
		return o.lenMPTCP()
	}
	switch o.Type {
	case OptionEnd:
		return max(1, len(o.Raw))
	case OptionNop:
		return 1
	case OptionMSS:
		return o.MSS.Len()
	case OptionWindowScale:
		return o.WindowScale.Len()
	case OptionSACKPermitted:
		return SACKPermitted{}.Len()
	case OptionSACK:
		return o.SACK.Len()
	case OptionTimestamps:
		return o.Timestamps.Len()
	case OptionFastOpen:
		return o.FastOpen.Len()
	}
	return len(o.Raw)
}

func (o *Option) lenMPTCP() int {
	switch o.Type {
	case OptionMPCapable:
		return o.MPCapable.Len()
	case OptionMPJoinSYN:
		return o.MPJoinSYN.Len()
	case OptionMPJoinSYNACK:
		return o.MPJoinSYNACK.Len()
	case OptionMPJoinACK:
		return o.MPJoinACK.Len()
	case OptionDSS:
		return o.DSS.Len()
	case OptionAddAddr:
		return o.AddAddr.Len()
	case OptionRemoveAddr:
		return o.RemoveAddr.Len()
	case OptionMPPrio:
		return o.MPPrio.Len()
	case OptionMPFail:
		return o.MPFail.Len()
	case OptionMPFastclose:
		return o.MPFastclose.Len()
	case OptionMPTCPRST:
		return o.MPTCPRST.Len()
	}
	return o.MPExperimental.Len()
}
