package pcaps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"
)

// The magic numbers of pcap.
const (
	micros = 0xa1b2c3d4
	nanos  = 0xa1b23c4d
)

func TestReaderKeepsNanoseconds(t *testing.T) {
	packet := synPacket(t, 6)
	inNg := func(o ngBlocks, ticks uint64, options ...[]byte) []byte {
		return cat(o.section(), o.iface(LinkRaw, options...), o.enhanced(0, ticks, packet))
	}
	resolution := func(o ngBlocks, r byte) []byte { return o.option(9, []byte{r}) }
	offset := func(o ngBlocks, seconds uint64) []byte { return o.option(14, o.AppendUint64(nil, seconds)) }
	for _, c := range []struct {
		name string
		file []byte
		want time.Time
	}{
		{"pcap, µs", pcapFile(binary.LittleEndian, micros, 123456, packet), at(1000, 123456000)},
		{"pcap, µs, big endian", pcapFile(binary.BigEndian, micros, 123456, packet), at(1000, 123456000)},
		{"pcap, ns", pcapFile(binary.LittleEndian, nanos, 123456789, packet), at(1000, 123456789)},
		{"pcap, ns, big endian", pcapFile(binary.BigEndian, nanos, 123456789, packet), at(1000, 123456789)},
		{"pcapng, µs by default", inNg(littleEndian, 1000123456), at(1000, 123456000)},
		{"pcapng, ms", inNg(littleEndian, 1000123, resolution(littleEndian, 3)), at(1000, 123000000)},
		{"pcapng, ns", inNg(littleEndian, 1000123456789, resolution(littleEndian, 9)), at(1000, 123456789)},
		{"pcapng, ps", inNg(littleEndian, 1000123456789123, resolution(littleEndian, 12)), at(1000, 123456789)},
		{"pcapng, ns, big endian", inNg(bigEndian, 1000123456789, resolution(bigEndian, 9)), at(1000, 123456789)},
		{"pcapng, offset", inNg(bigEndian, 1, offset(bigEndian, 1000)), at(1000, 1000)},
	} {
		for _, file := range [][]byte{c.file, gzipped(c.file)} {
			all := mustRead(t, file)
			if len(all) != 1 || !all[0].Time.Equal(c.want) || !bytes.Equal(all[0].Packet(), packet) {
				t.Errorf("%s: %d frames, %v, want %v", c.name, len(all), all, c.want)
			}
		}
	}
}

// everyBlock returns a pcapng file with all kinds of blocks, known to a Reader or not.
func everyBlock(t testing.TB, o ngBlocks) []byte {
	t.Helper()
	v4, v6 := synPacket(t, 4), synPacket(t, 6)
	flags := func(word uint32) []byte { return o.option(2, o.AppendUint32(nil, word)) }
	comment := func(text string) []byte { return o.option(1, []byte(text)) }
	const nameResolution, statistics, secrets, custom = 4, 5, 10, 0x40000bad
	return cat(
		o.section(),
		o.iface(LinkRaw, o.option(2, []byte("lan0")), o.option(3, []byte("plain side")), o.option(0, nil)),
		o.enhanced(0, 1_000_000, v4),
		o.block(nameResolution, o.option(1, cat(v4[12:16], []byte("client\x00"))), o.option(0, nil)),
		o.iface(LinkEthernet, o.option(2, []byte("dsl0"))),
		o.enhanced(1, 2_000_000, cat(macs, []byte{0x86, 0xdd}, v6), flags(1), comment("first"), comment("second")),
		o.block(custom, []byte("whatever")),
		o.simple(v4),
		o.section(), // interfaces count from 0 again
		o.iface(LinkCooked, o.option(2, []byte("any"))),
		o.enhanced(0, 4_000_000, cat(cookedOut, []byte{8, 0}, v4), comment("")),
		o.enhanced(0, 5_000_000, cat(cookedOut, []byte{8, 0}, v4), flags(5)), // a received unicast
		o.enhanced(0, 6_000_000, cat(cookedOut, []byte{8, 0}, v4), flags(3)),
		o.block(statistics, o.AppendUint32(nil, 0), make([]byte, 8)),
	)
}

