package rewrite

// MPPrio is MP_PRIO: a change of the backup flag of a subflow (RFC 6824 and RFC
// 8684, section 3.3.8), which is the one it is sent on, unless it names another
// by the identifier of its sender's address. RFC 8684 has no identifier.
type MPPrio struct {
	Backup       bool
	HasAddressID bool
	AddressID    uint8
	Reserved     uint8 // three bits beside B, zero when made
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

// Len is the size of the option in bytes: 3 or 4.
func (m MPPrio) Len() int {
	if m.HasAddressID {
		return prioIDSize
	}
	return prioSize
}
