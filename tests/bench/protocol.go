//go:build linux

package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/netip"
	"sync"
	"time"
)

// port is the server's only port. HAProxy listens on the same port, since the kernel
// refuses joins at a listener with another port than the connection's.
const port = 5001

// op is the kind of a request.
type op uint8

const (
	opEcho op = iota // a reply, then the server closes
	opHold           // a reply, and the connection stays
	opDown           // the server sends a stream and closes
	opUp             // the client sends a stream, and gets a reply once it has arrived
)

// messageLen is the length of requests and replies, in network byte order:
//
//	request  op u8, all u8 (1: verify every byte), 6 zero bytes, nonce u64, duration ns u64, 8 zero bytes
//	reply    the client's address as the server sees it (16 bytes), nonce u64, bytes received u64
const messageLen = 32

// request is the first message on a connection.
type request struct {
	op       op
	all      bool // verify every byte of the stream
	nonce    uint64
	duration time.Duration // of the stream
}

func (r request) message() (m [messageLen]byte) {
	m[0] = byte(r.op)
	if r.all {
		m[1] = 1
	}
	binary.BigEndian.PutUint64(m[8:], r.nonce)
	binary.BigEndian.PutUint64(m[16:], uint64(r.duration))
	return m
}

func parseRequest(m [messageLen]byte) request {
	return request{
		op: op(m[0]), all: m[1] == 1,
		nonce:    binary.BigEndian.Uint64(m[8:]),
		duration: time.Duration(binary.BigEndian.Uint64(m[16:])),
	}
}

// reply is the server's answer.
type reply struct {
	client netip.Addr
	nonce  uint64
	bytes  int64
}

func (r reply) message() (m [messageLen]byte) {
	a := r.client.As16()
	copy(m[:], a[:])
	binary.BigEndian.PutUint64(m[16:], r.nonce)
	binary.BigEndian.PutUint64(m[24:], uint64(r.bytes))
	return m
}

func parseReply(m [messageLen]byte) reply {
	return reply{
		client: netip.AddrFrom16([16]byte(m[:16])),
		nonce:  binary.BigEndian.Uint64(m[16:]),
		bytes:  int64(binary.BigEndian.Uint64(m[24:])),
	}
}

// errCorrupt means that a byte was lost, changed or out of place.
var errCorrupt = errors.New("stream is corrupt")

// blockLen is the period of a stream's contents. It is divisible by no power of two
// above 8, so that buffers out of order do not match.
const blockLen = 250_008

// blocks returns the two blocks of a stream: the ordinary block, which repeats, and
// the last block, which differs in its first byte.
var blocks = sync.OnceValues(func() (ordinary, last []byte) {
	ordinary = make([]byte, blockLen)
	rand.NewChaCha8([32]byte{'b', 'e', 'n', 'c', 'h'}).Read(ordinary) //nolint:errcheck // never fails
	last = bytes.Clone(ordinary)
	last[0] = ^last[0]
	return ordinary, last
})

// sendStream writes whole blocks for a time, and returns the number of bytes.
func sendStream(w io.Writer, d time.Duration) (sent int64, err error) {
	block, last := blocks()
	for start := time.Now(); ; {
		over := time.Since(start) >= d
		if over {
			block = last
		}
		n, err := w.Write(block)
		sent += int64(n)
		if err != nil || over {
			return sent, err
		}
	}
}

// A verifier checks a stream while it arrives: its length, the ends of each piece
// that was read, and all bytes of one piece in every. To compare all bytes would take
// a tenth of the machine's processor time, and distort the measurement.
type verifier struct {
	every  int
	pos    int64
	pieces int
	last   bool // the stream is in its last block
}

// Values of every.
const (
	sampled = 16
	whole   = 1
)

// edge is the number of bytes at both ends of a piece that are always compared.
const edge = 64

// check verifies the next bytes of the stream.
func (v *verifier) check(b []byte) error {
	full := v.pieces%v.every == 0
	v.pieces++
	for len(b) > 0 {
		want, last := blocks()
		at := int(v.pos % blockLen)
		if at == 0 {
			if v.last {
				return fmt.Errorf("data after the last block: %w", errCorrupt)
			}
			v.last = b[0] == last[0]
		}
		if v.last {
			want = last
		}
		n := min(len(b), blockLen-at)
		if !same(b[:n], want[at:at+n], full) {
			return fmt.Errorf("within %d bytes after %d: %w", n, v.pos, errCorrupt)
		}
		v.pos += int64(n)
		b = b[n:]
	}
	return nil
}

// end returns an error unless the stream may end here.
func (v *verifier) end() error {
	if !v.last || v.pos%blockLen != 0 {
		return fmt.Errorf("it ends after %d bytes: %w", v.pos, errCorrupt)
	}
	return nil
}

func same(a, b []byte, full bool) bool {
	if full || len(a) <= 2*edge {
		return bytes.Equal(a, b)
	}
	n := len(a)
	return bytes.Equal(a[:edge], b[:edge]) && bytes.Equal(a[n-edge:], b[n-edge:])
}

// receiveStream reads and verifies a stream to its end, and returns its length.
func receiveStream(r io.Reader, all bool) (int64, error) {
	v := verifier{every: sampled}
	if all {
		v.every = whole
	}
	for buf := make([]byte, readLen); ; {
		n, err := r.Read(buf)
		if cerr := v.check(buf[:n]); cerr != nil {
			return v.pos, cerr
		}
		if err == io.EOF {
			return v.pos, v.end()
		}
		if err != nil {
			return v.pos, err
		}
	}
}

// readLen is the maximum number of bytes that one system call reads from a stream.
const readLen = 256 << 10
