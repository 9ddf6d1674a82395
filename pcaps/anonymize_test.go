package pcaps

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/rewrite"
)

// told is what a replay says: its decisions and its report, as JSON.
func told(t *testing.T, capture []byte, cfg Config) string {
	t.Helper()
	var text strings.Builder
	say := func(v any) error {
		b, err := json.Marshal(v)
		fmt.Fprintf(&text, "%s\n", b)
		return err
	}
	cfg.Decided = func(d Decision) error { return say(d) }
	in, err := NewReader(bytes.NewReader(capture))
	if err != nil {
		t.Fatal(err)
	}
	report, err := Replay(t.Context(), in, nil, cfg)
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range report.Flows {
		_ = say(f)
	}
	_ = say(report.Totals)
	return text.String()
}

var (
	addressText = regexp.MustCompile(`[0-9a-f]*[:.][0-9a-f:.]+`)
	tokenField  = regexp.MustCompile(`token":(\d+)`)
)

// renamed replaces addresses and tokens in a text as the Anonymizer does.
func (a *Anonymizer) renamed(text string) string {
	text = addressText.ReplaceAllStringFunc(text, func(s string) string {
		if at, err := netip.ParseAddrPort(s); err == nil {
			return netip.AddrPortFrom(a.ip(at.Addr()), at.Port()).String()
		}
		if at, err := netip.ParseAddr(s); err == nil {
			return a.ip(at).String()
		}
		return s
	})
	return tokenField.ReplaceAllStringFunc(text, func(s string) string {
		n, _ := strconv.ParseUint(strings.TrimPrefix(s, `token":`), 10, 32)
		if n == 0 {
			return s
		}
		return fmt.Sprintf(`token":%d`, a.mptcp.token(uint32(n)))
	})
}

// anonymized returns a capture as it is shared, the configuration for it, and the anonymizer.
func anonymized(t *testing.T, capture []byte, cfg Config) ([]byte, Config, *Anonymizer) {
	t.Helper()
	var out bytes.Buffer
	a := NewAnonymizer()
	c := cfg
	c.Anonymized, c.anonymizer = NewWriter(&out, Pcapng), a
	told(t, capture, c)
	if err := c.Anonymized.Flush(); err != nil {
		t.Fatal(err)
	}
	cfg.Plain, cfg.Paths = nil, nil
	for _, in := range a.names {
		switch {
		case strings.HasPrefix(in.Name, "plain"):
			cfg.Plain = append(cfg.Plain, in.Name)
		case strings.HasPrefix(in.Name, "path"):
			cfg.Paths = append(cfg.Paths, in.Name)
		}
	}
	joins := cfg.Join
	cfg.Join = nil
	for _, j := range joins {
		cfg.Join = append(cfg.Join, netip.AddrPortFrom(a.ip(j.Addr()), j.Port()))
	}
	return out.Bytes(), cfg, a
}

// sameReplay compares what replays of a capture say before and after.
func sameReplay(t *testing.T, capture []byte, cfg Config) {
	t.Helper()
	shared, after, a := anonymized(t, capture, cfg)
	want, got := strings.Split(a.renamed(told(t, capture, cfg)), "\n"), strings.Split(told(t, shared, after), "\n")
	for i := range want {
		if i >= len(got) || got[i] != want[i] {
			t.Fatalf("line %d: got\n%s\nwant\n%s", i+1, got[min(i, len(got)-1)], want[i])
		}
	}
}

func TestAnonymizedCapturesReplayAlike(t *testing.T) {
	for _, c := range replayCases(t) {
		t.Run(c.name(), func(t *testing.T) {
			cfg := Config{
				Plain: []string{"lan", "wan"}, Paths: []string{"dsl", "lte"}, Join: joins,
				Policy: &core.Policy{Default: c.action, EndToEnd: 43},
			}
			if c.role != "any" {
				cfg.Role = core.Role(c.role)
			}
			sameReplay(t, readFile(t, c.file), cfg)
		})
	}
}

func TestAnonymizedEncapsulationsReplayAlike(t *testing.T) {
	for _, e := range encapsulations {
		for _, k := range []conn{conn4, conn6} {
			c := newCapture(t, Pcapng).on(Interface{LinkType: e.link})
			for _, p := range [][]byte{k.syn(), k.synack(), k.ack(nil), k.fromClient(rewrite.FIN|rewrite.ACK, nil, "data"), k.fromServer(rewrite.FIN|rewrite.ACK, nil, "")} {
				whole := e.frame(p)
				c.frame(Frame{Data: whole, Length: len(whole)})
				c.frame(Frame{Data: whole[:len(whole)-3], Length: len(whole)})
			}
			cfg := relay(Config{})
			sameReplay(t, c.bytes(), cfg)
			shared, _, _ := anonymized(t, c.bytes(), cfg)
			for i, f := range mustRead(t, shared) {
				var seg rewrite.Segment
				if f.Length > len(f.Data) || f.Packet() == nil {
					continue
				}
				if err := seg.Parse(f.Packet()); err != nil || !seg.ChecksumOK() {
					t.Errorf("%s: packet %d: error %v, checksum right: %v", e.name, i+1, err, seg.ChecksumOK())
				}
				again := f.Frame
				again.Replace(f.Packet())
				if !bytes.Equal(again.Data, f.Data) {
					t.Errorf("%s: packet %d: lengths or checksums around it are wrong:\n%x\n%x", e.name, i+1, f.Data, again.Data)
				}
			}
		}
	}
}

