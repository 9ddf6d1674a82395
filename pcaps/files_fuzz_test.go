package pcaps

import (
	"bytes"
	"encoding/binary"
	"errors"
	"testing"
)

// seeds returns files in all formats.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	frames := everyFrame(f)
	ng := written(f, Pcapng, frames, "hold")
	return [][]byte{
		ng, gzipped(ng), everyBlock(f, littleEndian), everyBlock(f, bigEndian),
		written(f, Pcap, frames[:1]), pcapFile(binary.BigEndian, micros, 7, frames[0].Packet()),
	}
}

// FuzzReader reads any bytes: reading ends, with an error of the package; the fields of a
// frame are consistent; the frames, written and read again, are the same.
func FuzzReader(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, file []byte) {
		frames, err := readAll(bytes.NewReader(file))
		if err != nil && !errors.Is(err, ErrFormat) && !errors.Is(err, ErrTruncated) {
			t.Fatalf("after %d frames: %v", len(frames), err)
		}
		for i := range frames {
			if frames[i].Number != i+1 {
				t.Fatalf("frame %d has number %d", i+1, frames[i].Number)
			}
			checkFrame(t, &frames[i].Frame)
		}
		again := frames
		if len(frames) > 0 {
			again = mustRead(t, written(t, Pcapng, frames))
		}
		if len(again) != len(frames) {
			t.Fatalf("%d frames, read again %d", len(frames), len(again))
		}
		for i := range frames {
			if seconds := frames[i].Time.Unix(); seconds < 0 || seconds > 1<<33 {
				frames[i].Time = again[i].Time // out of range for nanoseconds since 1970
			}
			if err := same(&again[i], &frames[i]); err != nil {
				t.Fatalf("frame %d, read again: %v", i+1, err)
			}
		}
	})
}

// checkFrame checks the consistency of a frame's fields.
func checkFrame(t *testing.T, f *Frame) {
	t.Helper()
	packet := f.Packet()
	if f.Length < len(f.Data) || f.Missing() < 0 || f.Missing() > f.Length-len(f.Data) {
		t.Fatalf("%d bytes of %d, %d missing", len(f.Data), f.Length, f.Missing())
	}
	if packet == nil && f.Missing() > 0 || packet != nil && len(packet) == 0 || !bytes.Contains(f.Data, packet) {
		t.Fatalf("packet %x, %d missing, of %x", packet, f.Missing(), f.Data)
	}
}

// FuzzFrame decodes any bytes as a frame of any link type, and replaces its packet.
func FuzzFrame(f *testing.F) {
	for _, frame := range everyFrame(f) {
		f.Add(uint16(frame.In.LinkType), frame.Data, uint16(frame.Length-len(frame.Data)))
	}
	for _, e := range encapsulations {
		for _, k := range []conn{conn4, conn6} {
			f.Add(uint16(e.link), e.frame(k.syn(capableSYN)), uint16(0))
		}
	}
	f.Fuzz(func(t *testing.T, link uint16, data []byte, cut uint16) {
		frame := frameOf(LinkType(link), data, len(data)+int(cut))
		checkFrame(t, frame)
		if frame.Packet() == nil {
			return
		}
		header, packet, missing := frame.ip, bytes.Clone(frame.Packet()), frame.Missing()
		resized := frame.hasFCS()
		for _, p := range frame.places[:frame.depth] {
			resized = resized || protocols[p.protocol].resize != nil
		}
		frame.Replace(packet)
		checkFrame(t, frame)
		if !resized && !bytes.Equal(frame.Data, cat(data[:header], packet)) || !bytes.Equal(frame.Packet(), packet) || frame.Missing() != missing {
			t.Fatalf("frame %x, packet replaced by itself: got %x, %d missing", data, frame.Data, frame.Missing())
		}
	})
}
