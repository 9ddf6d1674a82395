package rewrite

import "encoding/binary"

// DSS is the data sequence signal: an acknowledgment at the level of the connection,
// and the mapping from the subflow's sequence numbers to the connection's (RFC 6824
// and RFC 8684, section 3.3).
type DSS struct {
	// HasAck is flag A: the option has Ack, in 8 bytes if WideAck (flag a) is set, or
	// else its low 4 bytes.
	HasAck, WideAck bool
	// HasMap is flag M: the option has DSN, SubflowSeq and DataLength. DSN has 8 bytes
	// if WideDSN (flag m) is set, or else its low 4 bytes.
	HasMap, WideDSN bool
	// HasChecksum follows from the length of an option with HasMap; there is no flag.
	// The MP_CAPABLE handshake negotiates the checksum for the whole connection.
	HasChecksum bool
	DataFIN     bool // flag F: the connection's data end with this mapping

	Ack        uint64 // next data sequence number expected by the sender of the option
	DSN        uint64 // data sequence number of the first mapped byte
	SubflowSeq uint32 // subflow sequence number of that byte, relative to the SYN
	DataLength uint16 // mapped bytes, plus one for DataFIN; 0 is an infinite mapping
	Checksum   uint16 // over the data and a pseudo-header of DSN, SubflowSeq, DataLength
	Reserved   uint8  // the seven bits above F, zero in a new option
}

// The flags byte of DSS.
const (
	dssAck     = 0x01 // A
	dssWideAck = 0x02 // a
	dssMap     = 0x04 // M
	dssWideDSN = 0x08 // m
	dssDataFIN = 0x10 // F

	dssHeaderSize   = 4
	dssChecksumSize = 2
)

// ParseDSS reads one whole option. The error is [BadOption].
func ParseDSS(o []byte) (DSS, error) {
	if len(o) < dssHeaderSize || !isMPTCP(o, subtypeDSS) {
		return DSS{}, BadOption
	}
	f := o[3]
	d := DSS{
		HasAck: f&dssAck != 0, WideAck: f&dssWideAck != 0,
		HasMap: f&dssMap != 0, WideDSN: f&dssWideDSN != 0,
		DataFIN:  f&dssDataFIN != 0,
		Reserved: uint8(reserved12(o) >> 5),
	}
	d.HasChecksum = d.HasMap && len(o) == d.Len()+dssChecksumSize
	if len(o) != d.Len() {
		return DSS{}, BadOption
	}
	d.readBody(o[dssHeaderSize:])
	return d, nil
}

func (d *DSS) readBody(b []byte) {
	if d.HasAck {
		d.Ack, b = cutWide(b, d.WideAck)
	}
	if !d.HasMap {
		return
	}
	d.DSN, b = cutWide(b, d.WideDSN)
	d.SubflowSeq = binary.BigEndian.Uint32(b)
	d.DataLength = binary.BigEndian.Uint16(b[4:])
	if d.HasChecksum {
		d.Checksum = binary.BigEndian.Uint16(b[6:])
	}
}

// Append appends the option to b.
func (d DSS) Append(b []byte) []byte {
	bits := uint16(d.Reserved&0x7f) << 5
	for _, f := range [...]struct {
		on  bool
		bit uint16
	}{{d.HasAck, dssAck}, {d.WideAck, dssWideAck}, {d.HasMap, dssMap}, {d.WideDSN, dssWideDSN}, {d.DataFIN, dssDataFIN}} {
		if f.on {
			bits |= f.bit
		}
	}
	b = append(appendMPTCP(b, d.Len(), subtypeDSS, uint8(bits>>8)), byte(bits))
	if d.HasAck {
		b = appendWide(b, d.Ack, d.WideAck)
	}
	if !d.HasMap {
		return b
	}
	b = appendWide(b, d.DSN, d.WideDSN)
	b = binary.BigEndian.AppendUint16(binary.BigEndian.AppendUint32(b, d.SubflowSeq), d.DataLength)
	if d.HasChecksum {
		b = binary.BigEndian.AppendUint16(b, d.Checksum)
	}
	return b
}

// Len returns the size of the option in bytes: 4 to 28.
func (d DSS) Len() int {
	n := dssHeaderSize
	if d.HasAck {
		n += wideSize(d.WideAck)
	}
	if d.HasMap {
		n += wideSize(d.WideDSN) + 4 + 2
		if d.HasChecksum {
			n += dssChecksumSize
		}
	}
	return n
}

// wideSize returns the size in bytes of a data sequence number, with or without its
// high half (section 3.3.1).
func wideSize(wide bool) int {
	if wide {
		return 8
	}
	return 4
}

func cutWide(b []byte, wide bool) (v uint64, rest []byte) {
	if wide {
		return binary.BigEndian.Uint64(b), b[8:]
	}
	return uint64(binary.BigEndian.Uint32(b)), b[4:]
}

func appendWide(b []byte, v uint64, wide bool) []byte {
	if wide {
		return binary.BigEndian.AppendUint64(b, v)
	}
	return binary.BigEndian.AppendUint32(b, uint32(v))
}
