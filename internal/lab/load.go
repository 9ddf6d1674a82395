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

// arrivals counts the bytes that connections have handed to their reader.
type arrivals struct{ bytes atomic.Int64 }

// counted is a connection whose reads are counted.
type counted struct {
	*net.TCPConn
	arrivals *arrivals
}

// Read implements [net.Conn].
func (c counted) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.arrivals.bytes.Add(int64(n))
	return n, err
}

// count wraps a connection of [Host.Dial] or [Host.Listen] with network tcp.
func (a *arrivals) count(c net.Conn) counted { return counted{c.(*net.TCPConn), a} }

// pacedRate is what a video stream or a call takes, in bit/s.
const pacedRate = 5 * mbit

// paced is a connection that is written to at pacedRate.
type paced struct {
	counted
	next time.Time
}

// Write implements [net.Conn].
func (c *paced) Write(b []byte) (int, error) {
	now := time.Now()
	time.Sleep(c.next.Sub(now))
	if c.next.Before(now) {
		c.next = now
	}
	c.next = c.next.Add(time.Duration(len(b)) * 8 * time.Second / pacedRate)
	return c.counted.Write(b)
}

// wrapping is a listener whose connections are wrapped.
type wrapping struct {
	net.Listener
	wrap func(net.Conn) net.Conn
}

// Accept implements [net.Listener].
func (l wrapping) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return l.wrap(c), nil
}

// serve runs the traffic servers until their listeners are closed by stop.
func (n network) serve(a *arrivals) (stop func() error, err error) {
	var stops []func() error
	stop = func() error {
		var errs []error
		for _, s := range stops {
			errs = append(errs, s())
		}
		return errors.Join(errs...)
	}
	for port, wrap := range map[int]func(net.Conn) net.Conn{
		trafficPort: func(c net.Conn) net.Conn { return a.count(c) },
		pacedPort:   func(c net.Conn) net.Conn { return &paced{counted: a.count(c)} },
	} {
		l, err := n.Server.Listen("tcp", fmt.Sprintf("[::]:%d", port))
		if err != nil {
			return nil, errors.Join(err, stop())
		}
		done := make(chan error, 1)
		go func() { done <- netlab.ServeTraffic(wrapping{l, wrap}) }()
		stops = append(stops, func() error { return errors.Join(l.Close(), <-done) })
	}
	return stop, nil
}

// transfer is one that runs in the background.
type transfer struct {
	done   chan struct{}
	result netlab.Result
	err    error
}

// bulkTime is how long a transfer takes whose request does not say.
const bulkTime = 6 * time.Second

// begin starts a transfer of that name, and marks it.
func begin(name string, port uint16, r netlab.Request) step {
	return func(ctx context.Context, s *scene) error {
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

// finish waits for the end of a transfer and checks that nothing was lost.
func finish(name string) step {
	return func(ctx context.Context, s *scene) error {
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
