package pcaps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"hash/crc32"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/ulikunitz/xz"
)

// readDamaged returns the frames of a damaged file, and the damage.
func readDamaged(t *testing.T, file []byte) ([]captured, Damage) {
	t.Helper()
	r, err := NewReader(bytes.NewReader(file))
	if err != nil {
		t.Fatal(err)
	}
	var all []captured
	for {
		f, err := r.Next()
		if err == io.EOF {
			return all, r.Damage()
		}
		if err != nil {
			t.Fatalf("after %d frames: %v", len(all), err)
		}
		c := captured{*f, r.Interface(f.Interface)}
		c.Data = slices.Clone(f.Data)
		all = append(all, c)
	}
}

// One bad record costs that record, and not the others.
func TestReaderSkipsDamagedRecords(t *testing.T) {
	packet := synPacket(t, 6)
	const record = 16 + 60
	pcap := pcapFile(binary.LittleEndian, micros, 0, packet, packet, packet, packet, packet, packet)
	second := 24 + record
	ng := cat(littleEndian.section(), littleEndian.iface(LinkRaw))
	for i := range 6 {
		ng = append(ng, littleEndian.enhanced(0, uint64(i), packet, littleEndian.option(1, []byte("comment")))...)
	}
	const block = 12 + 20 + 60 + 12
	ngSecond := len(ng) - 5*block
	for _, c := range []struct {
		name    string
		file    []byte
		at      int
		value   []byte
		insert  bool
		frames  int
		damages uint64
	}{
		{"pcap: more captured than on the wire", pcap, second + 8, []byte{60, 0, 0, 0, 54}, false, 6, 0},
		{"pcap: a huge length on the wire", pcap, second + 12, []byte{0, 0, 0, 0x7f}, false, 6, 0},
		{"pcapng: a huge length on the wire", ng, ngSecond + 24, []byte{0, 0, 0, 0x7f}, false, 6, 0},
		{"pcap: a huge length", pcap, second + 8, []byte{255, 255, 255, 255, 255, 255, 255, 255}, false, 5, 1},
		{"pcap: a length too large by one", pcap, second + 8, []byte{61, 0, 0, 0, 61}, false, 5, 1},
		{"pcap: a length of two records", pcap, second + 8, []byte{150}, false, 5, 1},
		{"pcap: a length too small", pcap, second + 8, []byte{50}, false, 6, 1},
		{"pcap: bytes between records", pcap, second, bytes.Repeat([]byte{0xee}, 333), true, 6, 1},
		{"pcap: zeros between records", pcap, second, make([]byte, 4096), true, 6, 1},
		{"pcap: zeros at the end", pcap, len(pcap), make([]byte, 4099), true, 6, 1},
		{"pcap: a few zeros at the end", pcap, len(pcap), make([]byte, 3), true, 6, 1},
		{"pcap: bytes at the end", pcap, len(pcap), bytes.Repeat([]byte{0xee}, 333), true, 6, 1},
		{"pcapng: more captured than on the wire", ng, ngSecond + 24, []byte{50}, false, 6, 0},
		{"pcapng: more captured than in the block", ng, ngSecond + 20, []byte{0, 1}, false, 5, 1},
		{"pcapng: an unknown interface", ng, ngSecond + 8, []byte{1}, false, 5, 1},
		{"pcapng: an option longer than its block", ng, ngSecond + 28 + 60 + 2, []byte{200}, false, 6, 1},
		{"pcapng: a block too long", ng, ngSecond + 4, []byte{block + 4}, false, 5, 1},
		{"pcapng: a block too short", ng, ngSecond + 4, []byte{20}, false, 5, 2},
		{"pcapng: a huge block", ng, ngSecond + 4, []byte{0, 0, 0, 0x7f}, false, 5, 1},
		{"pcapng: bytes between blocks", ng, ngSecond, bytes.Repeat([]byte{0xee}, 333), true, 6, 1},
		{"pcapng: zeros at the end", ng, len(ng), make([]byte, 4096), true, 6, 1},
	} {
		file := slices.Clone(c.file)
		if c.insert {
			file = slices.Insert(file, c.at, c.value...)
		} else {
			copy(file[c.at:], c.value)
		}
		all, damage := readDamaged(t, file)
		if len(all) != c.frames || damage.Records != c.damages {
			t.Errorf("%s: %d frames, %+v; want %d, %d", c.name, len(all), damage, c.frames, c.damages)
		}
		for i, f := range all {
			if c.damages > 0 && f.Length == 60 && !bytes.Equal(f.Data, packet) && len(f.Data) == 60 {
				t.Errorf("%s: frame %d is %x", c.name, i+1, f.Data)
			}
		}
	}
}

