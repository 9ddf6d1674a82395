//go:build linux

package lab

import (
	"bytes"
	"encoding/xml"
	"fmt"
	"io"
	"slices"
	"strings"
)

// Geometry of a picture, in its own units. A panel shows one variant: a title, the
// marks' letters, the plot, its axis of time, the legend, and the marks in words.
const (
	svgWidth   = 760
	plotLeft   = 54
	plotRight  = svgWidth - 16
	plotHeight = 170
	titleRoom  = 26
	letterRoom = 20
	axisRoom   = 36
	lineHeight = 17
	panelGap   = 22
	legendStep = 104
)

// svgStyle has colours for light surroundings, and for dark ones in viewers with
// prefers-color-scheme. The lines' colours differ with any kind of colour vision
// (Okabe and Ito, "Color universal design", 2008).
const svgStyle = `<style>
text { font: 12px system-ui, sans-serif; fill: #1f2328 }
.title { font-size: 14px; font-weight: 600 }
.axis { font-size: 11px; fill: #6e7781 }
.middle { text-anchor: middle }
.end { text-anchor: end }
.paper { fill: #ffffff }
.grid { stroke: #d8dee4 }
.mark { stroke: #6e7781; stroke-dasharray: 3 3 }
.area { opacity: .75 }
.line0 { fill: #0072b2 }
.line1 { fill: #e69f00 }
.line2 { fill: #009e73 }
.line3 { fill: #cc79a7 }
.received { fill: none; stroke: #1f2328; stroke-width: 1.6; stroke-linejoin: round }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 }
.axis { fill: #8b949e }
.paper { fill: #0d1117 }
.grid { stroke: #30363d }
.mark { stroke: #8b949e }
.received { stroke: #e6edf3 }
}
</style>
`

// WriteSVG draws the report's variants, one below the other, as a picture without
// external files. A report without variants gives a title only.
func (r *Report) WriteSVG(w io.Writer) error {
	var panels strings.Builder
	y := titleRoom + panelGap
	for _, v := range r.Variants {
		d := drawing{w: &panels, Timeline: &v.Timeline, y: y}
		y += d.panel(v.Title) + panelGap
	}
	title := escape("synbond lab: " + r.Scenario)
	_, err := fmt.Fprintf(w, `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 %[1]d %[2]d" width="%[1]d" height="%[2]d" role="img" aria-label="%[3]s">
%[4]s<rect class="paper" width="100%%" height="100%%"/>
<text class="title" x="%[5]d" y="%[6]d">%[3]s</text>
%[7]s</svg>
`, svgWidth, y, title, svgStyle, plotLeft, titleRoom, panels.String())
	return err
}

// drawing is one panel whose upper edge is at y. Writing to a builder cannot fail.
type drawing struct {
	*Timeline
	w     *strings.Builder
	y     int
	scale float64 // Mbit/s at the upper edge of the plot
}

func (d *drawing) printf(format string, args ...any) { fmt.Fprintf(d.w, format, args...) }

// panel draws everything and returns its height.
func (d *drawing) panel(title string) int {
	d.printf("<text class=\"title\" x=\"%d\" y=\"%d\">%s</text>\n", plotLeft, d.y+12, escape(title))
	stack := d.stacked()
	d.scale = top(peak(stack[len(stack)-1]))
	d.grid()
	for i := len(d.Lines) - 1; i >= 0; i-- {
		d.area(i, stack[i], stack[i+1])
	}
	d.printf("<polyline class=\"received\" points=\"%s\"/>\n", d.points(d.Received.Mbits))
	d.drawMarks()
	d.legend()
	return d.belowAxis() + lineHeight*(1+len(d.Marks)) - d.y
}

// stacked returns the sums of the lines' rates: result i is the lower edge of line i's area.
func (d *drawing) stacked() [][]float64 {
	sums := [][]float64{make([]float64, len(d.At))}
	for _, l := range d.Lines {
		sum := slices.Clone(sums[len(sums)-1])
		for i, v := range l.Mbits {
			sum[i] += v
		}
		sums = append(sums, sum)
	}
	return sums
}

