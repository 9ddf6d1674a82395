//go:build linux

package netlab_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// loopback serves traffic in the process's own namespace, without privileges.
func loopback(t *testing.T) netlab.Dialer {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	serveUntilEnd(t, l)
	return func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
}

func TestTransferCountsAndVerifies(t *testing.T) {
	dial := loopback(t)
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		for _, n := range []int64{0, 1, 7, 8, 9, 64<<10 - 1, 64 << 10, 64<<10 + 1, 3<<20 + 5} {
			r, err := netlab.Transfer(timeout(t), dial, d, n)
			if err != nil || r.Bytes != n {
				t.Errorf("%s %d: %d bytes, %v", d, n, r.Bytes, err)
			}
		}
		r, err := netlab.TransferFor(timeout(t), dial, d, 100*time.Millisecond)
		if err != nil || r.Bytes == 0 || r.Goodput == 0 || r.Elapsed < 90*time.Millisecond {
			t.Errorf("%s for 100 ms: %+v, %v", d, r, err)
		}
	}
}

func TestServerReportsTheClientsAddress(t *testing.T) {
	n := netlabtest.Build(t, netlab.Topology{Lines: []netlab.LineConfig{{Name: "dsl"}}})
	for _, a := range []struct{ client, server string }{
		{netlab.Client6.String(), netlab.Server6.String()},
		{netlab.Client4.String(), netlab.Server4.String()},
	} {
		seen, err := netlab.PeerSeen(timeout(t), serve(t, n.Server, n.Client, a.server))
		if err != nil || seen.Addr().String() != a.client || seen.Port() == 0 {
			t.Errorf("server %s saw %v, %v, want %s", a.server, seen, err, a.client)
		}
	}
}

// tampered changes the stream that the client reads.
type tampered struct {
	net.Conn
	r io.Reader
}

func (c tampered) Read(b []byte) (int, error) { return c.r.Read(b) }

func TestTransferRefusesDamagedStreams(t *testing.T) {
	const n = 256 << 10
	const greeting = 18
	dial := loopback(t)
	for _, tt := range []struct {
		name   string
		change func([]byte) []byte
		want   error
	}{
		{"a changed byte", func(b []byte) []byte { b[100_000] ^= 1; return b }, netlab.ErrCorrupt},
		{"a changed block number", func(b []byte) []byte { b[greeting+64<<10+7] ^= 1; return b }, netlab.ErrCorrupt},
		{"a lost byte", func(b []byte) []byte { return append(b[:70_000:70_000], b[70_001:]...) }, netlab.ErrCorrupt},
		{"a lost block", func(b []byte) []byte { return append(b[:greeting:greeting], b[greeting+64<<10:]...) }, netlab.ErrCorrupt},
		{"a lost end", func(b []byte) []byte { return b[:len(b)-1] }, io.ErrUnexpectedEOF},
		{"a byte too many", func(b []byte) []byte { return append(b, 0) }, netlab.ErrCorrupt},
	} {
		_, err := netlab.Transfer(timeout(t), func(ctx context.Context) (net.Conn, error) {
			c, err := dial(ctx)
			if err != nil {
				return nil, err
			}
			return tampered{c, &lazy{c: c, change: tt.change}}, nil
		}, netlab.Down, n)
		if !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", tt.name, err, tt.want)
		}
	}
}

// lazy reads a connection to its end, when first read, and returns the changed bytes.
type lazy struct {
	c      net.Conn
	change func([]byte) []byte
	r      io.Reader
}

func (l *lazy) Read(b []byte) (int, error) {
	if l.r == nil {
		all, err := io.ReadAll(l.c)
		if err != nil {
			return 0, err
		}
		l.r = bytes.NewReader(l.change(all))
	}
	return l.r.Read(b)
}

func TestConnectTimesReturnsOneTimePerConnection(t *testing.T) {
	times, err := netlab.ConnectTimes(timeout(t), loopback(t), 5)
	if err != nil || len(times) != 5 {
		t.Fatalf("%v, %v", times, err)
	}
	for _, d := range times {
		if d <= 0 {
			t.Errorf("a connect took %v", d)
		}
	}
}

func TestTransferEndsWithItsContext(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0") // accepts and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	_, err = netlab.Transfer(ctx, func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}, netlab.Down, 1)
	if !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%v, want the context's end", err)
	}
}

func BenchmarkTransferOverLoopback(b *testing.B) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	go netlab.ServeTraffic(l)
	dial := func(ctx context.Context) (net.Conn, error) {
		var d net.Dialer
		return d.DialContext(ctx, "tcp", l.Addr().String())
	}
	const n = 256 << 20
	b.SetBytes(n)
	for b.Loop() {
		if _, err := netlab.Transfer(b.Context(), dial, netlab.Down, n); err != nil {
			b.Fatal(err)
		}
	}
}
