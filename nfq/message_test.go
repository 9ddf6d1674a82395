//go:build linux

package nfq

import (
	"bytes"
	"encoding/binary"
	"reflect"
	"testing"

	"golang.org/x/sys/unix"
)

// queued returns the kernel's message for a queued packet.
func queued(id, iif uint32, payload []byte) []byte {
	m := start(nil, msgPacket, 7)
	m.attr(attrPacketHeader, append(binary.BigEndian.AppendUint32(nil, id), 0x86, 0xdd, 0)...)
	m.attr32(attrInDev, iif)
	m.attr(attrPayload, payload...)
	return m.bytes()
}

func failure(errno unix.Errno) []byte {
	m := start(nil, unix.NLMSG_ERROR, 0)
	m.b = binary.NativeEndian.AppendUint32(m.b[:unix.NLMSG_HDRLEN], uint32(-int32(errno)))
	return m.bytes()
}

func TestParseReadsEveryMessage(t *testing.T) {
	b := append(queued(1, 2, []byte{0x60, 1, 2}), failure(unix.ENOENT)...)
	b = append(b, queued(3, 4, []byte{0x60})...)
	var packets []Packet
	var errnos []unix.Errno
	parse(b, func(p Packet) { packets = append(packets, p) }, func(e unix.Errno) { errnos = append(errnos, e) })
	if want := []Packet{{ID: 1, IIF: 2, Payload: []byte{0x60, 1, 2}}, {ID: 3, IIF: 4, Payload: []byte{0x60}}}; !reflect.DeepEqual(packets, want) {
		t.Errorf("packets %+v, want %+v", packets, want)
	}
	if want := []unix.Errno{unix.ENOENT}; !reflect.DeepEqual(errnos, want) {
		t.Errorf("errors %v, want %v", errnos, want)
	}
}

func TestParseSkipsAPacketWithoutAnID(t *testing.T) {
	m := start(nil, msgPacket, 7)
	m.attr32(attrInDev, 2)
	parse(m.bytes(), func(p Packet) { t.Errorf("got %+v", p) }, nil)
}

func TestParseStopsAtATruncatedMessage(t *testing.T) {
	whole := queued(1, 2, []byte{0x60, 1, 2, 3})
	for n := range len(whole) {
		parse(whole[:n], func(p Packet) { t.Errorf("%d bytes give %+v", n, p) }, nil)
		// Now with a length in the header that agrees.
		cut := bytes.Clone(whole[:n])
		if n >= unix.NLMSG_HDRLEN {
			binary.NativeEndian.PutUint32(cut, uint32(n))
		}
		parse(cut, func(p Packet) {
			if p.ID != 1 || len(p.Payload) != 0 {
				t.Errorf("%d bytes give %+v", n, p)
			}
		}, nil)
	}
}

func TestVerdictIsEncodedForTheKernel(t *testing.T) {
	got := verdict{kind: msgVerdict, id: 0x01020304, verdict: 1, mark: 0x5b000001, payload: []byte{0x60, 1}}.append(nil, 0x0506)
	body := []byte{
		unix.AF_UNSPEC, unix.NFNETLINK_V0, 5, 6, // struct nfgenmsg
	}
	attr := func(kind uint16, value ...byte) {
		body = binary.NativeEndian.AppendUint16(body, uint16(4+len(value)))
		body = binary.NativeEndian.AppendUint16(body, kind)
		body = append(body, value...)
	}
	attr(2, 0, 0, 0, 1, 1, 2, 3, 4)
	attr(3, 0x5b, 0, 0, 1)
	attr(10, 0x60, 1)
	body = append(body, 0, 0) // padding
	want := binary.NativeEndian.AppendUint32(nil, uint32(16+len(body)))
	want = binary.NativeEndian.AppendUint16(want, 0x0301)
	want = binary.NativeEndian.AppendUint16(want, unix.NLM_F_REQUEST)
	want = append(append(want, make([]byte, 8)...), body...)
	if !bytes.Equal(got, want) {
		t.Errorf("got  %x\nwant %x", got, want)
	}
}

func FuzzParse(f *testing.F) {
	f.Add(queued(1, 2, []byte{0x60, 1, 2}))
	f.Add(append(failure(unix.ENOENT), queued(3, 4, nil)...))
	f.Fuzz(func(t *testing.T, b []byte) {
		parse(b, func(Packet) {}, func(unix.Errno) {})
	})
}

func BenchmarkParse(b *testing.B) {
	datagram := queued(1, 2, make([]byte, 60))
	b.ReportAllocs()
	for b.Loop() {
		parse(datagram, func(Packet) {}, func(unix.Errno) {})
	}
}

func BenchmarkVerdict(b *testing.B) {
	buf := make([]byte, 0, 256)
	b.ReportAllocs()
	for b.Loop() {
		buf = verdict{kind: msgVerdict, id: 1, verdict: 1, mark: 2}.append(buf, 7)
	}
}

func TestParseAndVerdictDoNotAllocate(t *testing.T) {
	datagram, buf := queued(1, 2, make([]byte, 60)), make([]byte, 0, 256)
	packet, failed := func(Packet) {}, func(unix.Errno) {}
	if n := testing.AllocsPerRun(100, func() { parse(datagram, packet, failed) }); n != 0 {
		t.Errorf("parse allocates %v times", n)
	}
	if n := testing.AllocsPerRun(100, func() {
		buf = verdict{kind: msgVerdict, id: 1, verdict: 1, mark: 2, payload: datagram[:20]}.append(buf, 7)
	}); n != 0 {
		t.Errorf("a verdict allocates %v times", n)
	}
}
