//go:build linux

package netlab_test

import (
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// flags finds the TCP flags of a packet without extension headers.
func flags(t *testing.T, p []byte) byte {
	t.Helper()
	offset := 40
	if p[0]>>4 == 4 {
		offset = int(p[0]&0x0f) * 4
	}
	if len(p) < offset+20 {
		t.Fatalf("packet of %d bytes: % x", len(p), p)
	}
	return p[offset+13]
}

func TestTapSeesHandshakesOnly(t *testing.T) {
	const syn, synAck = 0x02, 0x12
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}})
	start := time.Now()
	for _, addr := range []string{netlab.Server6.String(), netlab.Server4.String()} {
		cpe, err := netlab.OpenTap(n.CPE, "dsl")
		if err != nil {
			t.Fatal(err)
		}
		client, err := netlab.OpenTap(n.Client, netlab.ClientInterface)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := netlab.Transfer(timeout(t), serve(t, n.Server, n.Client, addr), netlab.Up, 1<<20); err != nil {
			t.Fatal(err)
		}
		for name, tap := range map[string]*netlab.Tap{"cpe": cpe, "client": client} {
			if err := tap.Close(); err != nil {
				t.Error(err)
			}
			got := tap.Handshakes()
			if len(got) != 2 {
				t.Fatalf("%s %s: %d handshake packets, want SYN and SYN+ACK", name, addr, len(got))
			}
			for i, want := range []byte{syn, synAck} {
				h := got[i]
				if f := flags(t, h.Packet) & 0x3f; f != want {
					t.Errorf("%s %s: packet %d has flags %#x, want %#x", name, addr, i, f, want)
				}
				if outgoing := i == 0; h.Outgoing != outgoing {
					t.Errorf("%s %s: packet %d outgoing %v", name, addr, i, h.Outgoing)
				}
				if h.Time.Before(start.Add(-time.Second)) || h.Time.After(time.Now().Add(time.Second)) {
					t.Errorf("%s %s: packet %d at %v, test began at %v", name, addr, i, h.Time, start)
				}
			}
		}
	}
}

func TestOpenTapRefusesAnUnknownInterface(t *testing.T) {
	if _, err := netlab.OpenTap(netlabtest.NewHost(t, "a"), "eth7"); err == nil {
		t.Error("tapped an interface that is not there")
	}
}
