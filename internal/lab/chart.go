//go:build linux

package lab

import (
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
)

// Style describes the terminal.
type Style struct {
	Colour, UTF8 bool
}

// paint gives text a colour (SGR parameters, ECMA-48 section 8.3.117) if the terminal has colours.
func (s Style) paint(text, sgr string) string {
	if !s.Colour || text == "" {
		return text
	}
	return "\x1b[" + sgr + "m" + text + "\x1b[0m"
}

// Measures of a chart, in characters.
const (
	chartWidth = 72 // at most
	blockRows  = 3  // of each series
)

// cells are the characters of a chart: of bars, from empty to full, and of the axes.
type cells struct {
	fill                          []rune
	top, side, corner, line, tick string
}

var (
	utf8Cells  = cells{[]rune(" ▁▂▃▄▅▆▇█"), "┤", "│", "└", "─", "┬"}
	asciiCells = cells{[]rune(" .:#"), "|", "|", "+", "-", "+"}
)

// Chart prints a block of rows for each line and for the receivers, an axis of time,
// and the marks.
func (t *Timeline) Chart(w io.Writer, s Style) {
	if len(t.At) == 0 {
		return
	}
	c := chart{w: w, Timeline: t, style: s, cells: asciiCells, per: (len(t.At) + chartWidth - 1) / chartWidth}
	if s.UTF8 {
		c.cells = utf8Cells
	}
	c.columns = (len(t.At) + c.per - 1) / c.per
	for _, series := range t.all() {
		c.margin = max(c.margin, len(series.Name))
	}
	sum := 0.0
	for i, l := range t.Lines {
		scale := top(peak(l.Mbits))
		sum += scale
		c.block(l, scale, chartColours[i%len(chartColours)])
	}
	c.block(t.Received, top(sum), "32")
	c.timeAxis()
	c.marks()
}

// chartColours of the lines, one after the other, as SGR parameters.
var chartColours = []string{"36", "33", "35"}

type chart struct {
	*Timeline
	w               io.Writer
	style           Style
	cells           cells
	columns, margin int
	per             int // samples in a column
}

// block prints one series. The axis goes from 0 to scale Mbit/s.
func (c *chart) block(s Series, scale float64, sgr string) {
	steps := len(c.cells.fill) - 1
	heights := make([]int, c.columns) // in steps
	for i := range heights {
		v := mean(s.Mbits[i*c.per : min((i+1)*c.per, len(s.Mbits))])
		heights[i] = int(math.Round(min(v/scale, 1) * float64(blockRows*steps)))
		if v >= 0.01*scale {
			heights[i] = max(heights[i], 1) // a low rate differs from none
		}
	}
	for row := blockRows - 1; row >= 0; row-- {
		name, figure, axis := "", "", c.cells.side
		if row == blockRows-1 {
			name, figure, axis = s.Name, fmt.Sprint(scale), c.cells.top
		}
		var b strings.Builder
		for _, h := range heights {
			b.WriteRune(c.cells.fill[min(max(h-row*steps, 0), steps)])
		}
		fmt.Fprintf(c.w, "  %-*s %5s %s%s\n", c.margin, name, figure, axis,
			c.style.paint(strings.TrimRight(b.String(), " "), sgr))
	}
}

// timeAxis prints an axis with a figure per tick, in seconds.
func (c *chart) timeAxis() {
	const room = 6 // characters between two figures at least
	each := tick(c.end(), c.columns/room)
	line := []rune(strings.Repeat(c.cells.line, c.columns))
	figures := []rune(strings.Repeat(" ", c.columns+room))
	for at := 0; float64(at) <= c.end(); at += each {
		i := c.column(float64(at))
		line[i] = []rune(c.cells.tick)[0]
		copy(figures[i:], []rune(fmt.Sprint(at)))
	}
	fmt.Fprintf(c.w, "  %-*s Mbit/s%s%s\n", c.margin, "", c.cells.corner, string(line))
	fmt.Fprintf(c.w, "  %-*s       %s\n", c.margin, "", " "+strings.TrimRight(string(figures), " ")+" s")
}

// marks prints a letter below the moment of each mark, and the letters' meanings.
func (c *chart) marks() {
	if len(c.Marks) == 0 {
		return
	}
	letters := []rune(strings.Repeat(" ", c.columns+3*len(c.Marks)))
	for i, m := range c.Marks {
		// The next free place: marks may be close to each other.
		at := c.column(m.At)
		for letters[at] != ' ' {
			at++
		}
		copy(letters[at:], []rune(label(i)))
	}
	fmt.Fprintf(c.w, "  %-*s        %s\n", c.margin, "", strings.TrimRight(string(letters), " "))
	for i, m := range c.Marks {
		fmt.Fprintf(c.w, "  %-*s %5.1f s %s  %s\n", c.margin, "", m.At, label(i), m.Text)
	}
}

// column returns the column of a time in seconds.
func (c *chart) column(seconds float64) int {
	i, exact := slices.BinarySearch(c.At, seconds)
	if exact {
		i++ // an interval ends there, and the next one begins
	}
	return min(i/c.per, c.columns-1)
}

func mean(values []float64) float64 {
	var sum float64
	for _, v := range values {
		sum += v
	}
	return sum / float64(len(values))
}
