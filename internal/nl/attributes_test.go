//go:build linux

package nl

import (
	"encoding/binary"
	"slices"
	"testing"

	"golang.org/x/sys/unix"
)

func TestAttributesRoundTrip(t *testing.T) {
	b := AppendUint8(nil, 1, 0xa1)
	b = AppendUint16(b, 2, 0xa1a2)
	b = AppendBytes(b, 3, []byte("five."))
	b, nest := OpenAttribute(b, 4|unix.NLA_F_NESTED)
	b = CloseAttribute(AppendUint32(b, 1, 0xa1a2a3a4), nest)
	b = AppendBytes(b, 5, nil)
	var kinds []uint16
	var sizes []int
	for kind, v := range Attributes(b) {
		kinds, sizes = append(kinds, kind), append(sizes, len(v))
		if v == nil {
			t.Errorf("attribute %d has no content", kind)
		}
	}
	if !slices.Equal(kinds, []uint16{1, 2, 3, 4, 5}) || !slices.Equal(sizes, []int{1, 2, 5, 8, 0}) {
		t.Errorf("attributes %v of %v bytes", kinds, sizes)
	}
	if len(b)%4 != 0 {
		t.Errorf("%d bytes are not aligned", len(b))
	}
}

func TestTruncatedAttributesEndWithNilContent(t *testing.T) {
	b := AppendUint32(AppendUint32(nil, 1, 1), 2, 2)
	for n := 1; n < len(b); n++ {
		whole := true
		for _, v := range Attributes(b[:n]) {
			whole = whole && v != nil
		}
		if whole != (n == len(b)/2) {
			t.Errorf("%d of %d bytes: whole is %v", n, len(b), whole)
		}
	}
}

// messages builds a datagram of messages with these bodies, of types 16, 17, …
func messages(bodies ...[]byte) (b []byte) {
	for i, body := range bodies {
		b = binary.NativeEndian.AppendUint32(b, uint32(unix.NLMSG_HDRLEN+len(body)))
		b = binary.NativeEndian.AppendUint16(b, uint16(16+i))
		b = append(b, make([]byte, 10)...)
		b = append(b, body...)
		b = append(b, make([]byte, -len(body)&3)...)
	}
	return b
}

func TestMessagesAreYieldedWithTheirBodies(t *testing.T) {
	b := messages([]byte("one"), nil, []byte("three"))
	var kinds []uint16
	var bodies []string
	for kind, body := range Messages(b) {
		kinds, bodies = append(kinds, kind), append(bodies, string(body))
		if body == nil {
			t.Errorf("message %d is malformed", kind)
		}
	}
	if !slices.Equal(kinds, []uint16{16, 17, 18}) || !slices.Equal(bodies, []string{"one", "", "three"}) {
		t.Errorf("messages %v with bodies %q", kinds, bodies)
	}
}

func TestTruncatedMessagesEndWithNilBody(t *testing.T) {
	b := messages([]byte("four"), []byte("more"))
	for n := 1; n < len(b); n++ {
		whole := true
		for _, body := range Messages(b[:n]) {
			whole = whole && body != nil
		}
		if whole != (n == len(b)/2) {
			t.Errorf("%d of %d bytes: whole is %v", n, len(b), whole)
		}
	}
}
