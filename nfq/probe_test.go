//go:build linux

package nfq_test

import (
	"testing"

	"github.com/synbond/synbond/nfq"
)

func TestProbeSucceedsWhereTheRulesInstall(t *testing.T) {
	h := newHost(t)
	check(t, h.Do(rules.Install))
	check(t, h.Do(func() error { return nfq.Remove(rules.Role) }))
	for _, f := range nfq.Features() {
		if f.Name == "" || f.Config == "" {
			t.Errorf("feature %+v has no name or no kernel option", f)
		}
		if err := h.Do(f.Probe); err != nil {
			t.Errorf("%s: %v", f.Name, err)
		}
	}
	if got := tables(t, h); len(got) != 0 {
		t.Errorf("tables %v are left", got)
	}
}