func (d *drawing) bottom() int    { return d.y + titleRoom + letterRoom + plotHeight }
func (d *drawing) belowAxis() int { return d.bottom() + axisRoom }

// x returns the coordinate of a time in seconds.
func (d *drawing) x(seconds float64) float64 {
	return plotLeft + (plotRight-plotLeft)*seconds/max(d.end(), sampleEvery.Seconds())
}

// v returns the coordinate of a rate in Mbit/s.
func (d *drawing) v(rate float64) float64 {
	return float64(d.bottom()) - plotHeight*min(rate/d.scale, 1)
}

// grid draws the axes with their figures.
func (d *drawing) grid() {
	const rows = 4
	for i := range rows + 1 {
		rate := d.scale * float64(i) / rows
		d.printf("<path class=\"grid\" d=\"M%d %.1fH%d\"/><text class=\"axis end\" x=\"%d\" y=\"%.1f\">%.4g</text>\n",
			plotLeft, d.v(rate), plotRight, plotLeft-6, d.v(rate)+4, rate)
	}
	d.printf("<text class=\"axis end\" x=\"%d\" y=\"%.1f\">Mbit/s</text>\n", plotLeft-6, d.v(d.scale)-10)
	each := tick(d.end(), 12)
	for at := 0; float64(at) <= d.end(); at += each {
		d.printf("<text class=\"axis middle\" x=\"%.1f\" y=\"%d\">%d s</text>\n", d.x(float64(at)), d.bottom()+16, at)
	}
}

// points returns the corners of a series: each mean at the middle of its interval.
func (d *drawing) points(values []float64) string {
	var b strings.Builder
	begin := 0.0
	for i, end := range d.At {
		fmt.Fprintf(&b, "%.1f,%.1f ", d.x((begin+end)/2), d.v(values[i]))
		begin = end
	}
	return strings.TrimSpace(b.String())
}

// area draws the rate of line i on top of the lines before it.
func (d *drawing) area(i int, below, above []float64) {
	corners := strings.Fields(d.points(below))
	slices.Reverse(corners)
	d.printf("<polygon class=\"area line%d\" points=\"%s %s\"/>\n", i%4, d.points(above), strings.Join(corners, " "))
}

// drawMarks draws a line with a letter for each mark, and the texts below the legend.
func (d *drawing) drawMarks() {
	last := 0.0
	for i, m := range d.Marks {
		// A letter keeps off the one before it.
		x := max(d.x(m.At), last+10)
		last = x
		d.printf("<path class=\"mark\" d=\"M%.1f %dV%d\"/><text class=\"middle\" x=\"%.1f\" y=\"%d\">%s</text>\n",
			d.x(m.At), d.y+titleRoom+letterRoom, d.bottom(), x, d.y+titleRoom+letterRoom-5, label(i))
		d.printf("<text x=\"%d\" y=\"%d\">%s  %.1f s  %s</text>\n",
			plotLeft, d.belowAxis()+lineHeight*(i+1), label(i), m.At, escape(m.Text))
	}
}

// legend names the colours.
func (d *drawing) legend() {
	x, y := plotLeft, d.belowAxis()-4
	for i, l := range d.Lines {
		d.printf("<rect class=\"area line%d\" x=\"%d\" y=\"%d\" width=\"12\" height=\"10\"/><text x=\"%d\" y=\"%d\">%s</text>\n",
			i%4, x, y-9, x+18, y, escape(l.Name))
		x += legendStep
	}
	d.printf("<path class=\"received\" d=\"M%d %dh12\"/><text x=\"%d\" y=\"%d\">%s</text>\n",
		x, y-4, x+18, y, escape(d.Received.Name))
}

// escape escapes text for an element or an attribute.
func escape(text string) string {
	var b bytes.Buffer
	_ = xml.EscapeText(&b, []byte(text)) // writing to a buffer cannot fail
	return b.String()
}
