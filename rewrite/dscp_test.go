package rewrite

import (
	"bytes"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

func TestSetDSCPTwiceRestoresPacket(t *testing.T) {
	for name, packet := range map[string][]byte{
		"IPv4": tcp4(SYN, nil, nil), "IPv6": tcp6(SYN, nil, nil),
	} {
		t.Run(name, func(t *testing.T) {
			var s Segment
			if err := s.Parse(packet); err != nil {
				t.Fatal(err)
			}
			was := s.DSCP()
			for dscp := range uint8(64) {
				out := s.SetDSCP(nil, dscp)
				var changed Segment
				if err := changed.Parse(out); err != nil || changed.DSCP() != dscp || !changed.ChecksumOK() {
					t.Fatalf("code point %d: got %d, %v", dscp, changed.DSCP(), err)
				}
				if name == "IPv4" {
					checkIPv4Sum(t, out)
				}
				if back := changed.SetDSCP(nil, was); !bytes.Equal(back, packet) {
					t.Fatalf("restored from code point %d:\n got %x\nwant %x", dscp, back, packet)
				}
			}
		})
	}
}

// checkIPv4Sum compares the header checksum with the one that gopacket computes.
func checkIPv4Sum(t *testing.T, packet []byte) {
	t.Helper()
	var ip layers.IPv4
	if err := ip.DecodeFromBytes(packet, gopacket.NilDecodeFeedback); err != nil {
		t.Fatal(err)
	}
	want := ip.Checksum
	buf := gopacket.NewSerializeBuffer()
	if err := ip.SerializeTo(buf, gopacket.SerializeOptions{ComputeChecksums: true}); err != nil {
		t.Fatal(err)
	}
	if ip.Checksum != want {
		t.Fatalf("header checksum %#04x, want %#04x", want, ip.Checksum)
	}
}
