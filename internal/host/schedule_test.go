//go:build linux

package host

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/ruleset"
)

// looks returns the looks until end, as a box takes them that hears of changes at these times.
func looks(s *Schedule, end time.Duration, changes ...time.Duration) (settings, everything []time.Duration) {
	for {
		scope, at := s.Next()
		if len(changes) > 0 && changes[0] <= at {
			s.Changed(changes[0])
			changes = changes[1:]
			continue
		}
		if at > end {
			return settings, everything
		}
		if s.Looked(at, scope); scope == Everything {
			everything = append(everything, at)
		} else {
			settings = append(settings, at)
		}
	}
}

func TestSettingsAreCheckedMoreOftenThanTheRest(t *testing.T) {
	var s Schedule
	settings, everything := looks(&s, 2*everythingEvery)
	if want := []time.Duration{everythingEvery, 2 * everythingEvery}; !slices.Equal(everything, want) {
		t.Errorf("looks at everything at %v, want %v", everything, want)
	}
	if want := int(2*everythingEvery/settingsEvery) - 2; len(settings) != want {
		t.Errorf("looks at settings at %v, want %d of them", settings, want)
	}
}

func TestChangesAreCheckedSoonAndTogether(t *testing.T) {
	var s Schedule
	first := 6 * time.Second
	_, everything := looks(&s, 10*time.Second, first, first+changePause/2, first+changePause+1, first+changeGap)
	if want := []time.Duration{first + changePause, first + changePause + changeGap}; !slices.Equal(everything, want) {
		t.Errorf("looks at %v, want %v", everything, want)
	}
}

func TestMachineThatChangesWithoutEventsIsCheckedOften(t *testing.T) {
	var s Schedule
	s.Quiet(true)
	if _, everything := looks(&s, everythingEvery); len(everything) != int(everythingEvery/quietEvery) {
		t.Errorf("looks at everything at %v", everything)
	}
	d := router()
	if (Survey{Surroundings: d}).Quiet() {
		t.Error("a machine without the older iptables is said to be quiet")
	}
	d.files = map[string]string{"/proc/thread-self/net/ip6_tables_names": "filter\n"}
	if !(Survey{Surroundings: d}).Quiet() {
		t.Error("a machine with the older iptables is not said to be quiet")
	}
}

// counted counts what is read of a machine.
type counted struct {
	double
	filters, networks, sysctls int
}

func (c *counted) Filter() (Filter, error)           { c.filters++; return c.double.Filter() }
func (c *counted) Network() (Network, error)         { c.networks++; return c.double.Network() }
func (c *counted) Sysctl(key string) (string, error) { c.sysctls++; return c.double.Sysctl(key) }

func TestLookAtSettingsReadsNoRulesAndNoLinks(t *testing.T) {
	d := &counted{double: router()}
	s := Survey{Surroundings: d, Running: true, Plain: []string{"lan"}, Paths: []paths.Path{{Name: "mobile", Interface: "lte"}}}
	for range 3 {
		s.Check(Settings)
	}
	if d.filters != 0 || d.networks != 0 || d.sysctls == 0 {
		t.Errorf("%d looks at rules, %d at links, %d settings read", d.filters, d.networks, d.sysctls)
	}
	if s.Check(Everything); d.filters == 0 || d.networks == 0 {
		t.Errorf("a look at everything leaves something out: %d looks at rules, %d at links", d.filters, d.networks)
	}
}

func TestCheckThatPanicsFindsNothing(t *testing.T) {
	d := router()
	d.hook = func(ruleset.Hook, ruleset.Packet) ruleset.Outcome { panic("odd rule") }
	s := Survey{Surroundings: d, Running: true, Plain: []string{"lan"}, Paths: []paths.Path{{Name: "mobile", Interface: "lte"}}}
	all := s.Check(Everything)
	if len(all) != len(checks) {
		t.Fatalf("%d results of %d checks", len(all), len(checks))
	}
	i := slices.IndexFunc(all, func(r Result) bool { return r.Name == "firewall" })
	if r := all[i]; r.Err == nil || !strings.Contains(r.Err.Error(), "odd rule") || len(r.Findings) > 0 {
		t.Errorf("result %+v", r)
	}
}
