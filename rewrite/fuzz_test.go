package rewrite

import (
	"bytes"
	"errors"
	"testing"
)

// FuzzSegment checks the invariants of the package for Parse and the methods of the
// Segment, on any bytes.
func FuzzSegment(f *testing.F) {
	for _, packet := range seeds() {
		f.Add(packet)
	}
	f.Fuzz(func(t *testing.T, packet []byte) {
		before := bytes.Clone(packet)
		var s Segment
		err := s.Parse(packet)
		if !bytes.Equal(before, packet) {
			t.Fatal("Parse changes the packet")
		}
		if err != nil {
			checkReason(t, err)
			if !isZero(&s) {
				t.Fatalf("a refused packet leaves %+v", s)
			}
			return
		}
		checkViews(t, &s, packet)
		checkMPTCP(t, &s)
		checkChecksum(t, &s)
		checkLengths(t, &s, packet)
	})
}

func checkReason(t *testing.T, err error) {
	var r Reason
	if !errors.As(err, &r) || r == 0 || r >= NumReasons {
		t.Fatalf("error %#v is not a Reason", err)
	}
}

// checkViews checks that Options and Payload are adjacent parts of the packet.
func checkViews(t *testing.T, s *Segment, packet []byte) {
	if s.Src.Addr().Is4() != (packet[0]>>4 == 4) || s.Dst.Addr().Is4() != s.Src.Addr().Is4() {
		t.Fatalf("endpoints %v > %v", s.Src, s.Dst)
	}
	if len(s.Options)%4 != 0 || len(s.Options) > 40 {
		t.Fatalf("%d bytes of options", len(s.Options))
	}
	if !bytes.HasPrefix(packet, s.packet) {
		t.Fatal("s.packet is not the packet")
	}
	tcp := s.packet[s.tcp:]
	if !bytes.Equal(tcp[tcpMinimumSize:], cat(s.Options, s.Payload)) {
		t.Fatalf("options %x and payload %x differ from the segment %x", s.Options, s.Payload, tcp)
	}
}

func checkMPTCP(t *testing.T, s *Segment) {
	m, err := s.MPTCP()
	switch {
	case err != nil && (err != BadOption || m != (MPTCP{})):
		t.Fatalf("got %+v, %v", m, err)
	case m.Capable && m.Join:
		t.Fatalf("both MP_CAPABLE and MP_JOIN: %+v", m)
	case !m.Capable && !m.Join && m != MPTCP{}:
		t.Fatalf("neither MP_CAPABLE nor MP_JOIN: got %+v", m)
	}
}

func checkChecksum(t *testing.T, s *Segment) {
	tcp := s.packet[s.tcp:]
	pseudo := cat(s.Src.Addr().AsSlice(), s.Dst.Addr().AsSlice(), be32(uint32(len(tcp))), be32(protocolTCP))
	if got, want := s.ChecksumOK(), oracle(cat(pseudo, tcp)) == 0; got != want {
		t.Fatalf("ChecksumOK: got %v, want %v", got, want)
	}
}

// checkLengths checks that bytes behind the IP length change nothing, and that Parse
// refuses one byte less.
func checkLengths(t *testing.T, s *Segment, packet []byte) {
	var again Segment
	if err := again.Parse(cat(packet, []byte("more"))); err != nil || again.Src != s.Src || again.Dst != s.Dst ||
		!bytes.Equal(again.packet, s.packet) {
		t.Fatalf("with more bytes: got %+v, %v, want %+v", again, err, s)
	}
	if err := again.Parse(s.packet[:len(s.packet)-1]); err != Truncated {
		t.Fatalf("with a byte less: got %v", err)
	}
}
