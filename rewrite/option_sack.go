package rewrite

import "encoding/binary"

// SACKBlock is a contiguous block of received bytes, from the sequence number Left up
// to, but not including, Right.
type SACKBlock struct{ Left, Right uint32 }

// SACK is the selective acknowledgment of bytes that arrived out of order: kind 5
// (RFC 2018, section 3). The option has the first Count of Blocks; Count is 1 to 4.
type SACK struct {
	Blocks [4]SACKBlock
	Count  int
}

const (
	sackHeaderSize = 2
	sackBlockSize  = 8
)

// ParseSACK reads one whole option. The error is [BadOption].
func ParseSACK(o []byte) (SACK, error) {
	var s SACK
	s.Count = (len(o) - sackHeaderSize) / sackBlockSize
	if !isOption(o, optionSACK) || s.Count < 1 || s.Count > len(s.Blocks) || len(o) != s.Len() {
		return SACK{}, BadOption
	}
	for i := range s.Count {
		block := o[sackHeaderSize+i*sackBlockSize:]
		s.Blocks[i] = SACKBlock{binary.BigEndian.Uint32(block), binary.BigEndian.Uint32(block[4:])}
	}
	return s, nil
}

// Append appends the option to b.
func (s SACK) Append(b []byte) []byte {
	b = append(b, optionSACK, byte(s.Len()))
	for _, block := range s.Blocks[:s.Count] {
		b = binary.BigEndian.AppendUint32(b, block.Left)
		b = binary.BigEndian.AppendUint32(b, block.Right)
	}
	return b
}

// Len returns the size of the option in bytes: 10, 18, 26 or 34.
func (s SACK) Len() int { return sackHeaderSize + s.Count*sackBlockSize }
