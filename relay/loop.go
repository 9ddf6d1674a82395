//go:build linux

package relay

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// interest is the set of events for which every source is registered, once.
const interest = unix.EPOLLIN | unix.EPOLLOUT | unix.EPOLLRDHUP | unix.EPOLLET

// source is a file descriptor's owner, told of its events by the loop.
type source interface {
	ready(l *loop, events uint32)
}

// loop is one epoll instance and the goroutine that waits on it.
type loop struct {
	relay    *Relay
	epfd     int
	wakefd   int
	buf      []byte
	pipe     pipe
	runnable []*leg // legs with bytes left after their quantum

	paused []*leg    // legs without a send budget, see outOfBudget
	looked time.Time // at the paused legs, last

	draining []draining // connections that wait for their reset
	holding  []*stream  // streams whose FIN waits

	prefaces []deadline // of clients, the first one first

	mu      sync.Mutex // guards what follows, which other goroutines change
	slots   []slot
	free    []int32
	posts   []func(*loop)
	stopped bool
}

// slot leads from an event to its source. The generation distinguishes the events of
// the slot's owner from those of a former owner.
type slot struct {
	source     source
	generation int32
}

// registration is a source's place in a loop.
type registration struct {
	loop *loop
	slot int32
}

func newLoop(r *Relay) (*loop, error) {
	epfd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	wakefd, err := unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK)
	if err != nil {
		unix.Close(epfd)
		return nil, os.NewSyscallError("eventfd", err)
	}
	p, err := newPipe()
	if err != nil {
		unix.Close(epfd)
		unix.Close(wakefd)
		return nil, err
	}
	l := &loop{relay: r, epfd: epfd, wakefd: wakefd, buf: make([]byte, chunk), pipe: p}
	err = l.register(wakefd, unix.EPOLLIN, nil, &registration{})
	for _, from := range r.listeners {
		// Level-triggered, and each client wakes one loop only.
		err = errors.Join(err, l.register(from.fd, unix.EPOLLIN|unix.EPOLLEXCLUSIVE, newAcceptor(from), &registration{}))
	}
	if err != nil {
		l.close()
		return nil, err
	}
	return l, nil
}

func (l *loop) close() {
	for _, at := range l.slots {
		if a, ok := at.source.(*acceptor); ok {
			a.release()
		}
	}
	unix.Close(l.epfd)
	unix.Close(l.wakefd)
	l.pipe.close()
}

// stop makes run return.
func (l *loop) stop() {
	l.mu.Lock()
	l.stopped = true
	l.mu.Unlock()
	l.wake()
}

// post has the loop do something. It may be called from any goroutine.
func (l *loop) post(do func(*loop)) {
	l.mu.Lock()
	l.posts = append(l.posts, do)
	l.mu.Unlock()
	l.wake()
}

// wake makes run look at what other goroutines have left for it.
func (l *loop) wake() {
	// An eventfd that is full wakes as well.
	_, _ = unix.Write(l.wakefd, []byte{1, 0, 0, 0, 0, 0, 0, 0})
}

// woken does what other goroutines have left for the loop. It reports whether the loop is
// to stop.
func (l *loop) woken() (stop bool) {
	var count [8]byte
	_, _ = unix.Read(l.wakefd, count[:]) // it is readable
	l.mu.Lock()
	todo := l.posts
	l.posts = nil
	stop = l.stopped
	l.mu.Unlock()
	for _, do := range todo {
		do(l)
	}
	return stop
}

// add registers a leg. It may be called from any goroutine.
func (l *loop) add(g *leg) error { return l.register(g.fd, interest, g, &g.reg) }

func (l *loop) register(fd int, events uint32, s source, reg *registration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.free) == 0 {
		l.free = append(l.free, int32(len(l.slots)))
		l.slots = append(l.slots, slot{})
	}
	i := l.free[len(l.free)-1]
	at := &l.slots[i]
	err := unix.EpollCtl(l.epfd, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: events, Fd: i, Pad: at.generation})
	if err != nil {
		return fmt.Errorf("epoll_ctl: %w", err)
	}
	l.free = l.free[:len(l.free)-1]
	at.source = s
	*reg = registration{l, i}
	return nil
}

// cancel gives the slot back. Closing the descriptor takes it out of epoll.
func (r *registration) cancel() {
	if r.loop == nil {
		return
	}
	r.loop.mu.Lock()
	defer r.loop.mu.Unlock()
	at := &r.loop.slots[r.slot]
	at.source = nil
	at.generation++
	r.loop.free = append(r.loop.free, r.slot)
	r.loop = nil
}

// find returns the source of an event, or nil if it has left.
func (l *loop) find(ev *unix.EpollEvent) source {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at := l.slots[ev.Fd]; at.generation == ev.Pad {
		return at.source
	}
	return nil
}

// run handles events until stop is called. It leaves the connections to reset.
func (l *loop) run() error {
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := wait(l.epfd, events, l.timeout())
		if err != nil {
			return os.NewSyscallError("epoll_wait", err)
		}
		for i := range n {
			if events[i].Fd == wakeSlot {
				if l.woken() {
					return nil
				}
				continue
			}
			if s := l.find(&events[i]); s != nil {
				s.ready(l, events[i].Events)
			}
		}
		l.resume()
		l.resumePaused()
		l.checkDraining()
		l.checkHolding()
		l.checkPrefaces()
	}
}

// timeout returns the longest wait for events in milliseconds, or -1 for no limit.
func (l *loop) timeout() int {
	switch {
	case len(l.runnable) > 0:
		return 0
	case len(l.paused) > 0 || len(l.draining) > 0 || len(l.holding) > 0:
		return int(pauseTick.Milliseconds())
	case len(l.prefaces) > 0:
		return int(max(time.Until(l.prefaces[0].at), 0).Milliseconds()) + 1
	}
	return -1
}

// wakeSlot is the slot of the eventfd, which registers first.
const wakeSlot = 0

// resume serves the runnable legs.
func (l *loop) resume() {
	legs := l.runnable
	l.runnable = nil
	for _, g := range legs {
		g.queued = false
		if g.reg.loop != nil {
			g.ready(l, unix.EPOLLIN)
		}
	}
}

// pump moves bytes of a stream; the stream's leg is runnable if more are left.
func (l *loop) pump(s *stream) {
	if s.move(l) && !s.from.queued {
		s.from.queued = true
		l.runnable = append(l.runnable, s.from)
	}
}

// reset ends every connection of a loop that has stopped. No other loop may run either: a
// client that it accepts may belong to this loop.
func (l *loop) reset() {
	l.mu.Lock()
	var legs []*leg
	var clients []*Client
	for _, at := range l.slots {
		switch s := at.source.(type) {
		case *leg:
			if s == &s.conn.client {
				legs = append(legs, s)
			}
		case *Client:
			clients = append(clients, s)
		}
	}
	l.mu.Unlock()
	for _, c := range clients {
		c.end(unix.ECONNABORTED)
	}
	for _, g := range legs {
		g.conn.finish(unix.ECONNABORTED)
		l.relay.cfg.Events.Closed(g.conn, unix.ECONNABORTED)
	}
}
