//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// byteCounter counts the bytes read from connections.
type byteCounter struct{ bytes atomic.Int64 }

// countedConn is a connection with a byteCounter for its reads.
type countedConn struct {
	*net.TCPConn
	arrivals *byteCounter
}

// Read implements [net.Conn].
func (c countedConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.arrivals.bytes.Add(int64(n))
	return n, err
}

// wrap wraps a connection of [netlab.Host.Dial] or [netlab.Host.Listen] with network tcp.
func (a *byteCounter) wrap(c net.Conn) countedConn { return countedConn{c.(*net.TCPConn), a} }

// pacedRate (bit/s) is about the rate of a video stream.
const pacedRate = 5 * mbit

// pacedConn is a connection that limits writes to pacedRate.
type pacedConn struct {
	countedConn
	next time.Time
}

// Write implements [net.Conn].
func (c *pacedConn) Write(b []byte) (int, error) {
	now := time.Now()
	time.Sleep(c.next.Sub(now))
	if c.next.Before(now) {
		c.next = now
	}
	c.next = c.next.Add(time.Duration(len(b)) * 8 * time.Second / pacedRate)
	return c.countedConn.Write(b)
}

// wrappedListener is a listener whose connections are wrapped.
type wrappedListener struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

// Accept implements [net.Listener].
func (l wrappedListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// serve runs the traffic servers. The caller owes stop a call, which closes their
// listeners.
func (n network) serve(a *byteCounter) (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range stops {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	for port, wrap := range map[int]func(net.Conn) net.Conn{
		trafficPort:   func(c net.Conn) net.Conn { return a.wrap(c) },
		forbiddenPort: func(c net.Conn) net.Conn { return c },
		pacedPort:     func(c net.Conn) net.Conn { return &pacedConn{countedConn: a.wrap(c)} },
	} {
		l, err := n.Server.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		done := make(chan error, 1)
		go func() { done <- netlab.ServeTraffic(wrappedListener{l, wrap}) }()
		stops = append(stops, func() error { return errors.Join(l.Close(), <-done) })
	}
	return stop, nil
}

// transfer is a transfer that runs in the background.
type transfer struct {
	done   chan struct{}
	result netlab.Result
	err    error
}

// bulkTime is the default duration of a transfer.
const bulkTime = 6 * time.Second

// beginTransfer starts a transfer and gives it a name.
func beginTransfer(name string, port uint16, r netlab.Request) step {
	return func(ctx context.Context, s *session) error {
		t := &transfer{done: make(chan struct{})}
		s.transfers[name] = t
		s.mark(name + " begins")
		r.Duration = cmp.Or(r.Duration, s.Transfer, bulkTime)
		go func() {
			defer close(t.done)
			t.result, t.err = r.Run(ctx, s.dialer(port))
		}()
		return nil
	}
}

// finishTransfer waits for the end of a transfer and checks that every byte arrived.
func finishTransfer(name string) step {
	return func(ctx context.Context, s *session) error {
		t := s.transfers[name]
		<-t.done
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		s.mark(name + " ends")
		s.check(name+": every byte arrives as it was sent", t.err == nil, "after %d bytes: %v", t.result.Bytes, t.err)
		return nil
	}
}
