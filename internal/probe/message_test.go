//go:build linux

package probe

import (
	"bytes"
	"errors"
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/paths"
)

var someProbe = message{
	version: messageVersion, kind: kindProbe, path: 7, flags: flagConfirmed, box: 0x0102030405060708,
	sequence: 0x1112131415161718, cookie: 0x2122232425262728, instance: 0x3132333435363738,
	revision: 0x41424344, down: 0x85, reason: otherSecret,
}

// probeBytes are those of someProbe without the MAC.
var probeBytes = []byte{
	's', 'B', 'p', 'r', 1, 1, 7, 1, // magic, version, type, path, flags
	1, 2, 3, 4, 5, 6, 7, 8, // box
	0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18, // sequence
	0x21, 0x22, 0x23, 0x24, 0x25, 0x26, 0x27, 0x28, // cookie
	0x31, 0x32, 0x33, 0x34, 0x35, 0x36, 0x37, 0x38, // instance
	0x41, 0x42, 0x43, 0x44, // revision
	0x85, 2, 0, 0, // down, reason, zero
}

func TestMessageHasItsFieldsAtTheirOffsets(t *testing.T) {
	b := newCodec("").append([]byte("before"), someProbe)
	b, isAfter := bytes.CutPrefix(b, []byte("before"))
	if !isAfter || len(b) != messageSize || !bytes.Equal(b[:offMAC], probeBytes) {
		t.Fatalf("% x\nwant % x", b, probeBytes)
	}
	if m, err := newCodec("").parse(b); err != nil || m != someProbe {
		t.Errorf("%+v, %v", m, err)
	}
}