func TestReaderReadsEveryKindOfBlock(t *testing.T) {
	for _, o := range []ngBlocks{littleEndian, bigEndian} {
		all := mustRead(t, everyBlock(t, o))
		lan0, dsl0, cooked := Interface{"lan0", "plain side", LinkRaw}, Interface{"dsl0", "", LinkEthernet}, Interface{"any", "", LinkCooked}
		for i, want := range []struct {
			in        Interface
			index     int
			time      time.Time
			direction Direction
			comments  []string
			version   byte
		}{
			{lan0, 0, at(1, 0), Unknown, nil, 4},
			{dsl0, 1, at(2, 0), Inbound, []string{"first", "second"}, 6},
			{lan0, 0, at(2, 0), Unknown, nil, 4}, // without a time: the one of the frame before
			{cooked, 2, at(4, 0), Outbound, []string{""}, 4},
			{cooked, 2, at(5, 0), Inbound, nil, 4},  // the flags override the packet type
			{cooked, 2, at(6, 0), Outbound, nil, 4}, // flags without a direction do not
		} {
			if i == len(all) {
				t.Fatalf("%v: only %d frames", o, i)
			}
			got := all[i]
			if got.Number != i+1 || got.In != want.in || got.Interface != want.index || !got.Time.Equal(want.time) ||
				got.Direction != want.direction || !slices.Equal(got.Comments, want.comments) {
				t.Errorf("%v: frame %d is %+v, want %+v", o, i+1, got, want)
			}
			if p := got.Packet(); len(p) == 0 || p[0]>>4 != want.version {
				t.Errorf("%v: frame %d has packet %x", o, i+1, p)
			}
		}
		if len(all) != 6 {
			t.Errorf("%v: %d frames", o, len(all))
		}
	}
}

func TestReaderKnowsInterfacesWithoutFramesAtEnd(t *testing.T) {
	o := littleEndian
	r, err := NewReader(bytes.NewReader(cat(o.section(), o.iface(LinkRaw), o.iface(LinkEthernet, o.option(2, []byte("lan0"))))))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.Next(); err != io.EOF {
		t.Fatal(err)
	}
	if r.Interfaces() != 2 || r.Interface(1) != (Interface{"lan0", "", LinkEthernet}) {
		t.Errorf("%d interfaces, the last is %+v", r.Interfaces(), r.Interface(r.Interfaces()-1))
	}
}

func TestReaderReportsTruncationAtEveryByte(t *testing.T) {
	v4, v6 := synPacket(t, 4), synPacket(t, 6)
	for name, file := range map[string][]byte{
		"pcap":               pcapFile(binary.LittleEndian, micros, 0, v4, v6, v4),
		"pcapng":             everyBlock(t, littleEndian),
		"pcapng, big endian": everyBlock(t, bigEndian),
	} {
		whole := mustRead(t, file)
		clean := 0
		for n := range file {
			all, err := readAll(bytes.NewReader(file[:n]))
			switch {
			case err == nil:
				clean++
			case n < 4 && errors.Is(err, ErrFormat), n >= 4 && errors.Is(err, ErrTruncated):
			default:
				t.Fatalf("%s, %d of %d bytes: %v", name, n, len(file), err)
			}
			for i, got := range all {
				if got.Number != i+1 || !bytes.Equal(got.Data, whole[i].Data) {
					t.Fatalf("%s, %d of %d bytes: frame %d is %+v, want %+v", name, n, len(file), i+1, got, whole[i])
				}
			}
		}
		if clean < len(whole) { // at least behind the header, and behind each frame but the last
			t.Errorf("%s: %d whole prefixes, want %d at least", name, clean, len(whole))
		}
		packed := gzipped(file)
		for n := range packed {
			if _, err := readAll(bytes.NewReader(packed[:n])); err == nil || n > 10 && !errors.Is(err, ErrTruncated) {
				t.Fatalf("%s, gzip, %d of %d bytes: %v", name, n, len(packed), err)
			}
		}
	}
}

