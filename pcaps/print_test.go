package pcaps

import (
	"bytes"
	"strings"
	"testing"

	"github.com/synbond/synbond/rewrite"
)

func TestPrintReport(t *testing.T) {
	join, joinAnswer, joinACK := joinSteps(1)
	second := conn{server6, client6}
	p := replayFile(t, newCapture(t, Pcapng).add(
		conn4.syn(capableSYN), conn4.synack(capableSYNACK), conn4.ack(capableACK),
		second.syn(join), second.synack(joinAnswer), second.ack(joinACK),
		conn4.fromClient(rewrite.RST, nil, ""),
	).bytes(), Config{})
	var b bytes.Buffer
	lines := Lines{W: &b}
	for _, d := range p.decisions {
		if err := lines.Decision(d); err != nil {
			t.Fatal(err)
		}
	}
	if err := p.report.Print(&b); err != nil {
		t.Fatal(err)
	}
	want := strings.TrimPrefix(`
      1     0.000000  192.0.2.1:49152 → 198.51.100.2:443            SYN MP_CAPABLE v1      hold                SYN → server
      2     0.001000  192.0.2.1:49152 → 198.51.100.2:443            SYN+ACK MP_CAPABLE v1  deliver             SYN+ACK MP_CAPABLE v1 → client
      4     0.003000  [2001:db8:2::2]:443 → [2001:db8:1::1]:49152   SYN MP_JOIN            accept (mp-join)

flow 1: 192.0.2.1:49152 → 198.51.100.2:443
  relay, entered on the multipath side, closed (reset), set up in 2ms; 4 packets, 0 bytes up, 0 down
  MPTCP version 1, token of the client TOKENC, of the server TOKENS
  subflow [2001:db8:2::2]:443 → [2001:db8:1::1]:49152, address 4, backup, frame 4: joined
    frame         time   client                      box                            server
        1     0.000000     │── SYN MP_CAPABLE v1 ───────→│                             │
        1     0.000000     │                             │── SYN ─────────────────────→│
        2     0.001000     │                             │←─── SYN+ACK MP_CAPABLE v1 ──│
        2     0.001000     │←─── SYN+ACK MP_CAPABLE v1 ──│                             │
        3     0.002000     │── ACK MP_CAPABLE v1 ───────→│                             │
        3     0.002000     │                             │── ACK ─────────────────────→│
        7     0.006000     │── RST ──────────────────────┼────────────────────────────→│

flow 2: [2001:db8:2::2]:443 → [2001:db8:1::1]:49152
  pass, entered on the multipath side, passed (mp-join); 3 packets, 0 bytes up, 0 down
  subflow of the connection of 192.0.2.1:49152
    frame         time   client                 box                       server
        4     0.003000     │── SYN MP_JOIN ─────────┼───────────────────────→│
        5     0.004000     │←───────────────────────┼───── SYN+ACK MP_JOIN ──│
        6     0.005000     │── ACK MP_JOIN ─────────┼───────────────────────→│

7 packets in 6ms from 2026-03-01T12:00:00Z, BYTES bytes captured; flows: 2
7 packets written
decisions: 1 accept, 1 deliver, 1 hold
reasons: 1 mp-join, 1 reset
`, "\n")
	want = strings.NewReplacer(
		"TOKENC", tokenText(rewrite.Token(clientKey, 1)), "TOKENS", tokenText(rewrite.Token(serverKey, 1)), "BYTES", "444",
	).Replace(want)
	if b.String() != want {
		t.Errorf("printed\n%s\nwant\n%s", b.String(), want)
	}
}
