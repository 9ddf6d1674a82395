//go:build linux

package lab

import (
	"net/netip"
	"strings"
	"testing"
	"time"
)

// usual returns an experience of a network in which nothing is wrong.
func usual() experience {
	return experience{
		reached: [2][]string{{openPort, "refused", openPort, "refused"}, {openPort, "refused", openPort, "refused"}},
		seen:    [2]netip.Addr{families[0].client, families[1].client},
		connect: [2]time.Duration{50 * time.Millisecond, 50 * time.Millisecond},
		goodput: [2]float64{18 * mbit, 18 * mbit},
	}
}

func TestVerdictOnANeighbour(t *testing.T) {
	closed := func(e *experience) { e.reached[1] = []string{openPort, "refused", "refused", "refused"} }
	for _, c := range []struct {
		name          string
		without, with func(*experience)
		said          []string
		verdict       string
		ok            bool
	}{
		{"alike", nil, nil, nil, "as without", true},
		{"noise", nil, func(e *experience) { e.goodput[0] *= 0.95; e.connect[0] += 60 * time.Millisecond }, nil, "as without", true},
		{"faster", nil, func(e *experience) { e.goodput[1] *= 2 }, nil, "better", true},
		{"slower", nil, func(e *experience) { e.goodput[1] /= 2 }, nil, "SILENTLY WORSE", false},
		{"slower, and said", nil, func(e *experience) { e.goodput[1] /= 2 }, []string{"cpe: lte"}, "said so", true},
		{"slow to connect", nil, func(e *experience) { e.connect[1] = time.Second }, nil, "SILENTLY WORSE", false},
		{"closed", nil, closed, nil, "SILENTLY WORSE", false},
		{"opened", closed, nil, []string{"cpe: something"}, "LETS THROUGH", false},
		{"other address", nil, func(e *experience) { e.seen[1] = netip.MustParseAddr("192.0.2.1") }, nil, "SILENTLY WORSE", false},
		{"stands still", func(e *experience) { e.waited = "goes on" }, func(e *experience) { e.waited = "stands still" }, nil, "SILENTLY WORSE", false},
	} {
		t.Run(c.name, func(t *testing.T) {
			x := &run{r: &Report{OK: true, Figures: make(map[string]float64)}}
			x.judge(neighbour{name: "nobody"}, usual(), usual(), []string{"cpe: as always"})
			without, with := usual(), usual()
			if c.without != nil {
				c.without(&without)
			}
			if c.with != nil {
				c.with(&with)
			}
			x.judge(neighbour{name: c.name}, without, with, append(c.said, "cpe: as always"))
			table := x.r.neighboursTable().table
			if row := table[len(table)-1]; row[0] != c.name || row[3] != c.verdict {
				t.Errorf("the row is %q, want the verdict %q", row, c.verdict)
			}
			if x.r.OK != c.ok {
				t.Errorf("the report says ok: %v, want %v", x.r.OK, c.ok)
			}
		})
	}
}

func TestExperienceIsPrintedByOutcome(t *testing.T) {
	e := usual()
	if got, want := e.String(), "open 5001 5004 refused 5002 5005; 18.0 down, 18.0 up"; got != want {
		t.Errorf("%q, want %q", got, want)
	}
	e.reached[1][0] = "no answer"
	if got := e.String(); !strings.Contains(got, "IPv6 open 5001") || !strings.Contains(got, "IPv4 no answer 5001") {
		t.Errorf("%q does not name the families", got)
	}
}
