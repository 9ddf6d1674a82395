package pcaps

import (
	"fmt"
	"strings"

	"github.com/synbond/synbond/rewrite"
)

// flagsText returns the names of SYN, RST, FIN and ACK among the flags: "SYN+ACK".
func flagsText(flags rewrite.Flags) string {
	const shown = rewrite.SYN | rewrite.RST | rewrite.FIN | rewrite.ACK
	return strings.ReplaceAll((flags & shown).String(), "|", "+")
}

// describe returns a text for a segment: "SYN MP_CAPABLE v1".
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

// describePacket returns a text for a packet that this package has built or edited.
func describePacket(packet []byte) string {
	var seg rewrite.Segment
	if err := seg.Parse(packet); err != nil {
		report, _ := parseICMP(packet)
		return report.text
	}
	m, _ := seg.MPTCP() // ignores bad options
	return describe(&seg, m)
}

// describeEdited returns a text for an edited packet, with the DSCP if the text would
// otherwise equal the text before the edit.
func describeEdited(packet []byte, before string) string {
	after := describePacket(packet)
	var seg rewrite.Segment
	if err := seg.Parse(packet); err == nil && after == before {
		after += fmt.Sprintf(", DSCP %d", seg.DSCP())
	}
	return after
}
