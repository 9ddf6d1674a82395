package rewrite

import "encoding/binary"

// MSS is the largest segment that the sender of the option can receive, in bytes
// without headers: kind 2, in SYN and SYN+ACK (RFC 9293, section 3.7.1).
type MSS uint16

const mssSize = 4

// ParseMSS reads one whole option. The error is [BadOption].
func ParseMSS(o []byte) (MSS, error) {
	if len(o) != mssSize || !isOption(o, optionMSS) {
		return 0, BadOption
	}
	return MSS(binary.BigEndian.Uint16(o[2:])), nil
}

// Append appends the option to b.
func (m MSS) Append(b []byte) []byte {
	return binary.BigEndian.AppendUint16(append(b, optionMSS, mssSize), uint16(m))
}

// Len returns the size of the option in bytes: 4.
func (m MSS) Len() int { return mssSize }

// WindowScale is the shift count for the sender's windows, in bits: kind 3, in SYN
// and SYN+ACK (RFC 7323, section 2.2). A receiver uses 14 instead of larger values.
type WindowScale uint8

const windowScaleSize = 3

// ParseWindowScale reads one whole option. The error is [BadOption].
func ParseWindowScale(o []byte) (WindowScale, error) {
	if len(o) != windowScaleSize || !isOption(o, optionWindowScale) {
		return 0, BadOption
	}
	return WindowScale(o[2]), nil
}

// Append appends the option to b.
func (w WindowScale) Append(b []byte) []byte {
	return append(b, optionWindowScale, windowScaleSize, byte(w))
}

// Len returns the size of the option in bytes: 3.
func (w WindowScale) Len() int { return windowScaleSize }

// SACKPermitted is the permission to send SACK to the sender of the option: kind 4,
// in SYN and SYN+ACK (RFC 2018, section 2).
type SACKPermitted struct{}

const sackPermittedSize = 2

// ParseSACKPermitted reads one whole option. The error is [BadOption].
func ParseSACKPermitted(o []byte) (SACKPermitted, error) {
	if len(o) != sackPermittedSize || !isOption(o, optionSACKPermitted) {
		return SACKPermitted{}, BadOption
	}
	return SACKPermitted{}, nil
}

// Append appends the option to b.
func (SACKPermitted) Append(b []byte) []byte {
	return append(b, optionSACKPermitted, sackPermittedSize)
}

// Len returns the size of the option in bytes: 2.
func (SACKPermitted) Len() int { return sackPermittedSize }

// Timestamps are the time of the sender's clock and the latest one from the receiver,
// in ticks of each host's own length: kind 8 (RFC 7323, section 3.2).
type Timestamps struct {
	Value uint32 // TSval
	Echo  uint32 // TSecr, valid in segments with ACK
}

const timestampsSize = 10

// ParseTimestamps reads one whole option. The error is [BadOption].
func ParseTimestamps(o []byte) (Timestamps, error) {
	if len(o) != timestampsSize || !isOption(o, optionTimestamps) {
		return Timestamps{}, BadOption
	}
	return Timestamps{binary.BigEndian.Uint32(o[2:]), binary.BigEndian.Uint32(o[6:])}, nil
}

// Append appends the option to b.
func (t Timestamps) Append(b []byte) []byte {
	b = binary.BigEndian.AppendUint32(append(b, optionTimestamps, timestampsSize), t.Value)
	return binary.BigEndian.AppendUint32(b, t.Echo)
}

// Len returns the size of the option in bytes: 10.
func (t Timestamps) Len() int { return timestampsSize }
