package cli

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/synbond/synbond/pcaps"
)

// capture writes a capture with a SYN and its SYN+ACK, and returns its path.
func capture(t *testing.T) string {
	t.Helper()
	var file bytes.Buffer
	w := pcaps.NewWriter(&file, pcaps.Pcap)
	for i, synack := range []bool{false, true} {
		ip := &layers.IPv4{Version: 4, TTL: 64, Protocol: layers.IPProtocolTCP, SrcIP: []byte{192, 0, 2, 1}, DstIP: []byte{198, 51, 100, 2}}
		tcp := &layers.TCP{SrcPort: 40000, DstPort: 443, Seq: 1, SYN: true, ACK: synack}
		if synack {
			ip.SrcIP, ip.DstIP, tcp.SrcPort, tcp.DstPort, tcp.Ack = ip.DstIP, ip.SrcIP, tcp.DstPort, tcp.SrcPort, 2
		}
		if err := tcp.SetNetworkLayerForChecksum(ip); err != nil {
			t.Fatal(err)
		}
		b := gopacket.NewSerializeBuffer()
		if err := gopacket.SerializeLayers(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, ip, tcp); err != nil {
			t.Fatal(err)
		}
		f := pcaps.Frame{Time: time.Unix(int64(i), 0), Data: b.Bytes(), Length: len(b.Bytes())}
		if err := w.Write(&f, pcaps.Interface{LinkType: pcaps.LinkRaw}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(); err != nil {
		t.Fatal(err)
	}
	return write(t, "in.pcap", file.Bytes())
}

func write(t *testing.T, name string, content []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, content, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// run runs the command line.
func run(args ...string) (code int, stdout, stderr string) {
	var out, err bytes.Buffer
	code = Main(args, &out, &err)
	return code, out.String(), err.String()
}

func TestReplayPrintsOneJSONObject(t *testing.T) {
	code, out, _ := run("replay", "--json", capture(t))
	var object struct {
		Decisions []map[string]any
		Flows     []map[string]any
		Totals    map[string]any
	}
	d := json.NewDecoder(strings.NewReader(out))
	d.DisallowUnknownFields()
	if err := d.Decode(&object); err != nil || code != 0 || d.More() {
		t.Fatalf("exit %d, %v:\n%s", code, err, out)
	}
	if len(object.Decisions) != 2 || len(object.Flows) != 1 || object.Totals["packets"] != 2.0 {
		t.Errorf("%s", out)
	}
	for _, k := range []string{"client", "server", "side", "action", "state", "reason", "setup_us", "mptcp", "token", "bytes_up", "bytes_down", "subflows"} {
		if _, ok := object.Flows[0][k]; !ok {
			t.Errorf("a flow has no %q", k)
		}
	}
}

func TestReplayOfNothingIsJSONToo(t *testing.T) {
	empty := append([]byte{0xd4, 0xc3, 0xb2, 0xa1, 2, 0, 4, 0}, make([]byte, 8)...)
	empty = append(empty, 0, 0, 4, 0, 101, 0, 0, 0)
	code, out, stderr := run("replay", "--json", write(t, "empty.pcap", empty))
	if !json.Valid([]byte(out)) || code != 0 {
		t.Errorf("exit %d: %s%s", code, out, stderr)
	}
}

func TestReplayWritesWhatTheBoxWouldHaveSent(t *testing.T) {
	in, out := capture(t), filepath.Join(t.TempDir(), "out.pcapng")
	if code, _, stderr := run("replay", in, "--role", "cpe", "--out", out); code != 0 {
		t.Fatalf("exit %d: %s", code, stderr)
	}
	code, text, _ := run("replay", out, "--role", "hag")
	if code != 0 || !strings.Contains(text, "SYN MP_CAPABLE v1") || !strings.Contains(text, "deliver") {
		t.Errorf("exit %d:\n%s", code, text)
	}
}

func TestReplayTakesThePolicyOfABox(t *testing.T) {
	config := write(t, "cpe.toml", []byte("plain = [\"lan0\"]\n[[path]]\ninterface = \"dsl0\"\n[[rule]]\nname = \"guests\"\nfrom = [\"192.0.2.0/24\"]\naction = \"pass\"\n"))
	_, out, stderr := run("replay", capture(t), "--config", config)
	if !strings.Contains(out, "accept (guests)") {
		t.Errorf("%s%s", out, stderr)
	}
	config = write(t, "cpe.toml", []byte("action = \"pass\"\n"))
	_, out, _ = run("replay", capture(t), "--config", config, "--action", "reject")
	if !strings.Contains(out, "prohibited") {
		t.Errorf("the flag does not go before the file: %s", out)
	}
}

func TestReplayFailsInOneClearLine(t *testing.T) {
	in := capture(t)
	whole, err := os.ReadFile(in)
	if err != nil {
		t.Fatal(err)
	}
	cut := write(t, "cut.pcap", whole[:len(whole)-3])
	for _, c := range []struct {
		name string
		args []string
		code int
		says string
	}{
		{"no file", []string{}, exitUsage, "a capture file, or - for standard input is needed"},
		{"two files", []string{in, in}, exitUsage, "unexpected argument"},
		{"a role that does not exist", []string{in, "--role", "hub"}, exitUsage, "hub"},
		{"an action that does not exist", []string{in, "--action", "bond"}, exitUsage, "bond"},
		{"the output is the input", []string{in, "--out", in}, exitUsage, "is the input"},
		{"an output that is no file", []string{in, "--out", "-"}, exitUsage, "--out needs a file"},
		{"a file that is not there", []string{in + "x"}, exitFailure, "no such file"},
		{"a text", []string{write(t, "a.txt", []byte("this is no capture"))}, exitFailure, "neither pcap nor pcapng"},
		{"an empty file", []string{write(t, "empty", nil)}, exitFailure, "it is empty"},
		{"an output that cannot be created", []string{in, "--out", filepath.Join(in, "out")}, exitFailure, "not a directory"},
		{"a truncated file, which is a warning", []string{cut}, 0, "warning"},
		{"zeros at the end, which are a warning", []string{write(t, "zeros.pcap", append(slices.Clone(whole), make([]byte, 99)...))}, 0,
			"1 damaged record left out (99 bytes), after frame 2: zeros"},
	} {
		t.Run(c.name, func(t *testing.T) {
			code, _, stderr := run(append([]string{"replay"}, c.args...)...)
			if code != c.code || !strings.Contains(stderr, c.says) || strings.Count(stderr, "\n") != 1 {
				t.Errorf("exit %d, want %d: %s", code, c.code, stderr)
			}
		})
	}
}

// fullDisk takes nothing.
type fullDisk struct{}

func (fullDisk) Write([]byte) (int, error) { return 0, errors.New("no space left") }

func TestReplaySaysOnceThatNothingCanBePrinted(t *testing.T) {
	for _, args := range [][]string{{"replay", capture(t)}, {"replay", capture(t), "--json"}} {
		var stderr bytes.Buffer
		if code := Main(args, fullDisk{}, &stderr); code != exitFailure || stderr.String() != "synbond: no space left\n" {
			t.Errorf("%v: exit %d: %s", args[2:], code, stderr.String())
		}
	}
}

func TestReplayProgressIsABarOnATerminal(t *testing.T) {
	var screen bytes.Buffer
	p := newReplayProgress(&screen, strings.NewReader("0123456789"), 20)
	if _, err := io.ReadAll(p); err != nil {
		t.Fatal(err)
	}
	p.show(5)
	if screen.Len() > 0 {
		t.Errorf("it is drawn on what is no terminal: %q", screen.String())
	}
	p.tty, p.shown = true, time.Time{}
	p.show(5)
	p.clear()
	want := strings.Repeat("█", 20) + strings.Repeat("·", 20) + "  50 %, 5 packets"
	if !strings.Contains(screen.String(), want) || !strings.HasSuffix(screen.String(), "\r\x1b[K") {
		t.Errorf("drawn: %q", screen.String())
	}
}

func TestReplayAnonymizesTheCapture(t *testing.T) {
	in, out := capture(t), filepath.Join(t.TempDir(), "shared.pcapng")
	if code, _, errs := run("replay", in, "--anonymize"); code != exitUsage || !strings.Contains(errs, "--anonymize needs --out FILE") {
		t.Errorf("without --out: exit %d, %q", code, errs)
	}
	code, want, errs := run("replay", in, "--role", "cpe", "--anonymize", "--out", out)
	if code != 0 || errs != "" {
		t.Fatalf("exit %d, %q", code, errs)
	}
	_, got, _ := run("replay", out, "--role", "cpe")
	if strings.Count(got, "\n") != strings.Count(want, "\n") || strings.Contains(got, "2001:db8:1::2") {
		t.Errorf("before\n%s\nafter\n%s", want, got)
	}
}
