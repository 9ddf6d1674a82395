//go:build linux

package relay_test

import (
	"testing"

	"github.com/synbond/synbond/relay"
)

func TestFINOfARequestWaitsForItsReply(t *testing.T) {
	const large = relay.CarriedBytes
	for _, c := range []struct {
		name     string
		up, down uint64 // bytes carried when the FIN of the first of them comes
		fromUp   bool
		mptcp    bool
		waits    bool
	}{
		{"a request without a reply yet", 100, 0, true, true, true},
		{"a request amid a large reply", 100, large, true, true, true},
		{"a client that closes after a small reply", 100, 500, true, true, false},
		{"a client that sends nothing", 0, 0, true, true, false},
		{"a server that has replied", 100, 1 << 20, false, true, false},
		{"a server amid a large upload", large, 0, false, true, true},
		{"towards a host", 100, 0, true, false, false},
	} {
		if got := relay.WaitsWithFIN(c.up, c.down, c.fromUp, c.mptcp); got != c.waits {
			t.Errorf("%s: waits %v", c.name, got)
		}
	}
}
