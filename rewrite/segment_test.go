package rewrite

import (
	"errors"
	"fmt"
	"regexp"
	"testing"
)

func TestReasonsAreMetricLabels(t *testing.T) {
	label := regexp.MustCompile(`^[a-z]+(-[a-z]+)*$`)
	seen := map[string]Reason{}
	for r := range NumReasons + 1 {
		name := r.String()
		if !label.MatchString(name) {
			t.Errorf("reason %d: %q is not a label", r, name)
		}
		if before, ok := seen[name]; ok {
			t.Errorf("reasons %d and %d are both %q", before, r, name)
		}
		if r.Error() != name {
			t.Errorf("reason %d: Error %q, String %q", r, r.Error(), name)
		}
		seen[name] = r
	}
}

func TestReasonInWrappedError(t *testing.T) {
	err := fmt.Errorf("queue 7: %w", new(Segment).Parse(nil))
	var r Reason
	if !errors.Is(err, Truncated) || !errors.As(err, &r) || r != Truncated {
		t.Errorf("got %v, reason %v", err, r)
	}
}

func TestParseDoesNotAllocate(t *testing.T) {
	for name, packet := range map[string][]byte{
		"IPv4":               tcp4(SYN, cat(usual, capableV1SYN), nil),
		"IPv4 source route":  ipv4Bytes(protocolTCP, sourceRoute(131, 4, hop4), tcpBytes(client4, hop4, SYN, usual, nil)),
		"IPv6 with headers":  tcp6(SYN, joinSYN, nil, hopByHop, routing(4, 1, segmentList(1)), atomic, ah),
		"IPv4 with DSS":      tcp4(ACK, cat(timestamp, mptcp(subtypeDSS, 0, []byte{1}, be32(0))), nil),
		"refused, truncated": tcp4(SYN, usual, nil)[:30],
		"refused, fragment":  tcp6(SYN, usual, nil, first),
		"refused, option":    tcp4(SYN, cat(capableV1SYN, joinSYN), nil),
	} {
		t.Run(name, func(t *testing.T) {
			var s Segment
			var sink int
			if n := testing.AllocsPerRun(100, func() {
				if s.Parse(packet) != nil {
					sink++
				}
				if m, err := s.MPTCP(); err != nil || m.Capable {
					sink++
				}
				if s.IsSYN() || s.IsSYNACK() || s.ChecksumOK() {
					sink++
				}
			}); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// BenchmarkParseSYN measures the first steps of a box with every SYN: Parse and MPTCP.
func BenchmarkParseSYN(b *testing.B) {
	for _, bb := range []struct {
		name   string
		packet []byte
	}{
		{"IPv4", tcp4(SYN, cat(usual, capableV1SYN), nil)},
		{"IPv6", tcp6(SYN, cat(usual, capableV1SYN), nil)},
		{"IPv6-headers", tcp6(SYN, cat(usual, capableV1SYN), nil, hopByHop, destination, atomic)},
	} {
		b.Run(bb.name, func(b *testing.B) {
			var s Segment
			b.ReportAllocs()
			for b.Loop() {
				if err := s.Parse(bb.packet); err != nil {
					b.Fatal(err)
				}
				if m, err := s.MPTCP(); err != nil || !m.Capable {
					b.Fatal(m, err)
				}
			}
		})
	}
}

func BenchmarkChecksumOK(b *testing.B) {
	var s Segment
	if err := s.Parse(tcp6(ACK, timestamp, make([]byte, 1400))); err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	for b.Loop() {
		if !s.ChecksumOK() {
			b.Fatal("bad checksum")
		}
	}
}