func TestReaderRefusesOtherFiles(t *testing.T) {
	header := pcapFile(binary.LittleEndian, micros, 0)
	version := slices.Clone(header)
	version[4] = 9
	for name, file := range map[string][]byte{
		"nothing":               nil,
		"a byte":                {0x1f},
		"text":                  []byte("Some text that is not a capture.\n"),
		"compressed text":       gzipped([]byte("the same")),
		"compressed nothing":    gzipped(nil),
		"zeros":                 make([]byte, 1000),
		"an unknown version":    version,
		"a damaged gzip header": {0x1f, 0x8b, 99, 0, 0, 0, 0, 0, 0, 0, 0, 0},
		"no byte-order magic":   littleEndian.block(0x0a0d0d0a, make([]byte, 16)),
	} {
		if r, err := NewReader(bytes.NewReader(file)); !errors.Is(err, ErrFormat) || r != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for name, file := range map[string][]byte{
		"pcap": header, "compressed pcap": gzipped(header),
		"pcapng": littleEndian.section(), "pcapng with an interface": cat(bigEndian.section(), bigEndian.iface(LinkNull)),
	} {
		if all := mustRead(t, file); len(all) != 0 {
			t.Errorf("%s: %d frames, want none", name, len(all))
		}
	}
}

func TestReaderReadsPipes(t *testing.T) {
	file := everyBlock(t, bigEndian)
	want := mustRead(t, file)
	for name, r := range map[string]io.Reader{
		"byte by byte":       iotest.OneByteReader(bytes.NewReader(file)),
		"with EOF and bytes": iotest.DataErrReader(bytes.NewReader(file)),
		"compressed":         iotest.HalfReader(bytes.NewReader(gzipped(file))),
	} {
		all, err := readAll(r)
		if err != nil || len(all) != len(want) {
			t.Errorf("%s: %d frames, %v", name, len(all), err)
		}
	}
}

func TestReaderReturnsErrorsOfUnderlyingReader(t *testing.T) {
	broken := errors.New("broken pipe")
	file := everyBlock(t, littleEndian)
	for n := range file {
		r := io.MultiReader(bytes.NewReader(file[:n]), iotest.ErrReader(broken))
		if _, err := readAll(r); !errors.Is(err, broken) || errors.Is(err, ErrFormat) || errors.Is(err, ErrTruncated) {
			t.Fatalf("after %d bytes: %v", n, err)
		}
	}
}

func TestReaderRepeatsItsError(t *testing.T) {
	r, err := NewReader(bytes.NewReader(pcapFile(binary.LittleEndian, micros, 0, synPacket(t, 4))[:60]))
	if err != nil {
		t.Fatal(err)
	}
	_, first := r.Next()
	_, second := r.Next()
	if first == nil || first != second {
		t.Errorf("%v, then %v", first, second)
	}
}

// endless is an endless source of zeros.
type endless struct{}

func (endless) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// Huge lengths in a file, at the end of the file and with enough bytes behind them.
func TestHugeLengthsAllocateLittleMemory(t *testing.T) {
	huge := []byte{0xf0, 0xff, 0xff, 0x7f}
	pcap := pcapFile(binary.LittleEndian, micros, 0, synPacket(t, 6))
	copy(pcap[16:], huge)    // snap length
	copy(pcap[24+8:], huge)  // captured
	copy(pcap[24+12:], huge) // on the wire
	ng := cat(littleEndian.section(), littleEndian.iface(LinkRaw), littleEndian.enhanced(0, 1, synPacket(t, 6)))
	body := len(ng) - 12 - 20 - 60
	enhanced, unknown := slices.Clone(ng), slices.Clone(ng)
	copy(enhanced[body+4:], huge)
	copy(enhanced[body+20:], cat(huge, huge))
	unknown[body] = 99
	copy(unknown[body+4:], huge)
	for name, file := range map[string][]byte{"pcap": pcap, "packet": enhanced, "unknown block": unknown} {
		for _, more := range []io.Reader{strings.NewReader(""), endless{}} {
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			r, err := NewReader(io.MultiReader(bytes.NewReader(file), more))
			for err == nil {
				_, err = r.Next()
			}
			runtime.ReadMemStats(&after)
			if err == io.EOF && r.Damage().Records == 0 {
				t.Errorf("%s: no damage", name)
			}
			if allocated := after.TotalAlloc - before.TotalAlloc; allocated > 32*maxGap { // buffers that double; the lengths are 2 GiB
				t.Errorf("%s: %d MiB allocated, then %v", name, allocated>>20, err)
			}
		}
	}
}

func TestReaderDoesNotAllocatePerFrame(t *testing.T) {
	v6 := synPacket(t, 6)
	ng := cat(littleEndian.section(), littleEndian.iface(LinkEthernet))
	for range 300 {
		ng = append(ng, littleEndian.enhanced(0, 1, cat(macs, []byte{0x86, 0xdd}, v6))...)
	}
	pcap := pcapFile(binary.LittleEndian, nanos, 1, slices.Repeat([][]byte{v6}, 300)...)
	for name, file := range map[string][]byte{"pcap": pcap, "pcapng": ng} {
		r, err := NewReader(bytes.NewReader(file))
		if err != nil {
			t.Fatal(err)
		}
		if n := testing.AllocsPerRun(200, func() {
			f, err := r.Next()
			if err != nil {
				t.Fatal(err)
			}
			f.Replace(f.Packet())
		}); n != 0 {
			t.Errorf("%s: %v allocations per frame", name, n)
		}
	}
}
