//go:build linux

package nfq_test

import (
	"net/netip"
	"testing"

	"github.com/google/nftables"
	"github.com/google/nftables/binaryutil"
	"github.com/google/nftables/expr"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/nfq"
)

// TestJoinsAndOwnSourcesStayTracked counts the untracked packets of a connection over a
// path.
func TestJoinsAndOwnSourcesStayTracked(t *testing.T) {
	for _, c := range []struct {
		name      string
		own, join bool // from the CPE's own address; to a join address
		mark      nfq.Mark
		tracked   bool
	}{
		{"the first subflow", false, false, nfq.PathSocket, false},
		{"a join", true, true, nfq.PathSocket, true},
		{"from the box's own source", true, false, nfq.OwnSocket, true},
		{"to another port than the join address", true, false, nfq.PathSocket, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := quiet(t)
			r, client := rules, netlab.Client6
			if c.own {
				client = b.Lines[0].CPE6
			}
			if c.join {
				r.Joins = []netip.AddrPort{netip.MustParseAddrPort(b.addr)}
			}
			check(t, b.CPE.Do(r.Install))
			check(t, b.CPE.Do(routes(unix.AF_INET6).Install))
			untracked := countUntracked(t, b.CPE)
			b.leg(c.mark, client)
			in, out := untracked("input"), untracked("output")
			if c.tracked && in+out > 0 {
				t.Errorf("%d packets in and %d out are not tracked", in, out)
			}
			if !c.tracked && (in == 0 || out == 0) {
				t.Errorf("%d packets in and %d out are not tracked, want some each way", in, out)
			}
		})
	}
}

// countUntracked counts the TCP packets that a host receives and sends untracked.
func countUntracked(t *testing.T, h *netlab.Host) (count func(chain string) uint64) {
	t.Helper()
	table := &nftables.Table{Name: "untracked", Family: nftables.TableFamilyINet}
	rule := []expr.Any{
		&expr.Meta{Key: expr.MetaKeyL4PROTO, Register: 1},
		&expr.Cmp{Op: expr.CmpOpEq, Register: 1, Data: []byte{unix.IPPROTO_TCP}},
		&expr.Ct{Key: expr.CtKeySTATE, Register: 1},
		&expr.Bitwise{
			SourceRegister: 1, DestRegister: 1, Len: 4,
			Mask: binaryutil.NativeEndian.PutUint32(expr.CtStateBitUNTRACKED), Xor: make([]byte, 4),
		},
		&expr.Cmp{Op: expr.CmpOpNeq, Register: 1, Data: make([]byte, 4)},
		&expr.Counter{},
	}
	check(t, h.Do(func() error {
		c, err := nftables.New()
		if err != nil {
			return err
		}
		c.AddTable(table)
		for name, hook := range map[string]*nftables.ChainHook{"input": nftables.ChainHookInput, "output": nftables.ChainHookOutput} {
			chain := c.AddChain(&nftables.Chain{Name: name, Table: table, Type: nftables.ChainTypeFilter, Hooknum: hook, Priority: nftables.ChainPriorityFilter})
			c.AddRule(&nftables.Rule{Table: table, Chain: chain, Exprs: rule})
		}
		return c.Flush()
	}))
	return func(chain string) (packets uint64) {
		t.Helper()
		check(t, h.Do(func() error {
			c, err := nftables.New()
			if err != nil {
				return err
			}
			rules, err := c.GetRules(table, &nftables.Chain{Name: chain})
			if err != nil {
				return err
			}
			packets = rules[0].Exprs[len(rule)-1].(*expr.Counter).Packets
			return nil
		}))
		return packets
	}
}