func TestReaderReportsDamagedCompression(t *testing.T) {
	packet := synPacket(t, 6)
	file := pcapFile(binary.LittleEndian, micros, 0, packet, packet)
	packed := gzipped(file)
	copy(packed[len(packed)-8:], make([]byte, 4)) // the checksum
	if all, err := readAll(bytes.NewReader(packed)); !errors.Is(err, ErrFormat) || len(all) != 2 || !strings.Contains(err.Error(), "after frame 2") {
		t.Errorf("%d frames, %v", len(all), err)
	}
	for name, compress := range compressors {
		packed := compress(t, file)
		for at := 12; at < len(packed); at++ {
			damaged := slices.Clone(packed)
			damaged[at] ^= 0x55
			_, err := readAll(bytes.NewReader(damaged))
			if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTruncated) {
				t.Fatalf("%s: byte %d changed: %v", name, at, err)
			}
		}
	}
}

// compressors are the formats of compressed files beside gzip.
var compressors = map[string]func(*testing.T, []byte) []byte{
	"zstd": func(t *testing.T, b []byte) []byte {
		w, err := zstd.NewWriter(nil)
		if err != nil {
			t.Fatal(err)
		}
		return w.EncodeAll(b, nil)
	},
	"xz": func(t *testing.T, b []byte) []byte {
		var out bytes.Buffer
		w, err := xz.NewWriter(&out)
		if err == nil {
			_, err = w.Write(b)
		}
		if err = errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		return out.Bytes()
	},
}

func TestReaderExpandsEveryCompression(t *testing.T) {
	file := everyBlock(t, bigEndian)
	want := mustRead(t, file)
	for name, compress := range compressors {
		packed := compress(t, file)
		if all := mustRead(t, packed); len(all) != len(want) {
			t.Errorf("%s: %d frames, want %d", name, len(all), len(want))
		}
		for n := range packed {
			if _, err := readAll(bytes.NewReader(packed[:n])); err == nil || n > 16 && !errors.Is(err, ErrTruncated) {
				t.Errorf("%s, %d of %d bytes: %v", name, n, len(packed), err)
			}
		}
		broken := errors.New("broken pipe")
		for n := range packed {
			r := io.MultiReader(bytes.NewReader(packed[:n]), iotest.ErrReader(broken))
			if _, err := readAll(r); !errors.Is(err, broken) {
				t.Fatalf("%s: after %d bytes: %v", name, n, err)
			}
		}
	}
}

// pcapOf returns a pcap file of raw IP packets in a variant.
func pcapOf(magic uint32, minor uint16, extra int, network uint32, packets ...[]byte) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint16(le.AppendUint16(b, 2), minor)
	b = append(b, make([]byte, 8)...)
	b = le.AppendUint32(le.AppendUint32(b, 0), network)
	if magic>>8 == 0x1c0001 {
		b = le.AppendUint32(b, 0)
	}
	for i, p := range packets {
		b = le.AppendUint32(le.AppendUint32(b, uint32(1000+i)), 5)
		lengths := []uint32{uint32(len(p)), uint32(len(p) + 7)} // captured, on the wire
		if minor < 3 {
			slices.Reverse(lengths)
		}
		b = le.AppendUint32(le.AppendUint32(b, lengths[0]), lengths[1])
		b = append(append(b, bytes.Repeat([]byte{0xcc}, extra)...), p...)
	}
	return b
}

