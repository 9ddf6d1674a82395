package rewrite

import "encoding/binary"

// CapableForm is the set of fields behind the flags of an MP_CAPABLE.
type CapableForm uint8

// The forms of MP_CAPABLE, in order of length. RFC 6824 has [CapableKey] in SYN and
// SYN+ACK, and [CapableKeys] in the third ACK. RFC 8684 has [CapableBare] in the SYN,
// [CapableKey] in the SYN+ACK, and one of the others in the third ACK.
const (
	CapableBare         CapableForm = iota // nothing: 4 bytes
	CapableKey                             // the sender's key: 12 bytes
	CapableKeys                            // both keys: 20 bytes
	CapableData                            // both keys, the data-level length: 22 bytes
	CapableDataChecksum                    // and the DSS checksum: 24 bytes
)

const (
	capableBareSize         = 4
	capableKeySize          = 12
	capableKeysSize         = 20
	capableDataSize         = 22
	capableDataChecksumSize = 24
)

var capableSizes = [...]int{capableBareSize, capableKeySize, capableKeysSize, capableDataSize, capableDataChecksumSize}

// Flags of MP_CAPABLE, A the highest bit and H the lowest (RFC 6824 and RFC 8684,
// section 3.1).
const (
	CapableChecksum  = 0x80 // A: DSS checksums are required
	CapableExtended  = 0x40 // B: must be zero in versions 0 and 1; a host ignores the option otherwise
	CapableNoAddress = 0x20 // C: open no subflow to this address and port (RFC 8684 only)
	CapableHMACSHA   = 0x01 // H: HMAC-SHA1 in version 0, HMAC-SHA256 in version 1
)

// MPCapable is MP_CAPABLE, which opens a connection (RFC 6824 and RFC 8684, section
// 3.1). Form selects the fields on the wire, from SenderKey on.
//
// The layout of versions above 1 is unknown. ParseMPCapable reads the bytes behind
// their flags as if they were of version 1; these fields have no meaning.
type MPCapable struct {
	Version                uint8 // 0 is RFC 6824, 1 is RFC 8684, at most 15
	Flags                  uint8 // CapableChecksum to CapableHMACSHA
	Form                   CapableForm
	SenderKey, ReceiverKey uint64
	DataLength             uint16 // bytes of connection-level data in the payload
	Checksum               uint16 // DSS checksum, as in [DSS]
}

// ParseMPCapable reads one whole option. The error is [BadOption], also in version 0
// for the forms that only RFC 8684 has: [CapableBare], [CapableData] and
// [CapableDataChecksum].
func ParseMPCapable(o []byte) (MPCapable, error) {
	if len(o) < capableBareSize || !isMPTCP(o, subtypeCapable) {
		return MPCapable{}, BadOption
	}
	m := MPCapable{Version: o[2] & 0x0f, Flags: o[3]}
	switch len(o) {
	case capableBareSize:
		m.Form = CapableBare
	case capableKeySize:
		m.Form = CapableKey
	case capableKeysSize:
		m.Form = CapableKeys
	case capableDataSize:
		m.Form = CapableData
	case capableDataChecksumSize:
		m.Form = CapableDataChecksum
	default:
		return MPCapable{}, BadOption
	}
	if m.Version == 0 && m.Form != CapableKey && m.Form != CapableKeys {
		return MPCapable{}, BadOption
	}
	m.readBody(o)
	return m, nil
}

func (m *MPCapable) readBody(o []byte) {
	if m.Form >= CapableKey {
		m.SenderKey = binary.BigEndian.Uint64(o[4:])
	}
	if m.Form >= CapableKeys {
		m.ReceiverKey = binary.BigEndian.Uint64(o[12:])
	}
	if m.Form >= CapableData {
		m.DataLength = binary.BigEndian.Uint16(o[20:])
	}
	if m.Form >= CapableDataChecksum {
		m.Checksum = binary.BigEndian.Uint16(o[22:])
	}
}

// Append appends the option to b. Form must be one of the constants.
func (m MPCapable) Append(b []byte) []byte {
	b = append(appendMPTCP(b, m.Len(), subtypeCapable, m.Version), m.Flags)
	if m.Form >= CapableKey {
		b = binary.BigEndian.AppendUint64(b, m.SenderKey)
	}
	if m.Form >= CapableKeys {
		b = binary.BigEndian.AppendUint64(b, m.ReceiverKey)
	}
	if m.Form >= CapableData {
		b = binary.BigEndian.AppendUint16(b, m.DataLength)
	}
	if m.Form >= CapableDataChecksum {
		b = binary.BigEndian.AppendUint16(b, m.Checksum)
	}
	return b
}

// Len returns the size of the option in bytes: 4, 12, 20, 22 or 24. Form must be one
// of the constants.
func (m MPCapable) Len() int { return capableSizes[m.Form] }
