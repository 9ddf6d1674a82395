package core

import (
	"testing"

	"github.com/synbond/synbond/internal/packettest"
)

// Short names for packets of package packettest.
var (
	client6, server6 = packettest.Client6, packettest.Server6
	client4, server4 = packettest.Client4, packettest.Server4

	mss, md5, capable, join, badCapable = packettest.MSS, packettest.MD5, packettest.Capable, packettest.Join, packettest.BadCapable

	segment                                   = packettest.Segment
	syn                                       = packettest.SYN
	sourceRouted, damaged, hopLimit, fragment = packettest.SourceRouted, packettest.Damaged, packettest.HopLimit, packettest.Fragment
)

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