func TestReaderReadsVariantsOfPcap(t *testing.T) {
	v4, v6 := synPacket(t, 4), synPacket(t, 6)
	for _, c := range []struct {
		name string
		file []byte
		time time.Time
	}{
		{"version 2.2, with the lengths swapped", pcapOf(micros, 2, 0, 101, v4, v6, v4), at(1000, 5000)},
		{"version 2.3", pcapOf(micros, 3, 0, 101, v4, v6, v4), at(1000, 5000)},
		{"version 2.5", pcapOf(micros, 5, 0, 101, v4, v6, v4), at(1000, 5000)},
		{"Nokia", pcapOf(micros, 4, 4, 101, v4, v6, v4), at(1000, 5000)},
		{"Kuznetsov", pcapOf(0xa1b2cd34, 4, 8, 101, v4, v6, v4), at(1000, 5000)},
		{"Kuznetsov, later", pcapOf(0xa1b2cd34, 4, 12, 101, v4, v6, v4), at(1000, 5000)},
		{"Ixia", pcapOf(0x1c0001ab, 4, 0, 101, v4, v6, v4), at(1000, 5000)},
		{"Ixia, ns", pcapOf(0x1c0001ac, 4, 0, 101, v4, v6, v4), at(1000, 5)},
		{"a frame check sequence", pcapOf(micros, 4, 0, 0x2400_0065, v4, v6, v4), at(1000, 5000)},
	} {
		all := mustRead(t, c.file)
		if len(all) != 3 || !bytes.Equal(all[1].Data, v6) || all[1].Length != len(v6)+7 || !all[0].Time.Equal(c.time) {
			t.Errorf("%s: %d frames: %+v", c.name, len(all), all)
		}
	}
	for name, files := range map[string][][]byte{
		"two pcaps":      {pcapOf(micros, 4, 0, 101, v4), pcapFile(binary.BigEndian, nanos, 1, v6)},
		"pcap, pcapng":   {pcapOf(micros, 4, 0, 101, v4), everyBlock(t, bigEndian)},
		"pcapng, pcap":   {everyBlock(t, bigEndian), pcapOf(micros, 4, 0, 101, v4)},
		"empty in front": {pcapOf(micros, 4, 0, 101), pcapOf(micros, 4, 0, 101, v4)},
	} {
		want := len(mustRead(t, files[0])) + len(mustRead(t, files[1]))
		if all, damage := readDamaged(t, cat(files...)); len(all) != want || damage.Records != 0 {
			t.Errorf("%s: %d frames, want %d, %+v", name, len(all), want, damage)
		}
		if name == "two pcaps" && mustRead(t, cat(files...))[1].Interface != 0 {
			t.Error("the second file has an interface of its own")
		}
	}
}

func TestSecondsOfTicks(t *testing.T) {
	for _, c := range []struct {
		ticks            uint64
		resolution       byte
		seconds, nanosec uint64
	}{
		{1000, 0, 1000, 0},
		{1500, 3, 1, 500_000_000},
		{1_000_000_001, 9, 1, 1},
		{1<<64 - 1, 19, 1, 844_674_407},
		{1<<64 - 1, 28, 0, 1},
		{1<<64 - 1, 127, 0, 0},
		{3, 0x80 | 1, 1, 500_000_000},
		{1<<20 + 1<<19, 0x80 | 20, 1, 500_000_000},
		{1<<63 + 1<<62, 0x80 | 63, 1, 500_000_000},
		{1 << 63, 0x80 | 64, 0, 500_000_000},
		{1 << 63, 0x80 | 127, 0, 0},
	} {
		if s, n := secondsOf(c.ticks, c.resolution); s != c.seconds || n != c.nanosec {
			t.Errorf("%d at %#x: %d s, %d ns; want %d, %d", c.ticks, c.resolution, s, n, c.seconds, c.nanosec)
		}
	}
}

// A file may name a dictionary of gigabytes: it is refused before it gets the memory.
func TestXZWithAHugeDictionaryIsRefused(t *testing.T) {
	for _, c := range []struct {
		size int
		fine bool
	}{{8 << 20, true}, {64 << 20, true}, {128 << 20, true}, {192 << 20, false}, {1 << 30, false}} {
		var out bytes.Buffer
		w, err := xz.WriterConfig{DictCap: 1 << 20}.NewWriter(&out)
		if err != nil {
			t.Fatal(err)
		}
		_, err = w.Write(readFile(t, filepath.Join(goldenDir, "raw.hag.pcapng")))
		if err := errors.Join(err, w.Close()); err != nil {
			t.Fatal(err)
		}
		file := out.Bytes()
		if got := xzDictionary(file); got != 1<<20 {
			t.Fatalf("the file names %d bytes", got)
		}
		for n := range byte(41) { // the byte of the size, and the checksum of its header
			if int64(2|n&1)<<(n/2+11) == int64(c.size) {
				header := file[12 : 12+int(file[12])*4+4]
				header[bytes.IndexByte(header[2:], 0x21)+4] = n
				binary.LittleEndian.PutUint32(header[len(header)-4:], crc32.ChecksumIEEE(header[:len(header)-4]))
			}
		}
		if got := xzDictionary(file); got != int64(c.size) {
			t.Fatalf("the file names %d bytes, want %d", got, c.size)
		}
		if _, err := readAll(bytes.NewReader(file)); (err == nil) != c.fine {
			t.Errorf("%d MiB: error %v", c.size>>20, err)
		}
	}
}
