//go:build linux

package main

import (
	"context"
	"fmt"
	"io"
	"net"
	"sync"
	"time"

	"golang.org/x/sync/errgroup"
)

// bulk moves streams in parallel, all in one direction.
func bulk(j job) (outcome, error) {
	var (
		o  outcome
		mu sync.Mutex // guards o
		g  errgroup.Group
	)
	start := time.Now()
	for range j.Parallel {
		g.Go(func() error {
			n, err := j.stream()
			mu.Lock()
			defer mu.Unlock()
			o.Bytes += n
			o.Connections++
			return err
		})
	}
	err := g.Wait()
	o.Elapsed = time.Since(start)
	return o, err
}

// stream moves one stream and returns the number of bytes that arrived.
func (j job) stream() (int64, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: j.From.AsSlice()}}
	d.SetMultipathTCP(false)
	dialed, err := d.DialContext(context.Background(), "tcp", j.To.String())
	if err != nil {
		return 0, err
	}
	c := dialed.(*net.TCPConn)
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(j.Duration + patience)); err != nil {
		return 0, err
	}
	req := request{op: opDown, all: j.All, duration: j.Duration}
	if j.Up {
		req.op = opUp
	}
	m := req.message()
	if _, err := c.Write(m[:]); err != nil {
		return 0, err
	}
	if !j.Up {
		return receiveStream(c, j.All)
	}
	return j.sendUp(c, req)
}

// sendUp sends a stream and compares its length with the server's reply.
func (j job) sendUp(c *net.TCPConn, req request) (int64, error) {
	n, err := sendStream(c, j.Duration)
	if err != nil {
		return 0, err
	}
	if err := c.CloseWrite(); err != nil {
		return 0, err
	}
	var m [messageLen]byte
	if _, err := io.ReadFull(c, m[:]); err != nil {
		return 0, err
	}
	if r := parseReply(m); r.bytes != n || r.client != j.From || r.nonce != req.nonce {
		return 0, fmt.Errorf("%d bytes from %s were sent, the server has %d from %s: %w", n, j.From, r.bytes, r.client, errCorrupt)
	}
	return n, nil
}

// patience is the time that an operation may take beyond its duration.
const patience = 10 * time.Second
