package socks

import (
	"slices"
	"strings"
	"testing"
)

// Messages, built field by field. Nothing of the package is used.

// cat joins bytes.
func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

// sized puts the length of text before it.
func sized(text string) []byte { return append([]byte{byte(len(text))}, text...) }

func greeting(methods ...byte) []byte {
	return cat([]byte{5 /* version */, byte(len(methods))}, methods)
}

func login(user, password string) []byte {
	return cat([]byte{1 /* version */}, sized(user), sized(password))
}

// The head of a request is version, command and a reserved byte.
var connect = []byte{5, 1, 0}

func ipv4(a, b, c, d byte) []byte { return []byte{1, a, b, c, d} }

func ipv6(last byte) []byte {
	return []byte{4, 0x20, 0x01, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, last}
}

func named(name string) []byte { return cat([]byte{3}, sized(name)) }

func port(p uint16) []byte { return []byte{byte(p >> 8), byte(p)} }

// reply is a reply of a server, with the bound address 0.0.0.0:0.
func reply(code byte) []byte { return []byte{5, code, 0, 1, 0, 0, 0, 0, 0, 0} }

// long returns a host name of n bytes, in labels of up to 63.
func long(n int) string {
	var b strings.Builder
	for b.Len() < n {
		if b.Len()%64 == 63 && b.Len()+1 < n {
			b.WriteByte('.')
		} else {
			b.WriteByte('a')
		}
	}
	return b.String()
}

// machine is what servers and clients have in common.
type machine interface {
	Receive(out, b []byte) ([]byte, Want)
	Room() int
	Rest() []byte
	Err() error
	Step() Step
}

// give gives bytes to a machine in pieces of that size, and returns its answers.
func give(t *testing.T, m machine, b []byte, size int) (out []byte, want Want) {
	t.Helper()
	for piece := range slices.Chunk(slices.Clone(b), size) {
		if m.Room() < len(piece) {
			t.Fatalf("room for %d of %d bytes", m.Room(), len(piece))
		}
		out, want = m.Receive(out, piece)
		if !slices.Equal(piece, make([]byte, len(piece))) {
			t.Fatal("received bytes are left in the caller's buffer")
		}
	}
	return out, want
}
