//go:build linux

package nfq_test

import (
	"slices"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"

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

// addInput adds an input chain with the policy drop, and a rule that accepts each mark.
func addInput(name string, marks ...nfq.Mark) error {
	c, err := nftables.New()
	if err != nil {
		return err
	}
	table := c.AddTable(&nftables.Table{Family: nftables.TableFamilyINet, Name: "filter"})
	drop := nftables.ChainPolicyDrop
	chain := c.AddChain(&nftables.Chain{
		Name: name, Table: table, Type: nftables.ChainTypeFilter,
		Hooknum: nftables.ChainHookInput, Priority: nftables.ChainPriorityFilter, Policy: &drop,
	})
	for _, m := range marks {
		c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: []expr.Any{
			&expr.Meta{Key: expr.MetaKeyMARK, Register: 1},
			&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: binaryutil.NativeEndian.PutUint32(uint32(m))},
			&expr.Verdict{Kind: expr.VerdictAccept},
		}})
	}
	return c.Flush()
}

func TestDefaultDropsNamesChainsWithoutARuleForTheMark(t *testing.T) {
	h := newHost(t)
	for _, step := range []struct {
		what string
		do   func() error
		want []string
	}{
		{"no firewall", func() error { return nil }, nil},
		{"the box's own rules", rules.Install, nil},
		{"a chain with the mark", func() error { return addInput("marks", nfq.PlainSocket, nfq.Relay) }, nil},
		{"a chain without it", func() error { return addInput("other", nfq.PlainSocket) }, []string{"filter other"}},
	} {
		check(t, h.Do(step.do))
		var got []string
		check(t, h.Do(func() (err error) {
			got, err = nfq.DefaultDrops()
			return err
		}))
		if !slices.Equal(got, step.want) {
			t.Errorf("%s: %v, want %v", step.what, got, step.want)
		}
	}
}
