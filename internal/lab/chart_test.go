//go:build linux

package lab_test

import (
	"encoding/xml"
	"errors"
	"fmt"
	"io"
	"math"
	"strings"
	"testing"

	"github.com/synbond/synbond/internal/lab"
)

// outage returns a fixed timeline: dsl carries 20 Mbit/s except for one second, when it
// is away, lte ramps up to 40.
func outage() lab.Timeline {
	t := lab.Timeline{
		Lines:    []lab.Series{{Name: "dsl"}, {Name: "lte"}},
		Received: lab.Series{Name: "client"},
		Marks:    []lab.Mark{{At: 1, Text: "dsl loses its carrier"}, {At: 1.05, Text: "CPE: dsl down"}, {At: 2, Text: "dsl & all <is> back"}},
	}
	for i := range 30 {
		dsl, lte := 20.0, min(4*float64(i), 40)
		if i >= 10 && i < 20 {
			dsl = 0
		}
		t.At = append(t.At, float64(i+1)/10)
		t.Lines[0].Mbits = append(t.Lines[0].Mbits, dsl)
		t.Lines[1].Mbits = append(t.Lines[1].Mbits, lte)
		t.Received.Mbits = append(t.Received.Mbits, dsl+lte)
	}
	return t
}

func TestChartShowsEachLineAndTheMarks(t *testing.T) {
	for _, tt := range []struct {
		style lab.Style
		want  string
	}{
		{lab.Style{UTF8: true}, `
  dsl       20 ┤██████████          ██████████
               │██████████          ██████████
               │██████████          ██████████
  lte       40 ┤       ▁▃▆████████████████████
               │    ▂▄▆███████████████████████
               │ ▂▅▇██████████████████████████
  client    60 ┤      ▂▃▅▆          ██████████
               │ ▂▃▅▆█████████████████████████
               │██████████████████████████████
         Mbit/s└┬─────────┬─────────┬────────┬
                0         1         2        3 s
                          ab        c
           1.0 s a  dsl loses its carrier
           1.1 s b  CPE: dsl down
           2.0 s c  dsl & all <is> back
`},
		{lab.Style{}, `
  dsl       20 |##########          ##########
               |##########          ##########
               |##########          ##########
  lte       40 |        .:####################
               |    .::#######################
               | .:###########################
  client    60 |      ..::          ##########
               | ..::#########################
               |##############################
         Mbit/s++---------+---------+--------+
                0         1         2        3 s
                          ab        c
           1.0 s a  dsl loses its carrier
           1.1 s b  CPE: dsl down
           2.0 s c  dsl & all <is> back
`},
	} {
		var b strings.Builder
		timeline := outage()
		timeline.Chart(&b, tt.style)
		if got := "\n" + b.String(); got != tt.want {
			t.Errorf("%+v: got%s", tt.style, got)
		}
	}
}

func TestPictureIsWellFormedAndNamesEverything(t *testing.T) {
	r := lab.Report{Scenario: "failover", Variants: []*lab.VariantReport{{Title: "download", Timeline: outage()}, {Title: "no samples"}}}
	var b strings.Builder
	if err := r.WriteSVG(&b); err != nil {
		t.Fatal(err)
	}
	var text strings.Builder
	areas := 0
	for d := xml.NewDecoder(strings.NewReader(b.String())); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatalf("%v in\n%s", err, b.String())
		}
		switch e := token.(type) {
		case xml.CharData:
			text.Write(e)
		case xml.StartElement:
			if e.Name.Local == "polygon" {
				areas++
			}
		}
	}
	for _, want := range []string{
		"synbond lab: failover", "download", "dsl", "lte", "client", "Mbit/s", "3 s", "60", "dsl & all <is> back", "no samples",
	} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("the picture lacks %q", want)
		}
	}
	if areas != 2 {
		t.Errorf("%d areas for 2 lines", areas)
	}
	if strings.Contains(b.String(), fmt.Sprint(math.NaN())) {
		t.Error("a coordinate is no number")
	}
}
