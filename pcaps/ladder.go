package pcaps

import (
	"fmt"
	"io"
	"strings"
	"unicode/utf8"
)

// printLadder prints a handshake as a ladder diagram: a column for each end, and an arrow
// for each packet.
//
//	   client                        box                        server
//	0.000000 │── SYN ─────────────────→│                           │
//	0.000000 │                         │── SYN MP_CAPABLE v1 ─────→│
func printLadder(w io.Writer, steps []Step) {
	if len(steps) == 0 {
		return
	}
	gap := 24 // between two columns
	for _, s := range steps {
		gap = max(gap, utf8.RuneCountInString(s.Packet)+8)
	}
	fmt.Fprintf(w, "  %7s %12s   %-*s%-*s%s\n", "frame", "time", gap-1, Client, gap+2, Box, Server)
	for _, s := range steps {
		fmt.Fprintf(w, "  %7d %s     %s\n", s.Frame, timeText(s.TimeUS), s.draw(gap))
	}
}

// draw returns a line of the diagram: the three columns, gap apart, with the arrow of one
// packet.
func (s Step) draw(gap int) string {
	left, right := min(s.From, s.To), max(s.From, s.To)
	line := []rune(strings.Repeat(" ", 2*gap+3))
	at := func(e End) int { return int(e) * (gap + 1) }
	for e := Client; e <= Server; e++ {
		line[at(e)] = '│'
	}
	for i := at(left) + 1; i < at(right); i++ {
		line[i] = '─'
	}
	if right-left == 2 {
		line[at(Box)] = '┼'
	}
	text := []rune(" " + s.Packet + " ")
	if s.From < s.To {
		line[at(right)-1] = '→'
		copy(line[at(left)+3:at(right)-1], text)
	} else {
		line[at(left)+1] = '←'
		copy(line[at(right)-2-len(text):], text)
	}
	return string(line)
}
