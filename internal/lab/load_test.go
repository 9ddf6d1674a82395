package lab

import (
	"context"
	"net"
	"testing"
)

func TestArrivalsAreWhatWasRead(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var arrived [2]arrivals
	done := make(chan error, 1)
	go func() {
		done <- ServeTraffic(wrapping{l, func(c net.Conn) net.Conn { return &paced{counted: arrived[Up].count(c)} }})
	}()
	dial := func(ctx context.Context) (net.Conn, error) {
		c, err := new(net.Dialer).DialContext(ctx, "tcp", l.Addr().String())
		if err != nil {
			return nil, err
		}
		return arrived[Down].count(c), nil
	}
	for _, tt := range []struct {
		direction Direction
		with      int64 // what the protocol adds
	}{{Down, greetingLen}, {Up, requestLen}} {
		const n = 100_000
		before := arrived[tt.direction].bytes.Load()
		if _, err := Transfer(t.Context(), dial, tt.direction, n); err != nil {
			t.Fatal(err)
		}
		if got := arrived[tt.direction].bytes.Load() - before; got != n+tt.with {
			t.Errorf("%s: %d bytes arrived, want %d", tt.direction, got, n+tt.with)
		}
	}
	l.Close()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
