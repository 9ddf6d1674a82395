package rewrite

// OptionType is the type of an element of an option list: a kind of TCP option, a
// subtype of MPTCP, or one of the three forms of MP_JOIN.
type OptionType uint8

// The types of an [Option].
const (
	OptionUnknown OptionType = iota // another kind, or another subtype of MPTCP
	OptionEnd                       // with all bytes behind it
	OptionNop
	OptionMSS
	OptionWindowScale
	OptionSACKPermitted
	OptionSACK
	OptionTimestamps
	OptionFastOpen
	OptionMPCapable
	OptionMPJoinSYN
	OptionMPJoinSYNACK
	OptionMPJoinACK
	OptionDSS
	OptionAddAddr
	OptionRemoveAddr
	OptionMPPrio
	OptionMPFail
	OptionMPFastclose
	OptionMPTCPRST
	OptionMPExperimental

	numOptionTypes
)

var optionNames = [numOptionTypes]string{
	"unknown", "EOL", "NOP", "MSS", "window scale", "SACK permitted", "SACK", "timestamps", "fast open",
	"MP_CAPABLE", "MP_JOIN SYN", "MP_JOIN SYN+ACK", "MP_JOIN ACK", "DSS", "ADD_ADDR", "REMOVE_ADDR",
	"MP_PRIO", "MP_FAIL", "MP_FASTCLOSE", "MP_TCPRST", "MP_EXPERIMENTAL",
}

// String returns the name in the RFCs: "MP_CAPABLE".
func (t OptionType) String() string {
	if t >= numOptionTypes {
		return "invalid"
	}
	return optionNames[t]
}

// IsMPTCP reports whether t is a type of MPTCP option. It is false for an unknown
// subtype, which is an [OptionUnknown].
func (t OptionType) IsMPTCP() bool { return t >= OptionMPCapable && t < numOptionTypes }
