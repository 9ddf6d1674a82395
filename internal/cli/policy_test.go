package cli

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/spf13/pflag"

	"github.com/synbond/synbond/internal/box"
)

func TestRulesThatAreReadAgainMeanThePathsOfTheRunningBox(t *testing.T) {
	const dsl, lte = "[[path]]\ninterface = \"dsl\"\n", "[[path]]\ninterface = \"lte\"\n"
	const rule = "[[rule]]\npaths = [\"dsl\"]\naction = \"relay\"\n"
	file := filepath.Join(t.TempDir(), "box.toml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	var s settings
	flags := pflag.NewFlagSet("", pflag.ContinueOnError)
	s.bind(flags, box.CPE)
	said := s
	write("end_to_end_dscp = 43\n" + dsl + lte + rule)
	if err := s.merge(file, flags); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, text string }{
		{"the same", "end_to_end_dscp = 43\n" + dsl + lte + rule},
		{"paths in another order", "end_to_end_dscp = 7\n" + lte + dsl + rule},
	} {
		write(c.text)
		next := said
		if err := next.mergeAgain(file, flags, &s); err != nil {
			t.Fatal(err)
		}
		p, err := next.policy()
		if err != nil {
			t.Fatal(err)
		}
		if got := p.Rules[0].Subflows.Paths; got != 1 || p.EndToEnd != 43 {
			t.Errorf("%s: paths %b and DSCP %d, want 1 and 43", c.name, got, p.EndToEnd)
		}
	}
}
