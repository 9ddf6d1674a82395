//go:build linux

package netlab

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// The stream consists of blocks of 64 KiB: the same pseudo-random bytes each time,
// except for the block's number in the first 8. So a byte out of place is found, and
// the check is a comparison of memory. In a transfer that ends by
// time the top bit of the number marks the last block; a stream without it was
// cut short.
const (
	blockLen  = 64 << 10
	lastBlock = uint64(1) << 63
)

var pattern = sync.OnceValue(func() []byte {
	b := make([]byte, blockLen)
	rand.NewChaCha8([32]byte{'s', 'y', 'n', 'b', 'o', 'n', 'd'}).Read(b) //nolint:errcheck // never fails
	return b
})

// send writes the stream and closes the sending half.
func (r Request) send(c net.Conn) error {
	block := bytes.Clone(pattern())
	start := time.Now()
	for n, left := uint64(0), r.Bytes; ; n++ {
		size := int64(blockLen)
		number := n
		if r.byTime() {
			if time.Since(start) >= r.Duration {
				number |= lastBlock
			}
		} else if size = min(left, blockLen); size == 0 {
			break
		}
		binary.BigEndian.PutUint64(block, number)
		if _, err := c.Write(block[:size]); err != nil {
			return err
		}
		if number&lastBlock != 0 {
			break
		}
		left -= size
	}
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		return half.CloseWrite()
	}
	return nil
}

func (r Request) byTime() bool { return r.Bytes == 0 && r.Duration > 0 }

// receive reads and verifies the stream to its end. start is when the request
// was made, for the goodput.
func (r Request) receive(c net.Conn, start time.Time) (meter, error) {
	m := meter{start: start, last: start, warmup: r.Warmup}
	block := make([]byte, blockLen)
	for n := uint64(0); ; n++ {
		size := int64(blockLen)
		if !r.byTime() {
			size = min(r.Bytes-m.bytes, blockLen)
		}
		if size == 0 {
			break
		}
		if err := m.read(c, block[:size]); err != nil {
			return m, fmt.Errorf("after %d bytes: %w", m.bytes, err)
		}
		last, err := checkBlock(block[:size], n)
		if err != nil {
			return m, err
		}
		if last && r.byTime() {
			break
		} else if last {
			return m, fmt.Errorf("block %d ends the stream: %w", n, ErrCorrupt)
		}
	}
	// Nothing may follow.
	switch n, err := c.Read(block); {
	case n > 0:
		return m, fmt.Errorf("data beyond %d bytes: %w", m.bytes, ErrCorrupt)
	case !errors.Is(err, io.EOF):
		return m, err
	}
	return m, nil
}

// checkBlock compares block number n, or the beginning of it, with the expected bytes.
func checkBlock(b []byte, n uint64) (last bool, err error) {
	var number [8]byte
	binary.BigEndian.PutUint64(number[:], n)
	if len(b) >= len(number) && b[0]&0x80 != 0 {
		last = true
		number[0] |= 0x80
	}
	head := min(len(b), len(number))
	if !bytes.Equal(b[:head], number[:head]) {
		return false, fmt.Errorf("block %d begins with % x: %w", n, b[:head], ErrCorrupt)
	}
	if !bytes.Equal(b[head:], pattern()[head:len(b)]) {
		return false, fmt.Errorf("block %d: %w", n, ErrCorrupt)
	}
	return last, nil
}

// meter takes the figures of a stream while it arrives.
type meter struct {
	start, last time.Time
	warmup      time.Duration
	bytes       int64
	warm        int64     // bytes that arrived in the warm-up
	warmEnd     time.Time // the last arrival in the warm-up
	stall       time.Duration
}

// read fills b and notes when bytes arrive.
func (m *meter) read(c net.Conn, b []byte) error {
	for len(b) > 0 {
		n, err := c.Read(b)
		if n > 0 {
			m.arrived(n, time.Now())
			b = b[n:]
		}
		if err != nil && len(b) > 0 {
			if errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return err
		}
	}
	return nil
}

func (m *meter) arrived(n int, now time.Time) {
	if m.bytes > 0 {
		m.stall = max(m.stall, now.Sub(m.last))
	}
	m.bytes += int64(n)
	m.last = now
	if now.Sub(m.start) < m.warmup {
		m.warm, m.warmEnd = m.bytes, now
	}
}

// goodput in bit/s since the start, or since the last arrival in the warm-up.
func (m *meter) goodput() float64 {
	from := m.start
	if m.warm > 0 {
		from = m.warmEnd
	}
	seconds := m.last.Sub(from).Seconds()
	if seconds <= 0 {
		return 0
	}
	return float64(m.bytes-m.warm) * 8 / seconds
}

// ServeTraffic answers the transfers of clients until l is closed; then it ends
// those that still run, and returns nil.
func ServeTraffic(l net.Listener) error {
	var (
		wg    sync.WaitGroup
		mu    sync.Mutex
		conns = map[net.Conn]struct{}{}
	)
	defer func() {
		mu.Lock()
		for c := range conns {
			c.Close()
		}
		mu.Unlock()
		wg.Wait()
	}()
	for {
		c, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if errors.Is(err, unix.EMFILE) || errors.Is(err, unix.ENFILE) || errors.Is(err, unix.ECONNABORTED) {
			time.Sleep(10 * time.Millisecond) // other connections will end
			continue
		}
		if err != nil {
			return fmt.Errorf("serve traffic: %w", err)
		}
		mu.Lock()
		conns[c] = struct{}{}
		mu.Unlock()
		wg.Go(func() {
			serveTransfer(c) //nolint:errcheck // the client sees its end of it
			c.Close()
			mu.Lock()
			delete(conns, c)
			mu.Unlock()
		})
	}
}

// serveTransfer answers one request. Before it arrives the connection costs
// little memory, so that many may stay idle.
func serveTransfer(c net.Conn) error {
	var b [requestLen]byte
	if _, err := io.ReadFull(c, b[:]); err != nil {
		return err
	}
	start := time.Now()
	r, err := parseRequest(b)
	if err != nil {
		return err
	}
	if _, err := c.Write(appendPeer(nil, c.RemoteAddr())); err != nil {
		return err
	}
	if r.Direction == Down {
		if err := r.send(c); err != nil {
			return err
		}
		// The client closes once it has read all. To close now could reset the
		// connection before the client has read the rest.
		_, err := io.Copy(io.Discard, c)
		return err
	}
	m, err := r.receive(c, start)
	if _, werr := c.Write(m.appendReport(nil, err)); werr != nil {
		return werr
	}
	return err
}
