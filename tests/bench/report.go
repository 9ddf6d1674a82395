//go:build linux

package main

import (
	"bytes"
	_ "embed"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"text/template"
)

//go:embed report.tmpl
var reportText string

var reportTemplate = template.Must(template.New("report").Funcs(template.FuncMap{
	"busy":    func(shares []float64) string { return percent(shares) },
	"haproxy": func() string { return indent(haproxySettings()) },
	"sampled": func() int { return sampled },
	"tables":  func(r *results) []table { return r.tables() },
	"title":   func(s string) string { return strings.ToUpper(s[:1]) + s[1:] },
}).Parse(reportText))

// report renders the results as Markdown.
func (r *results) report() ([]byte, error) {
	var b bytes.Buffer
	err := reportTemplate.Execute(&b, r)
	return b.Bytes(), err
}

// table has the figures of one pass.
type table struct {
	Pass    string
	Systems []string
	Rows    []row
}

// row is one figure of a workload, with a cell for each system.
type row struct {
	Workload, Figure string
	Cells            []string
}

// tables returns a table for each pass, with rows and columns in order of measurement.
func (r *results) tables() (ts []table) {
	for _, s := range r.Series {
		i := slices.IndexFunc(ts, func(t table) bool { return t.Pass == s.Pass })
		if i < 0 {
			i = len(ts)
			ts = append(ts, table{Pass: s.Pass})
		}
		if !slices.Contains(ts[i].Systems, s.System) {
			ts[i].Systems = append(ts[i].Systems, s.System)
		}
		if !slices.ContainsFunc(ts[i].Rows, func(o row) bool { return o.Workload == s.Workload && o.Figure == s.Figure }) {
			ts[i].Rows = append(ts[i].Rows, row{Workload: s.Workload, Figure: s.Figure})
		}
	}
	for _, t := range ts {
		for i := range t.Rows {
			for _, c := range t.Systems {
				t.Rows[i].Cells = append(t.Rows[i].Cells, r.cell(t.Pass, t.Rows[i], c))
			}
		}
	}
	return ts
}

func (r *results) cell(pass string, o row, system string) string {
	s := r.find(pass, o.Workload, system, o.Figure)
	if s == nil {
		return ""
	}
	return s.Summary.String()
}

// String returns the median and, if the values differ, the range.
func (s summary) String() string {
	least, most := number(s.Min), number(s.Max)
	if least == most {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), least, most)
}

// number formats v with three significant digits, or all digits before the point.
func number(v float64) string {
	if v >= 100 {
		return strconv.FormatFloat(v, 'f', 0, 64)
	}
	return strconv.FormatFloat(roundTo3(v), 'f', -1, 64)
}

func roundTo3(v float64) float64 {
	r, _ := strconv.ParseFloat(strconv.FormatFloat(v, 'g', 3, 64), 64) // what was just formatted
	return r
}

// percent returns the median and the maximum of shares in words.
func percent(shares []float64) string {
	if len(shares) == 0 {
		return "unknown"
	}
	s := summarize(shares)
	return fmt.Sprintf("%.0f %%, at most %.0f %%,", 100*s.Median, 100*s.Max)
}

// indent returns s as a Markdown code block.
func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(s, "\t", "  ")), "\n", "\n    ")
}
