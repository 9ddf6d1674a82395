package rewrite

// MPPrio is MP_PRIO, a change of the backup flag of a subflow (RFC 6824 and RFC 8684,
// section 3.3.8). It concerns the subflow that carries the option. In RFC 6824 alone
// it may have an address identifier, and then concerns all subflows from that address
// of the sender.
type MPPrio struct {
	Backup       bool  // B: use the subflow only if no regular subflow works
	HasAddressID bool  // RFC 6824 only
	AddressID    uint8 // valid if HasAddressID
	Reserved     uint8 // the three bits beside B, zero in a new option
}

const (
	prioSize   = 3
	prioIDSize = 4
)

// ParseMPPrio reads one whole option. The error is [BadOption].
func ParseMPPrio(o []byte) (MPPrio, error) {
	if !isMPTCP(o, subtypePrio) || len(o) > prioIDSize {
		return MPPrio{}, BadOption
	}
	var m MPPrio
	m.Backup, m.Reserved = splitBackup(o)
	if len(o) == prioIDSize {
		m.HasAddressID, m.AddressID = true, o[3]
	}
	return m, nil
}

// Append appends the option to b.
func (m MPPrio) Append(b []byte) []byte {
	b = appendMPTCP(b, m.Len(), subtypePrio, backupNibble(m.Backup, m.Reserved))
	if m.HasAddressID {
		b = append(b, m.AddressID)
	}
	return b
}

// Len returns the size of the option in bytes: 3 or 4.
func (m MPPrio) Len() int {
	if m.HasAddressID {
		return prioIDSize
	}
	return prioSize
}
