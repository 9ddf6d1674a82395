package pcaps

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
)

// written returns a capture file of the frames, each with further comments.
func written(t testing.TB, format Format, frames []captured, comments ...string) []byte {
	t.Helper()
	var file bytes.Buffer
	w := NewWriter(&file, format)
	for i := range frames {
		if err := w.Write(&frames[i].Frame, frames[i].In, comments...); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return file.Bytes()
}

// everyFrame returns a frame with each link header, with values in all fields that pcapng
// keeps.
func everyFrame(t testing.TB) []captured {
	t.Helper()
	var all []captured
	for i, c := range linkHeaders {
		in := Interface{fmt.Sprintf("if%d", i), c.name, c.link}
		f := Frame{Number: i + 1, Time: at(int64(i), 123456789), Direction: Direction(i % 3), Interface: i}
		if c.direction != Unknown {
			f.Direction = c.direction
		}
		whole := cat(c.header, synPacket(t, c.version))
		f.Data, f.Length = whole[:len(whole)-i%3], len(whole)
		f.Comments = []string{"", "one", "two, in ünïcode"}[: i%4 : i%4]
		f.decode(c.link)
		all = append(all, captured{f, in})
	}
	return all
}

// same returns an error for the first difference between two frames.
func same(got, want *captured) error {
	switch {
	case got.Number != want.Number:
		return fmt.Errorf("number %d, want %d", got.Number, want.Number)
	case !got.Time.Equal(want.Time):
		return fmt.Errorf("time %v, want %v", got.Time, want.Time)
	case got.In != want.In:
		return fmt.Errorf("interface %+v, want %+v", got.In, want.In)
	case got.Direction != want.Direction:
		return fmt.Errorf("%v, want %v", got.Direction, want.Direction)
	case !bytes.Equal(got.Data, want.Data) || got.Length != want.Length:
		return fmt.Errorf("%x of %d bytes, want %x of %d", got.Data, got.Length, want.Data, want.Length)
	case !slices.Equal(got.Comments, want.Comments):
		return fmt.Errorf("comments %q, want %q", got.Comments, want.Comments)
	case !bytes.Equal(got.Packet(), want.Packet()) || got.Missing() != want.Missing():
		return fmt.Errorf("packet %x and %d bytes, want %x and %d", got.Packet(), got.Missing(), want.Packet(), want.Missing())
	}
	return nil
}

func TestReaderReadsWrittenPcapng(t *testing.T) {
	frames := everyFrame(t)
	frames = append(frames, frames...) // with known interfaces
	got := mustRead(t, written(t, Pcapng, frames, "and more"))
	if len(got) != len(frames) {
		t.Fatalf("%d frames, want %d", len(got), len(frames))
	}
	for i := range frames {
		want := frames[i]
		want.Number, want.Comments = i+1, append(slices.Clone(want.Comments), "and more")
		if err := same(&got[i], &want); err != nil {
			t.Errorf("frame %d, %s: %v", i+1, want.In.Description, err)
		}
	}
	if last := got[len(got)-1].Interface; last != len(linkHeaders)-1 {
		t.Errorf("the last frame has interface %d, want %d: an interface has two descriptions", last, len(linkHeaders)-1)
	}
}

func TestReaderReadsWrittenPcap(t *testing.T) {
	for _, frame := range everyFrame(t) {
		got := mustRead(t, written(t, Pcap, []captured{frame}, "lost"))
		want := frame
		want.Number, want.Interface, want.In, want.Comments = 1, 0, Interface{LinkType: want.In.LinkType}, nil
		want.Direction = Unknown
		want.decode(want.In.LinkType)
		if len(got) != 1 {
			t.Fatalf("%d frames", len(got))
		}
		if err := same(&got[0], &want); err != nil {
			t.Errorf("%s: %v", frame.In.Description, err)
		}
	}
}

func TestWriterRefusesSecondLinkTypeInPcap(t *testing.T) {
	w := NewWriter(new(bytes.Buffer), Pcap)
	for _, c := range []struct {
		in   Interface
		want string
	}{
		{Interface{"lan0", "", LinkEthernet}, ""},
		{Interface{"dsl0", "", LinkEthernet}, ""},
		{Interface{"any", "", LinkCooked}, "Ethernet, Linux cooked v1"},
		{Interface{"lte0", "", LinkEthernet}, ""},
	} {
		err := w.Write(&Frame{}, c.in)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%+v: %v", c.in, err)
		}
	}
}

