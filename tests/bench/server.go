//go:build linux

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"
)

// server answers requests: short ones in one epoll loop, to save system calls, and
// streams in goroutines.
type server struct {
	listener, epoll int
	clients         map[int]netip.Addr // by descriptor, of connections in the loop
}

// backlog fits all connections that a workload opens at once.
const backlog = 4096

// serve is the main function of the server process. It writes "ready" to out once it
// listens, and returns only with an error.
func serve(out io.Writer) error {
	s := &server{clients: make(map[int]netip.Addr)}
	if err := s.listen(); err != nil {
		return fmt.Errorf("server: %w", err)
	}
	fmt.Fprintln(out, "ready")
	events := make([]unix.EpollEvent, 256)
	for {
		n, err := unix.EpollWait(s.epoll, events, -1)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("server: %w", err)
		}
		for _, e := range events[:max(n, 0)] {
			if int(e.Fd) == s.listener {
				s.accept()
			} else {
				s.answer(int(e.Fd))
			}
		}
	}
}

func (s *server) listen() (err error) {
	if s.epoll, err = unix.EpollCreate1(unix.EPOLL_CLOEXEC); err != nil {
		return err
	}
	if s.listener, err = unix.Socket(unix.AF_INET6, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP); err != nil {
		return err
	}
	return errors.Join(
		unix.SetsockoptInt(s.listener, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1),
		unix.Bind(s.listener, &unix.SockaddrInet6{Port: port}),
		unix.Listen(s.listener, backlog),
		s.watch(s.listener),
	)
}

func (s *server) watch(fd int) error {
	return unix.EpollCtl(s.epoll, unix.EPOLL_CTL_ADD, fd, &unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(fd)})
}

// accept accepts all connections that wait. The clients notice errors.
func (s *server) accept() {
	for {
		fd, from, err := unix.Accept4(s.listener, unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC)
		if err != nil {
			return
		}
		s.clients[fd] = netip.AddrFrom16(from.(*unix.SockaddrInet6).Addr)
		if s.watch(fd) != nil {
			s.close(fd)
		}
	}
}

func (s *server) close(fd int) {
	delete(s.clients, fd)
	unix.Close(fd)
}

// answer reads a request and carries it out.
func (s *server) answer(fd int) {
	var m [messageLen]byte
	n, err := unix.Read(fd, m[:])
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	if n != messageLen {
		s.close(fd)
		return
	}
	req := parseRequest(m)
	client := s.clients[fd]
	switch req.op {
	case opEcho, opHold:
		m = reply{client: client, nonce: req.nonce}.message()
		if _, err := unix.Write(fd, m[:]); err != nil || req.op == opEcho {
			s.close(fd)
		}
	case opDown, opUp:
		delete(s.clients, fd)
		unix.EpollCtl(s.epoll, unix.EPOLL_CTL_DEL, fd, nil) //nolint:errcheck // it is there
		go stream(os.NewFile(uintptr(fd), "client"), req, client)
	default:
		s.close(fd)
	}
}

// stream sends or receives the stream of one connection.
func stream(c *os.File, req request, client netip.Addr) {
	defer c.Close()
	if req.op == opDown {
		sendStream(c, req.duration) //nolint:errcheck // the client sees its end
		return
	}
	n, err := receiveStream(c, req.all)
	if err != nil {
		fmt.Fprintln(os.Stderr, "server:", err)
		return // without a reply
	}
	m := reply{client: client, nonce: req.nonce, bytes: n}.message()
	c.Write(m[:]) //nolint:errcheck // the client sees its end
}
