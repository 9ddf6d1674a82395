//go:build linux

package main

import (
	"bytes"
	"errors"
	"io"
	"net/netip"
	"slices"
	"testing"
	"testing/iotest"
	"time"
)

func TestMessagesSurviveARoundTrip(t *testing.T) {
	req := request{op: opUp, all: true, nonce: 1 << 40, duration: time.Second}
	if got := parseRequest(req.message()); got != req {
		t.Errorf("%+v came back as %+v", req, got)
	}
	rep := reply{client: netip.MustParseAddr("2001:db8::1"), nonce: 7, bytes: 1 << 50}
	if got := parseReply(rep.message()); got != rep {
		t.Errorf("%+v came back as %+v", rep, got)
	}
}

// ordinaryStream returns a stream of three blocks.
func ordinaryStream() []byte {
	block, last := blocks()
	return slices.Concat(block, block, last)
}

func TestReceiveStreamAcceptsAnyReadSizes(t *testing.T) {
	var sent bytes.Buffer
	n, err := sendStream(&sent, time.Millisecond)
	if err != nil || n != int64(sent.Len()) {
		t.Fatalf("sent %d of %d bytes, error %v", sent.Len(), n, err)
	}
	stream := ordinaryStream()
	for name, r := range map[string]io.Reader{
		"as sent":       &sent,
		"whole":         bytes.NewReader(stream),
		"byte by byte":  iotest.OneByteReader(bytes.NewReader(stream)),
		"half by half":  iotest.HalfReader(bytes.NewReader(stream)),
		"data with EOF": iotest.DataErrReader(bytes.NewReader(stream)),
	} {
		if got, err := receiveStream(r, false); err != nil || got%blockLen != 0 || got == 0 {
			t.Errorf("%s: %d bytes, error %v", name, got, err)
		}
	}
	if _, err := receiveStream(bytes.NewReader(stream), true); err != nil {
		t.Errorf("with all compared: %v", err)
	}
}

func TestReceiveStreamRefusesDamagedStreams(t *testing.T) {
	stream := ordinaryStream()
	flipped := bytes.Clone(stream)
	flipped[blockLen+100_000] ^= 1
	block, last := blocks()
	for name, damaged := range map[string][]byte{
		"nothing":                 {},
		"cut short":               stream[:len(stream)-1],
		"without the last block":  stream[:2*blockLen],
		"going on after the last": slices.Concat(stream, block),
		"a last block twice":      slices.Concat(stream, last),
		"a byte lost":             slices.Delete(bytes.Clone(stream), 70_000, 70_001),
		"a page lost":             slices.Delete(bytes.Clone(stream), 4096, 8192),
		"a byte changed":          flipped,
	} {
		if _, err := receiveStream(bytes.NewReader(damaged), true); !errors.Is(err, errCorrupt) {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestReceiveStreamFindsLostBytesInAnUncomparedPiece(t *testing.T) {
	stream := slices.Concat(slices.Repeat([][]byte{ordinaryStream()[:blockLen]}, 40)...)
	_, last := blocks()
	stream = append(stream, last...)
	// Within the second piece, whose middle is not compared: what follows is out of place.
	damaged := slices.Delete(stream, readLen+1000, readLen+1008)
	if _, err := receiveStream(bytes.NewReader(damaged), false); !errors.Is(err, errCorrupt) {
		t.Errorf("error %v", err)
	}
}
