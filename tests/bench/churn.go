//go:build linux

package main

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// A churner makes connections in one epoll loop, with as few system calls as
// possible, so that the load generator is not the bottleneck.
type churner struct {
	job
	op       op
	epoll    int
	local    unix.Sockaddr
	remote   unix.Sockaddr
	attempts map[int]*attempt // unfinished ones, by descriptor
	nonce    uint64
	connects []time.Duration // connect times
	replies  []time.Duration // of finished attempts, from the start of the connect
}

// attempt is one connection until its reply.
type attempt struct {
	start     time.Time
	nonce     uint64
	asked     bool // the request is sent
	got       int  // bytes of the reply
	replyData [messageLen + 1]byte
}

func newChurner(j job, o op) (*churner, error) {
	c := &churner{job: j, op: o, attempts: make(map[int]*attempt)}
	c.local = &unix.SockaddrInet6{Addr: j.From.As16()}
	c.remote = &unix.SockaddrInet6{Addr: j.To.Addr().As16(), Port: int(j.To.Port())}
	var err error
	c.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	return c, err
}

// churn makes connections, Parallel at a time: connect, request, reply, close. The
// server closes first, as most do, so that the client's ports are free again.
func churn(j job) (outcome, error) {
	c, err := newChurner(j, opEcho)
	if err != nil {
		return outcome{}, err
	}
	start := time.Now()
	for range j.Parallel {
		if err := c.connect(); err != nil {
			return outcome{}, err
		}
	}
	var warm, timed int // connections that ended in the warm-up, and in the measurement
	for len(c.attempts) > 0 {
		before := len(c.replies)
		if err := c.wait(); err != nil {
			return outcome{}, err
		}
		over := len(c.replies) - before
		elapsed := time.Since(start)
		if elapsed < j.Warmup {
			warm = len(c.replies)
		}
		if elapsed >= j.Warmup+j.Duration {
			continue // until the last connections have ended
		}
		timed = len(c.replies) - warm
		time.Sleep(time.Duration(over) * j.Pause)
		for range over {
			if err := c.connect(); err != nil {
				return outcome{}, err
			}
		}
	}
	return c.outcome(start, float64(timed)/j.Duration.Seconds()), nil
}

// hold opens Count connections, each with a request and its reply.
func hold(j job) (outcome, error) {
	c, err := newChurner(j, opHold)
	if err != nil {
		return outcome{}, err
	}
	start := time.Now()
	for begun := 0; len(c.replies) < j.Count; {
		for ; begun < j.Count && len(c.attempts) < j.Parallel; begun++ {
			if err := c.connect(); err != nil {
				return outcome{}, err
			}
		}
		if err := c.wait(); err != nil {
			return outcome{}, fmt.Errorf("after %d connections: %w", len(c.replies), err)
		}
	}
	return c.outcome(start, float64(j.Count)/time.Since(start).Seconds()), nil
}

// connect begins one connection.
func (c *churner) connect() error {
	fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return fmt.Errorf("socket: %w", err)
	}
	c.nonce++
	a := &attempt{start: time.Now(), nonce: c.nonce}
	c.attempts[fd] = a
	// The port is chosen at connect, which knows the whole 5-tuple.
	err = errors.Join(
		unix.SetsockoptInt(fd, unix.SOL_IP, unix.IP_BIND_ADDRESS_NO_PORT, 1),
		unix.Bind(fd, c.local),
	)
	if err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	if err := unix.Connect(fd, c.remote); err != nil && !errors.Is(err, unix.EINPROGRESS) {
		return fmt.Errorf("connect: %w", err)
	}
	return unix.EpollCtl(c.epoll, unix.EPOLL_CTL_ADD, fd,
		&unix.EpollEvent{Events: unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLET, Fd: int32(fd)})
}

// wait handles the next events.
func (c *churner) wait() error {
	var events [256]unix.EpollEvent
	n, err := unix.EpollWait(c.epoll, events[:], int(patience.Milliseconds()))
	if errors.Is(err, unix.EINTR) {
		return nil
	}
	if err != nil {
		return err
	}
	if n == 0 {
		return fmt.Errorf("%d connections got no answer for %s", len(c.attempts), patience)
	}
	for _, e := range events[:n] {
		fd := int(e.Fd)
		a := c.attempts[fd]
		if a == nil {
			continue // held
		}
		over, err := c.step(fd, a)
		if err != nil {
			return err
		}
		if over {
			c.replies = append(c.replies, time.Since(a.start))
			delete(c.attempts, fd)
		}
	}
	return nil
}

// step goes on with a connection as far as possible, and reports whether it has ended.
func (c *churner) step(fd int, a *attempt) (over bool, err error) {
	if !a.asked {
		m := request{op: c.op, nonce: a.nonce}.message()
		if _, err := unix.Write(fd, m[:]); errors.Is(err, unix.EAGAIN) {
			return false, nil // not connected
		} else if err != nil {
			return false, fmt.Errorf("connect or send: %w", err)
		}
		c.connects = append(c.connects, time.Since(a.start))
		a.asked = true
	}
	for {
		n, err := unix.Read(fd, a.replyData[a.got:])
		if errors.Is(err, unix.EAGAIN) {
			return false, nil
		}
		if err != nil {
			return false, fmt.Errorf("receive: %w", err)
		}
		a.got += n
		if n > 0 && (a.got < messageLen || c.op == opEcho) {
			continue // there is more to come: the rest, or the server's close
		}
		if a.got != messageLen {
			return false, fmt.Errorf("reply of %d bytes: %w", a.got, errCorrupt)
		}
		if r := parseReply([messageLen]byte(a.replyData[:])); r.client != c.From || r.nonce != a.nonce {
			return false, fmt.Errorf("the server saw %s for %s: %w", r.client, c.From, errCorrupt)
		}
		if c.op == opEcho {
			return true, unix.Close(fd)
		}
		return true, nil
	}
}

// outcome returns the figures since start, with a rate in connections per second.
func (c *churner) outcome(start time.Time, rate float64) outcome {
	slices.Sort(c.connects)
	slices.Sort(c.replies)
	return outcome{
		Elapsed: time.Since(start), Connections: len(c.replies), Rate: rate,
		P50: quantile(c.connects, 0.5), P99: quantile(c.connects, 0.99), Reply: quantile(c.replies, 0.5),
	}
}
