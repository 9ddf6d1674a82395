package pcaps

import (
	"fmt"
	"strings"

	"github.com/synbond/synbond/rewrite"
)

// flagsText names the flags that make a segment part of a handshake: "SYN+ACK".
func flagsText(flags rewrite.Flags) string {
	const told = rewrite.SYN | rewrite.RST | rewrite.FIN | rewrite.ACK
	return strings.ReplaceAll((flags & told).String(), "|", "+")
}

// describe tells people what a segment is: "SYN MP_CAPABLE v1".
func describe(seg *rewrite.Segment, m rewrite.MPTCP) string {
	text := flagsText(seg.Flags)
	switch {
	case m.Capable:
		text += fmt.Sprintf(" MP_CAPABLE v%d", m.Version)
	case m.Join:
		text += " MP_JOIN"
	}
	if n := len(seg.Payload); n > 0 {
		text += fmt.Sprintf(", %d bytes", n)
	}
	return text
}

// describePacket describes a packet that was made or edited here.
func describePacket(packet []byte) string {
	var seg rewrite.Segment
	if err := seg.Parse(packet); err != nil {
		report, _ := parseICMP(packet)
		return report.text
	}
	m, _ := seg.MPTCP() // a bad option is none
	return describe(&seg, m)
}

// describeEdited describes what has become of a packet that was described before.
func describeEdited(packet []byte, before string) string {
	after := describePacket(packet)
	var seg rewrite.Segment
	if err := seg.Parse(packet); err == nil && after == before {
		after += fmt.Sprintf(", DSCP %d", seg.DSCP())
	}
	return after
}
