package pcaps

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/internal/tooltest"
)

// synPacket returns a SYN with a correct checksum, from its IP header on.
func synPacket(t testing.TB, version int) []byte {
	t.Helper()
	tcp := &layers.TCP{SrcPort: 40000, DstPort: 80, SYN: true, Window: 65535, Seq: 1}
	var ip gopacket.NetworkLayer
	var serializable gopacket.SerializableLayer
	if version == 4 {
		v4 := &layers.IPv4{
			Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP,
			SrcIP: net.IPv4(192, 0, 2, 1), DstIP: net.IPv4(198, 51, 100, 1),
		}
		ip, serializable = v4, v4
	} else {
		v6 := &layers.IPv6{
			Version: 6, HopLimit: 64, NextHeader: layers.IPProtocolTCP,
			SrcIP: net.ParseIP("2001:db8::1"), DstIP: net.ParseIP("2001:db8:5::1"),
		}
		ip, serializable = v6, v6
	}
	if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
		t.Fatal(err)
	}
	buffer := gopacket.NewSerializeBuffer()
	options := gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}
	if err := gopacket.SerializeLayers(buffer, options, serializable, tcp); err != nil {
		t.Fatal(err)
	}
	return buffer.Bytes()
}

// cat concatenates slices.
func cat(parts ...[]byte) []byte { return slices.Concat(parts...) }

// pcapFile returns a capture file of raw IP packets, built field by field: one packet per
// second, each with the same fraction of a second.
func pcapFile(order binary.AppendByteOrder, magic, fraction uint32, packets ...[]byte) []byte {
	b := order.AppendUint32(nil, magic)
	b = order.AppendUint16(b, 2) // major version
	b = order.AppendUint16(b, 4) // minor version
	b = order.AppendUint32(b, 0) // zone
	b = order.AppendUint32(b, 0) // accuracy of times
	b = order.AppendUint32(b, 65535)
	b = order.AppendUint32(b, uint32(LinkRaw))
	for i, p := range packets {
		b = order.AppendUint32(b, uint32(1000+i)) // seconds
		b = order.AppendUint32(b, fraction)
		b = order.AppendUint32(b, uint32(len(p)))
		b = order.AppendUint32(b, uint32(len(p)))
		b = append(b, p...)
	}
	return b
}

// ngBlocks builds the blocks of pcapng in a byte order.
type ngBlocks struct{ binary.AppendByteOrder }

var littleEndian, bigEndian = ngBlocks{binary.LittleEndian}, ngBlocks{binary.BigEndian}

// block returns a block of any type.
func (o ngBlocks) block(kind uint32, body ...[]byte) []byte {
	content := padded(cat(body...))
	length := uint32(12 + len(content))
	b := o.AppendUint32(nil, kind)
	b = o.AppendUint32(b, length)
	b = append(b, content...)
	return o.AppendUint32(b, length)
}

func (o ngBlocks) option(code uint16, value []byte) []byte {
	b := o.AppendUint16(nil, code)
	b = o.AppendUint16(b, uint16(len(value)))
	return append(b, padded(value)...)
}

func padded(b []byte) []byte { return append(slices.Clone(b), make([]byte, -len(b)&3)...) }

func (o ngBlocks) section() []byte {
	body := o.AppendUint32(nil, 0x1a2b3c4d)
	body = o.AppendUint16(body, 1)          // major version
	body = o.AppendUint16(body, 0)          // minor version
	body = o.AppendUint64(body, ^uint64(0)) // length unknown
	return o.block(0x0a0d0d0a, body)
}

// iface returns an interface description block without a snap length, with options.
func (o ngBlocks) iface(link LinkType, options ...[]byte) []byte {
	body := o.AppendUint16(nil, uint16(link))
	body = o.AppendUint16(body, 0)
	body = o.AppendUint32(body, 0)
	return o.block(1, append([][]byte{body}, options...)...)
}

// enhanced returns an enhanced packet block with a whole packet.
func (o ngBlocks) enhanced(iface uint32, ticks uint64, packet []byte, options ...[]byte) []byte {
	body := o.AppendUint32(nil, iface)
	body = o.AppendUint32(body, uint32(ticks>>32))
	body = o.AppendUint32(body, uint32(ticks))
	body = o.AppendUint32(body, uint32(len(packet)))
	body = o.AppendUint32(body, uint32(len(packet)))
	return o.block(6, append([][]byte{body, padded(packet)}, options...)...)
}

// simple returns a simple packet block.
func (o ngBlocks) simple(packet []byte) []byte {
	return o.block(3, o.AppendUint32(nil, uint32(len(packet))), packet)
}

func gzipped(b []byte) []byte {
	var out bytes.Buffer
	z := gzip.NewWriter(&out)
	_, _ = z.Write(b) // a bytes.Buffer returns no error
	_ = z.Close()
	return out.Bytes()
}

// captured is a frame with its own memory, valid after the Reader has read the next one.
type captured struct {
	Frame
	In Interface
}

// readAll returns the frames of a file, and the error unless it is io.EOF.
func readAll(r io.Reader) ([]captured, error) {
	reader, err := NewReader(r)
	if err != nil {
		return nil, err
	}
	var all []captured
	for {
		f, err := reader.Next()
		if err != nil {
			if errors.Is(err, io.EOF) {
				err = nil
			}
			return all, err
		}
		c := captured{*f, reader.Interface(f.Interface)}
		c.Data, c.Comments = slices.Clone(f.Data), slices.Clone(f.Comments)
		all = append(all, c)
	}
}

// mustRead is like readAll, for a file without faults.
func mustRead(t *testing.T, file []byte) []captured {
	t.Helper()
	all, err := readAll(bytes.NewReader(file))
	if err != nil {
		t.Fatalf("after %d frames: %v", len(all), err)
	}
	return all
}

// at returns a time, given in seconds and nanoseconds.
func at(seconds, nanoseconds int64) time.Time { return time.Unix(seconds, nanoseconds).UTC() }

// runTool runs a program of Wireshark on a file, which is FILE in the arguments, and
// returns the lines of its output.
func runTool(t *testing.T, file []byte, tool string, args ...string) []string {
	t.Helper()
	tooltest.Need(t, "that "+tool+" reads the files that this package writes", tool)
	name := filepath.Join(t.TempDir(), "capture")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	var stderr bytes.Buffer
	for i, arg := range args {
		args[i] = strings.ReplaceAll(arg, "FILE", name)
	}
	cmd := exec.CommandContext(t.Context(), tool, args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v: %s", tool, err, &stderr)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}
