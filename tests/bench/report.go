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
	Pass       string
	Contenders []string
	Rows       []row
}

// row is one figure of a work, with a cell for each contender.
type row struct {
	Work, Figure string
	Cells        []string
}

// tables has one for each pass, in the order in which things were measured.
func (r *results) tables() (ts []table) {
	for _, s := range r.Series {
		i := slices.IndexFunc(ts, func(t table) bool { return t.Pass == s.Pass })
		if i < 0 {
			i = len(ts)
			ts = append(ts, table{Pass: s.Pass})
		}
		if !slices.Contains(ts[i].Contenders, s.Contender) {
			ts[i].Contenders = append(ts[i].Contenders, s.Contender)
		}
		if !slices.ContainsFunc(ts[i].Rows, func(o row) bool { return o.Work == s.Work && o.Figure == s.Figure }) {
			ts[i].Rows = append(ts[i].Rows, row{Work: s.Work, Figure: s.Figure})
		}
	}
	for _, t := range ts {
		for i := range t.Rows {
			for _, c := range t.Contenders {
				t.Rows[i].Cells = append(t.Rows[i].Cells, r.cell(t.Pass, t.Rows[i], c))
			}
		}
	}
	return ts
}

func (r *results) cell(pass string, o row, contender string) string {
	s := r.find(pass, o.Work, contender, o.Figure)
	if s == nil {
		return ""
	}
	return s.Summary.String()
}

// String has the range only if there is one.
func (s summary) String() string {
	least, most := number(s.Min), number(s.Max)
	if least == most {
		return number(s.Median)
	}
	return fmt.Sprintf("%s (%s–%s)", number(s.Median), least, most)
}

// number has three significant digits, or all before the point.
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

// percent says how great the shares are in the middle, and at most.
func percent(shares []float64) string {
	if len(shares) == 0 {
		return "unknown"
	}
	s := summarize(shares)
	return fmt.Sprintf("%.0f %%, at most %.0f %%,", 100*s.Median, 100*s.Max)
}

// indent makes a code block of s.
func indent(s string) string {
	return "    " + strings.ReplaceAll(strings.TrimSpace(strings.ReplaceAll(s, "\t", "  ")), "\n", "\n    ")
}