// What is to be hidden is in no byte of the shared file.
func TestAnonymizedCaptureHidesWhatIsPrivate(t *testing.T) {
	secret := strings.Repeat("password", 5)
	for _, e := range encapsulations {
		for _, k := range []conn{conn4, conn6} {
			in := Interface{Name: "wlan-of-jane", LinkType: e.link, Description: "Jane's"}
			c := newCapture(t, Pcapng).on(in)
			packets := [][]byte{k.syn(capableSYN), k.synack(capableSYNACK), k.ack(capableACK), k.fromClient(rewrite.ACK, nil, secret)}
			for _, p := range packets {
				whole := e.frame(p)
				c.frame(Frame{Data: whole, Length: len(whole), Comments: []string{"Jane"}})
			}
			shared, _, a := anonymized(t, c.bytes(), relay(Config{}))
			for what, b := range map[string][]byte{
				"payload": []byte("password"), "name": []byte("jane"), "comment": []byte("Jane"), "client's address": k.client.Addr().AsSlice(),
				"server's address": k.server.Addr().AsSlice(), "client's key": {1, 2, 3, 4, 5, 6, 7, 8}, "server's key": {0x11, 0x12, 0x13, 0x14, 0x15, 0x16, 0x17, 0x18},
			} {
				if bytes.Contains(shared, b) {
					t.Errorf("%s: the %s is in the file", e.name, what)
				}
			}
			for was, is := range a.known {
				if was == is && !was.IsUnspecified() {
					t.Errorf("%s: %s stays", e.name, was)
				}
			}
		}
	}
}

func TestAnonymizedAddressesKeepTheirCommonPrefixes(t *testing.T) {
	a := NewAnonymizer()
	common := func(x, y netip.Addr) int {
		n := 0
		for p := x; n < x.BitLen(); n++ {
			if prefix, _ := p.Prefix(n + 1); !prefix.Contains(y) {
				break
			}
		}
		return n
	}
	for _, pair := range [][2]string{
		{"203.0.113.7", "203.0.113.9"}, {"203.0.113.7", "203.0.112.7"}, {"192.168.1.1", "192.168.200.1"}, {"8.8.8.8", "9.9.9.9"},
		{"2001:db8:1::2", "2001:db8:1::3"}, {"2001:db8:1::2", "2001:db8:2::2"}, {"2a00::1", "2a00::8000:1"}, {"fe80::1", "fe80::2"}, {"10.0.0.1", "11.0.0.1"},
	} {
		x, y := netip.MustParseAddr(pair[0]), netip.MustParseAddr(pair[1])
		if got, want := common(a.ip(x), a.ip(y)), common(x, y); got != want && want > 8 {
			t.Errorf("%s and %s have %d bits in common, then %d (%s, %s)", x, y, want, got, a.ip(x), a.ip(y))
		}
		again := a.ip(x)
		if a.ip(x) == x || a.ip(x) != again || a.ip(x).IsPrivate() != x.IsPrivate() && x.Is6() {
			t.Errorf("%s becomes %s", x, a.ip(x))
		}
	}
	for _, stays := range []string{"0.0.0.0", "::", "255.255.255.255"} {
		if x := netip.MustParseAddr(stays); a.ip(x) != x {
			t.Errorf("%s becomes %s", x, a.ip(x))
		}
	}
}

func FuzzAnonymize(f *testing.F) {
	for _, e := range encapsulations {
		f.Add(uint16(e.link), e.frame(conn6.syn(capableSYN)), 0)
	}
	f.Fuzz(func(t *testing.T, link uint16, data []byte, more int) {
		frame := frameOf(LinkType(link), data, len(data)+more&0xff)
		out := NewAnonymizer().Frame(frame, LinkType(link))
		if len(out.Data) != len(data) || out.Length != frame.Length {
			t.Errorf("%d bytes of %d have become %d of %d", len(data), frame.Length, len(out.Data), out.Length)
		}
	})
}

func TestAnonymizedTextHasNoAddress(t *testing.T) {
	a := NewAnonymizer()
	ip := func(text string) string { return a.ip(netip.MustParseAddr(text)).String() }
	for text, want := range map[string]string{
		"via 192.0.2.7 dev lan":             "via " + ip("192.0.2.7") + " dev lan",
		"192.0.2.7:443":                     ip("192.0.2.7") + ":443",
		`"[2001:db8::7]:443"`:               `"[` + ip("2001:db8::7") + `]:443"`,
		"from 2001:db8::7.":                 "from " + ip("2001:db8::7") + ".",
		"192.0.2.7: no answer":              ip("192.0.2.7") + ": no answer",
		"inet 192.0.2.7/24 brd":             "inet " + ip("192.0.2.7") + "/24 brd",
		"default 192.0.2.0/24":              "default " + netip.PrefixFrom(a.ip(netip.MustParseAddr("192.0.2.0")), 24).Masked().String(),
		"at 12:34:56 version 6.18.44, ::/0": "at 12:34:56 version 6.18.44, ::/0",
		"127.0.0.1 ::1 0.0.0.0":             "127.0.0.1 ::1 0.0.0.0",
		"time=2026-11-28T17:00:00.123Z":     "time=2026-11-28T17:00:00.123Z",
	} {
		if got := string(a.Text([]byte(text))); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
	if got := string(a.Text([]byte("link/ether 52:54:00:12:34:56 brd ff:ff:ff:ff:ff:ff"))); strings.Contains(got, "52:54:00:12:34:56") || !strings.Contains(got, "ff:ff:ff:ff:ff:ff") {
		t.Errorf("hardware address: %s", got)
	}
}
