package rewrite

import "testing"

// A refused packet leaves the zero Segment. None of its methods may read a packet.
func TestZeroSegmentHasNoValuesAndDoesNotPanic(t *testing.T) {
	var s Segment
	if err := s.Parse([]byte{0x60}); err != Truncated {
		t.Fatalf("Parse: got %v, want %v", err, Truncated)
	}
	if m, err := s.MPTCP(); m != (MPTCP{}) || err != nil {
		t.Errorf("MPTCP: got %+v, %v", m, err)
	}
	if s.ChecksumOK() || s.Authenticated() || s.IsSYN() || s.IsSYNACK() {
		t.Error("a method reports a property")
	}
	if got := s.DSCP(); got != 0 {
		t.Errorf("DSCP: got %d", got)
	}
	if got := s.Traits(); got != (Traits{}) {
		t.Errorf("Traits: got %+v", got)
	}
	if got := s.SetDSCP([]byte("dst"), 1); string(got) != "dst" {
		t.Errorf("SetDSCP: got %q", got)
	}
	for _, e := range edits {
		if got, err := e.edit(&s, []byte("dst")); err != NotSYN || string(got) != "dst" {
			t.Errorf("%s: got %q, %v", e.name, got, err)
		}
	}
}
