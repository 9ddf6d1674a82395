package rewrite

import (
	"bytes"
	"context"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/synbond/synbond/internal/tooltest"
)

// Options with random values, each in a packet of its own connection, decoded by
// tshark.
func TestTsharkAgreesWithCodec(t *testing.T) {
	rng := rand.New(rand.NewPCG(9, 10))
	all, options := elements(), make([]Option, 3000)
	for i := range options {
		options[i] = randomOption(rng, all)
	}
	lines := decode(t, options)
	if len(lines) != len(options) {
		t.Fatalf("tshark reads %d of %d packets", len(lines), len(options))
	}
	seen := map[OptionType]bool{}
	for i := range options {
		compareFields(t, &options[i], lines[i])
		seen[options[i].Type] = true
	}
	if want := int(numOptionTypes) - 3; len(seen) != want { // Unknown, End, Nop
		t.Errorf("%d types, want %d: %v", len(seen), want, seen)
	}
}

func compareFields(t *testing.T, o *Option, got map[string]string) {
	t.Helper()
	want := fieldsOf(o)
	for name := range want {
		if !tsharkFields[name] {
			t.Fatalf("%s is missing in tsharkFields", name)
		}
	}
	for name := range tsharkFields {
		if o.Type == OptionDSS && name == "tcp.options.mptcp.checksum" && got[name] == "" {
			continue // some versions of tshark, 4.0 among them, read it at an offset two too large
		}
		if got[name] != want[name] {
			t.Errorf("%v %+v, bytes %x: %s: got %q, tshark %q", o.Type, valueOf(o), o.Append(nil), name, want[name], got[name])
		}
	}
}

// decode returns the fields that tshark prints for a packet with each of the options.
func decode(t *testing.T, options []Option) []map[string]string {
	tooltest.Need(t, "that tshark reads MPTCP options as this package does", "tshark")
	file := filepath.Join(t.TempDir(), "options.pcap")
	writeCapture(t, file, options)
	args := []string{"-n", "-r", file, "-T", "fields", "-E", "aggregator=,", "-o", "tcp.analyze_sequence_numbers:FALSE"}
	var names []string
	for name := range tsharkFields {
		names = append(names, name)
		args = append(args, "-e", name)
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	var stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, "tshark", args...)
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("tshark: %v: %s", err, &stderr)
	}
	var all []map[string]string
	for line := range strings.Lines(string(out)) {
		fields := map[string]string{}
		for i, value := range strings.Split(strings.TrimSuffix(line, "\n"), "\t") {
			if value != "" {
				fields[names[i]] = decimal(value)
			}
		}
		all = append(all, fields)
	}
	return all
}

// decimal converts a value with the prefix 0x to decimal digits.
func decimal(value string) string {
	if digits, ok := strings.CutPrefix(value, "0x"); ok {
		if n, err := strconv.ParseUint(digits, 16, 64); err == nil {
			return strconv.FormatUint(n, 10)
		}
	}
	return value
}

func writeCapture(t *testing.T, path string, options []Option) {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(1500, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i := range options {
		list, err := AppendOptions(nil, options[i:i+1])
		if err != nil {
			t.Fatal(err)
		}
		tcp := tcpBytes(client6, server6, ACK, list, nil)
		copy(tcp, be16(uint16(10000+i))) // another port, another connection
		packet := ipv6Bytes(nil, protocolTCP, tcp)
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(packet), Length: len(packet)}
		if err := w.WritePacket(info, packet); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(path, file.Bytes(), 0o600); err != nil {
		t.Fatal(err)
	}
}
