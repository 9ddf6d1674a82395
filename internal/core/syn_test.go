package core

import (
	"net/netip"
	"testing"

	"github.com/synbond/synbond/rewrite"
)

func TestNewSYNIsRight(t *testing.T) {
	for _, capable := range []bool{false, true} {
		for client, server := range map[netip.AddrPort]netip.AddrPort{client6: server6, client4: server4} {
			var s rewrite.Segment
			if err := s.Parse(NewSYN(client, server, capable)); err != nil {
				t.Fatal(err)
			}
			m, err := s.MPTCP()
			if err != nil || m.Capable != capable || !s.IsSYN() || !s.ChecksumOK() || s.Src != client || s.Dst != server || s.Traits().MSS != 1440 {
				t.Errorf("%v, %v: %+v, %+v, error %v", client, capable, s, m, err)
			}
		}
	}
}