func TestWriterWritesFileWithoutFrames(t *testing.T) {
	for _, format := range []Format{Pcap, Pcapng} {
		var file bytes.Buffer
		w := NewWriter(&file, format)
		if err := w.Flush(); err != nil || file.Len() != 0 {
			t.Errorf("%d bytes before the first interface; %v", file.Len(), err)
		}
		if err := errors.Join(w.Add(Interface{LinkType: LinkRaw}), w.Flush()); err != nil {
			t.Fatal(err)
		}
		if all := mustRead(t, file.Bytes()); len(all) != 0 {
			t.Errorf("%d frames", len(all))
		}
	}
}

func TestWriterRefusesLongCommentsAndWrongLengths(t *testing.T) {
	long := strings.Repeat("x", 65536)
	in := Interface{LinkType: LinkRaw}
	for name, write := range map[string]func(*Writer) error{
		"a comment of 64 KiB":         func(w *Writer) error { return w.Write(&Frame{}, in, long) },
		"a comment of the frame":      func(w *Writer) error { return w.Write(&Frame{Comments: []string{long}}, in) },
		"a file's comment of 64 KiB":  func(w *Writer) error { w.Comment = long; return w.Add(in) },
		"more bytes than on the wire": func(w *Writer) error { return w.Write(&Frame{Data: make([]byte, 2), Length: 1}, in) },
	} {
		if err := write(NewWriter(new(bytes.Buffer), Pcapng)); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if got := mustRead(t, written(t, Pcapng, []captured{{Frame{}, in}}, long[1:])); got[0].Comments[0] != long[1:] {
		t.Errorf("a comment of %d bytes: read %d", len(long)-1, len(got[0].Comments[0]))
	}
}

func TestFormatOfFileName(t *testing.T) {
	for name, want := range map[string]Format{
		"a.pcap": Pcap, "dir.pcapng/A.PCAP": Pcap, "a.pcapng": Pcapng, "a": Pcapng, "-": Pcapng, "a.pcap.new": Pcapng,
	} {
		if got := FormatOf(name); got != want {
			t.Errorf("%s: %d, want %d", name, got, want)
		}
	}
}

func TestTsharkReadsWrittenPcapng(t *testing.T) {
	frames := everyFrame(t)
	file := written(t, Pcapng, frames)
	lines := runTool(t, file, "tshark", "-n", "-r", "FILE", "-T", "fields",
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE",
		"-e", "frame.interface_name", "-e", "frame.interface_description", "-e", "frame.time_epoch",
		"-e", "frame.packet_flags_direction", "-e", "frame.len", "-e", "frame.cap_len", "-e", "ip.version",
		"-E", "aggregator=|", "-e", "frame.comment", "-e", "tcp.srcport", "-e", "_ws.malformed")
	if len(lines) != len(frames) {
		t.Fatalf("%d lines for %d frames", len(lines), len(frames))
	}
	for i, f := range frames {
		direction := ""
		if f.Direction != Unknown {
			direction = fmt.Sprintf("0x%08x", uint32(f.Direction))
		}
		want := fmt.Sprintf("%s\t%s\t%d.%09d\t%s\t%d\t%d\t%d\t%s\t40000\t", f.In.Name, f.In.Description,
			f.Time.Unix(), f.Time.Nanosecond(), direction, f.Length, len(f.Data),
			f.Packet()[0]>>4, strings.Join(f.Comments, "|"))
		if lines[i] != want {
			t.Errorf("frame %d: tshark reads %q, want %q", i+1, lines[i], want)
		}
	}
}

func TestCapinfosReadsWrittenPcapng(t *testing.T) {
	var file bytes.Buffer
	w := NewWriter(&file, Pcapng)
	w.Comment = "made by a test"
	for _, f := range everyFrame(t) {
		if err := w.Write(&f.Frame, f.In); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	text := strings.Join(runTool(t, file.Bytes(), "capinfos", "FILE"), "\n")
	for _, want := range []string{
		"pcapng", "made by a test", "Capture application: synbond", "nanoseconds (9)",
		fmt.Sprintf("Number of packets:   %d", len(linkHeaders)), fmt.Sprintf("Number of interfaces in file: %d", len(linkHeaders)),
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %q in %s", want, text)
		}
	}
}