func TestMalformedMessagesAreErrors(t *testing.T) {
	good := newCodec("secret").append(nil, someProbe)
	for n := range good {
		if _, err := parseMessage(good[:n]); !errors.Is(err, errNoMessage) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
	for _, c := range []struct {
		name string
		at   int
		byte byte
		want error
	}{
		{"other magic", 0, 'S', errNoMessage},
		{"another version", offVersion, 2, errOtherVersion},
		{"type zero", offType, 0, errNoMessage},
		{"type beyond the last", offType, byte(kindRefusal) + 1, errNoMessage},
		{"path beyond the last", offPath, paths.MaxPaths, errNoMessage},
		{"unknown flag", offFlags, 4, errNoMessage},
		{"unknown reason", offReason, byte(otherSecret) + 1, errNoMessage},
		{"zero that is not", offZero + 1, 1, errNoMessage},
		{"another path", offPath, 1, errBadMAC},
		{"another box", offBox, 9, errBadMAC},
		{"another MAC", messageSize - 1, good[messageSize-1] + 1, errBadMAC},
	} {
		b := bytes.Clone(good)
		b[c.at] = c.byte
		if _, err := newCodec("secret").parse(b); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
	if _, err := newCodec("other").parse(good); !errors.Is(err, errBadMAC) {
		t.Errorf("with another secret: %v", err)
	}
	if _, err := parseMessage(make([]byte, maxMessageSize+1)); !errors.Is(err, errNoMessage) {
		t.Errorf("one byte more than the largest: %v", err)
	}
}

// extended returns someProbe with items, in a datagram of that size.
func extended(size int) message {
	m := someProbe
	m.size, m.seen = size, netip.MustParseAddrPort("192.0.2.1:258")
	m.lives = [maxLives]uint64{0x5152535455565758, 1}
	return m
}

func TestExtendedMessageHasItsItemsBehindTheMAC(t *testing.T) {
	items := []byte{
		1, 6, 192, 0, 2, 1, 1, 2, // seen
		2, 16, 0x51, 0x52, 0x53, 0x54, 0x55, 0x56, 0x57, 0x58, 0, 0, 0, 0, 0, 0, 0, 1, // lives
		0, 0, 0, // nothing more
	}
	want := extended(messageSize + len(items))
	b := newCodec("").append(nil, want)
	if !bytes.Equal(b[:offMAC], probeBytes) || !bytes.Equal(b[offItems:], items) {
		t.Fatalf("% x\nwant % x", b[offItems:], items)
	}
	if m, err := newCodec("").parse(b); err != nil || m != want {
		t.Errorf("%+v, %v", m, err)
	}
	b[offItems+3]++
	if _, err := newCodec("").parse(b); !errors.Is(err, errBadMAC) {
		t.Errorf("a changed item: %v", err)
	}
	for n := offItems + 1; n < offItems+26; n++ { // every end within an item
		if _, err := parseMessage(b[:n]); n != offItems+8 && !errors.Is(err, errNoMessage) {
			t.Errorf("the first %d bytes: %v", n, err)
		}
	}
}

func TestItemsWithoutRoomAreLeftOut(t *testing.T) {
	m := extended(messageSize + 7) // seen needs 8 bytes
	got, err := newCodec("").parse(newCodec("").append(nil, m))
	if m.seen, m.lives = (netip.AddrPort{}), [maxLives]uint64{}; err != nil || got != m {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestEncapsulationIsAskedForAndGiven(t *testing.T) {
	for name, c := range map[string]struct {
		m     message
		items []byte
	}{
		"asked":  {message{encap: true}, []byte{3, 0}},
		"given":  {message{encap: true, grant: someGrant}, []byte{3, 12, 240, 91, 0, 5, 0x80, 0, 0, 0, 0, 0, 0, 0}},
		"absent": {message{}, []byte{0, 0}},
	} {
		m := someProbe
		m.encap, m.grant, m.size = c.m.encap, c.m.grant, messageSize+len(c.items)
		b := newCodec("").append(nil, m)
		if !bytes.Equal(b[offItems:], c.items) {
			t.Errorf("%s: % x", name, b[offItems:])
		}
		if got, err := newCodec("").parse(b); err != nil || got != m {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
	for _, items := range [][]byte{{3, 1, 0}, append([]byte{3, 13}, make([]byte, 13)...), {3, 12, 1}} {
		if _, err := parseMessage(append(newCodec("").append(nil, someProbe), items...)); !errors.Is(err, errNoMessage) {
			t.Errorf("% x: %v", items, err)
		}
	}
}

func TestItemsOfAnotherBox(t *testing.T) {
	six := netip.MustParseAddrPort("[2001:db8::1]:258")
	for _, c := range []struct {
		name  string
		items []byte
		want  netip.AddrPort
		err   error
	}{
		{"an unknown item first", append([]byte{200, 1, 9, 1, 18}, append(six.Addr().AsSlice(), 1, 2)...), six, nil},
		{"nothing but zeros", make([]byte, 9), netip.AddrPort{}, nil},
		{"an address of another length", []byte{1, 3, 1, 2, 3}, netip.AddrPort{}, errNoMessage},
		{"a length beyond the end", []byte{200, 2, 9}, netip.AddrPort{}, errNoMessage},
	} {
		b := append(newCodec("").append(nil, someProbe), c.items...)
		if m, err := parseMessage(b); !errors.Is(err, c.err) || m.seen != c.want {
			t.Errorf("%s: %v, %v", c.name, m.seen, err)
		}
	}
}

func TestMessageOfAnotherVersionKeepsTheSharedFields(t *testing.T) {
	next := someProbe
	next.version = messageVersion + 1
	m, err := parseMessage(newCodec("").append(nil, next))
	if !errors.Is(err, errOtherVersion) || m.version != next.version || m.kind != kindProbe || m.box != next.box || m.sequence != next.sequence {
		t.Errorf("%+v, %v", m, err)
	}
}

func FuzzMessage(f *testing.F) {
	c := newCodec("")
	f.Add(c.append(nil, someProbe))
	f.Add(c.append(nil, message{version: messageVersion, kind: kindRefusal, reason: otherVersion}))
	f.Add(c.append(nil, extended(messageSize+20)))
	given := extended(messageSize + 40)
	given.encap, given.grant = true, someGrant
	f.Add(c.append(nil, given))
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parseMessage(b)
		if err != nil {
			return
		}
		again := newCodec("").append(nil, m)
		if n, err := parseMessage(again); err != nil || n != m || !bytes.Equal(again[:offMAC], b[:offMAC]) {
			t.Errorf("% x\nbecomes % x", b, again)
		}
	})
}
