package rewrite

// OptionType tells the elements of an option list apart: kinds, subtypes of
// MPTCP, and the three forms of MP_JOIN.
type OptionType uint8

// The elements that an [Option] can hold.
const (
	OptionUnknown OptionType = iota // another kind, or another subtype of MPTCP
	OptionEnd                       // with all that stands behind it
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

// String returns the name that the RFCs use: "MP_CAPABLE".
func (t OptionType) String() string {
	if t >= numOptionTypes {
		return "invalid"
	}
	return optionNames[t]
}

// IsMPTCP reports whether it is an option of MPTCP that the codec knows.
func (t OptionType) IsMPTCP() bool { return t >= OptionMPCapable && t < numOptionTypes }
