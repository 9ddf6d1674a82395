package pcaps

import (
	"bytes"
	"io"
	"testing"
)

// manyFrames returns full-sized segments of one interface.
func manyFrames(b *testing.B) []captured {
	b.Helper()
	const count, size = 1000, 1514
	frame := captured{In: Interface{"lan0", "", LinkEthernet}}
	frame.Data, frame.Length = append(cat(macs, []byte{0x86, 0xdd}, synPacket(b, 6)), make([]byte, size-74)...), size
	all := make([]captured, count)
	for i := range all {
		frame.Time = at(int64(i), 0)
		all[i] = frame
	}
	return all
}

func perPacket(b *testing.B, frames int) {
	b.ReportMetric(float64(b.N*frames)/b.Elapsed().Seconds(), "packets/s")
}

func BenchmarkReader(b *testing.B) {
	frames := manyFrames(b)
	for name, format := range map[string]Format{"pcap": Pcap, "pcapng": Pcapng} {
		b.Run(name, func(b *testing.B) {
			file := written(b, format, frames)
			b.SetBytes(int64(len(file)))
			for b.Loop() {
				r, err := NewReader(bytes.NewReader(file))
				if err != nil {
					b.Fatal(err)
				}
				for err != io.EOF {
					if _, err = r.Next(); err != nil && err != io.EOF {
						b.Fatal(err)
					}
				}
			}
			perPacket(b, len(frames))
		})
	}
}

func BenchmarkWriter(b *testing.B) {
	frames := manyFrames(b)
	for name, format := range map[string]Format{"pcap": Pcap, "pcapng": Pcapng} {
		b.Run(name, func(b *testing.B) {
			w := NewWriter(io.Discard, format)
			b.SetBytes(int64(len(frames) * len(frames[0].Data)))
			b.ReportAllocs()
			for b.Loop() {
				for i := range frames {
					if err := w.Write(&frames[i].Frame, frames[i].In); err != nil {
						b.Fatal(err)
					}
				}
			}
			perPacket(b, len(frames))
		})
	}
}
