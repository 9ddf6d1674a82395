package rewrite

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"

	"github.com/synbond/synbond/internal/tooltest"
)

// tshark reads an MP_CAPABLE after Add, none after Strip, and correct checksums.
func TestTsharkAgreesWithEdits(t *testing.T) {
	tooltest.Need(t, "that tshark reads what Add and Strip write", "tshark")
	var packets [][]byte
	var want []string
	expect := func(packet []byte, mptcp bool) {
		subtype := ""
		if mptcp {
			subtype = "0"
		}
		ip := "1" // good
		if packet[0]>>4 == 6 {
			ip = "" // IPv6 has no header checksum
		}
		packets = append(packets, packet)
		want = append(want, strings.Join([]string{ip, "1", subtype, "", fmt.Sprint(len(parsed(t, packet).Payload))}, "\t"))
	}
	for _, c := range carriers {
		for _, list := range [][]byte{linux, linuxNoTS, windows, macOS, openBSD, stripped, cat(linux, nops(8)), nil} {
			for _, data := range payloads {
				expectEdits(t, c.build(SYN, list, data), expect)
			}
		}
		stripped, err := parsed(t, c.build(SYN|ACK, cat(usual, capableV1SYNACK), nil)).Strip(nil)
		if err != nil {
			t.Fatal(err)
		}
		expect(stripped, false)
	}
	got := tsharkVerdicts(t, packets)
	if len(got) != len(want) {
		t.Fatalf("%d packets, want %d", len(got), len(want))
	}
	for i := range want {
		if got[i] != want[i] {
			t.Errorf("%x: got %q, want %q", packets[i], got[i], want[i])
		}
	}
}

func expectEdits(t *testing.T, packet []byte, expect func([]byte, bool)) {
	t.Helper()
	added, err := parsed(t, packet).Add(nil, capable)
	if err != nil {
		t.Fatal(err)
	}
	expect(added, true)
	back, err := parsed(t, added).Strip(nil)
	if err != nil {
		t.Fatal(err)
	}
	expect(back, false)
}

// tsharkVerdicts returns tshark's fields for each packet: the status of the IP and the TCP
// checksum (1 is good), the MPTCP subtypes, malformed or not, the bytes of TCP payload.
func tsharkVerdicts(t *testing.T, packets [][]byte) []string {
	t.Helper()
	var file bytes.Buffer
	w := pcapgo.NewWriter(&file)
	if err := w.WriteFileHeader(65535, layers.LinkTypeRaw); err != nil {
		t.Fatal(err)
	}
	for i, packet := range packets {
		info := gopacket.CaptureInfo{Timestamp: time.Unix(int64(i), 0), CaptureLength: len(packet), Length: len(packet)}
		if err := w.WritePacket(info, packet); err != nil {
			t.Fatal(err)
		}
	}
	name := filepath.Join(t.TempDir(), "edits.pcap")
	if err := os.WriteFile(name, file.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "tshark", "-n", "-r", name,
		"-o", "ip.check_checksum:TRUE", "-o", "tcp.check_checksum:TRUE", "-T", "fields",
		"-e", "ip.checksum.status", "-e", "tcp.checksum.status", "-e", "tcp.options.mptcp.subtype",
		"-e", "_ws.malformed", "-e", "tcp.len").Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	return strings.Split(strings.TrimSuffix(string(out), "\n"), "\n")
}
