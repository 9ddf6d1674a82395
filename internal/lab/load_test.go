//go:build linux

package lab

import (
	"context"
	"net"
	"testing"

	"github.com/synbond/synbond/internal/netlab"
)

func TestArrivalsCountEveryByteRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var arrived [2]byteCounter
	done := make(chan error, 1)
	go func() {
		done <- netlab.ServeTraffic(wrappedListener{l, func(c net.Conn) net.Conn { return &pacedConn{countedConn: arrived[netlab.Up].wrap(c)} }})
	}()
	dial := func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return arrived[netlab.Down].wrap(c), nil
	}
	const n = 100_000
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		moved := func(n int64) int64 {
			before := arrived[d].bytes.Load()
			if _, err := netlab.Transfer(t.Context(), dial, d, n); err != nil {
				t.Fatal(err)
			}
			return arrived[d].bytes.Load() - before
		}
		protocol := moved(0)
		if got := moved(n) - protocol; got != n {
			t.Errorf("%s: %d bytes arrived, want %d", d, got, n)
		}
	}
	l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
