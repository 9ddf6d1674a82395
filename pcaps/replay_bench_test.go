package pcaps

import (
	"bytes"
	"fmt"
	"io"
	"net/netip"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
)

// busy returns a capture of connections: for each a handshake, segments of data with their
// acknowledgments, and the end.
func busy(t testing.TB, flows, segments int) []byte {
	f := newCapture(t, Pcapng)
	data := strings.Repeat("x", 1400)
	for i := range flows {
		port := uint16(1024 + i%60000)
		k := conn{netip.AddrPortFrom(client6.Addr(), port), server6}
		f.add(k.syn(), k.synack(), k.ack(nil))
		for range segments {
			f.add(k.fromServer(rewrite.ACK, nil, data), k.fromClient(rewrite.ACK, nil, ""))
		}
		f.add(k.fromClient(rewrite.FIN|rewrite.ACK, nil, ""), k.fromServer(rewrite.FIN|rewrite.ACK, nil, ""))
	}
	return f.bytes()
}

func BenchmarkReplay(b *testing.B) {
	for _, c := range []struct {
		name            string
		flows, segments int
	}{{"data", 100, 500}, {"handshakes", 10000, 0}} {
		file := busy(b, c.flows, c.segments)
		for _, out := range []bool{false, true} {
			b.Run(fmt.Sprintf("%s/out=%v", c.name, out), func(b *testing.B) {
				b.SetBytes(int64(len(file)))
				b.ReportAllocs()
				var packets uint64
				for b.Loop() {
					in, err := NewReader(bytes.NewReader(file))
					if err != nil {
						b.Fatal(err)
					}
					var w *Writer
					if out {
						w = NewWriter(io.Discard, Pcapng)
					}
					report, err := Replay(b.Context(), in, w, Config{Policy: &core.Policy{}})
					if err != nil {
						b.Fatal(err)
					}
					packets += report.Totals.Packets
				}
				b.ReportMetric(float64(packets)/b.Elapsed().Seconds(), "packets/s")
			})
		}
	}
}
