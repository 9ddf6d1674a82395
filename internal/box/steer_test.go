//go:build linux

package box

import (
	"net/netip"
	"reflect"
	"testing"

	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/state"
)

func TestDialPolicyFollowsTheHAGAndTheFirstPath(t *testing.T) {
	a6, a4 := netip.MustParseAddr("2001:db8::7"), netip.MustParseAddr("192.0.2.7")
	up := paths.Status{Up: true, Addr6: a6, Addr4: a4}
	only4 := paths.Status{Up: true, Addr4: a4}
	only6 := paths.Status{Up: true, Addr6: a6}
	down := paths.Status{Addr6: a6, Addr4: a4}
	const no, backup, normal = paths.Closed, paths.Backup, paths.Normal
	for _, c := range []struct {
		name string
		hag  paths.HAGState
		down core.Mode // what to do while the first path is down
		all  []paths.Status
		uses []paths.DesiredState
		want core.DialPolicy
	}{
		{"all is well", paths.HAGUp, core.NoBox, []paths.Status{up, up}, []paths.DesiredState{normal, normal}, core.DialPolicy{}},
		{"a HAG that was never heard of may be there", paths.HAGUnknown, core.NoBox, []paths.Status{up, up}, []paths.DesiredState{normal, normal}, core.DialPolicy{}},
		{"another path than the first is down", paths.HAGUp, core.OwnSource, []paths.Status{up, down}, []paths.DesiredState{normal, no}, core.DialPolicy{Down: 1 << 1}},
		{"the HAG is down", paths.HAGDown, core.OwnSource, []paths.Status{up, up}, []paths.DesiredState{normal, normal}, core.DialPolicy{Mode: core.NoBox, Reason: state.HAGDown}},
		{"the first path is down", paths.HAGUp, core.NoBox, []paths.Status{down, up}, []paths.DesiredState{no, normal}, core.DialPolicy{Mode: core.NoBox, Reason: state.FirstPathDown, Down: 1}},
		{
			"another takes its place", paths.HAGUp, core.OwnSource, []paths.Status{down, up, up}, []paths.DesiredState{no, normal, normal},
			core.DialPolicy{Mode: core.OwnSource, Reason: state.FirstPathDown, Sources: [2]core.Source{{Path: 1, Addr: a6, Interface: "b"}, {Path: 1, Addr: a4, Interface: "b"}}, Down: 1},
		},
		{
			"rather than a backup", paths.HAGUp, core.OwnSource, []paths.Status{down, up, up}, []paths.DesiredState{no, backup, normal},
			core.DialPolicy{Mode: core.OwnSource, Reason: state.FirstPathDown, Sources: [2]core.Source{{Path: 2, Addr: a6, Interface: "c"}, {Path: 2, Addr: a4, Interface: "c"}}, Down: 1},
		},
		{
			"each family by itself", paths.HAGUp, core.OwnSource, []paths.Status{down, only4, only6}, []paths.DesiredState{no, normal, normal},
			core.DialPolicy{Mode: core.OwnSource, Reason: state.FirstPathDown, Sources: [2]core.Source{{Path: 2, Addr: a6, Interface: "c"}, {Path: 1, Addr: a4, Interface: "b"}}, Down: 1},
		},
		{
			"none is left", paths.HAGUnknown, core.OwnSource, []paths.Status{down, down}, []paths.DesiredState{no, no},
			core.DialPolicy{Mode: core.OwnSource, Reason: state.FirstPathDown, Down: 1 | 1<<1},
		},
		{
			"the HAG is silent on all", paths.HAGDown, core.OwnSource, []paths.Status{down, down}, []paths.DesiredState{no, no},
			core.DialPolicy{Mode: core.NoBox, Reason: state.HAGDown, Down: 1 | 1<<1},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			cfg := Config{FirstPathDown: c.down, Paths: []paths.Path{{Interface: "a"}, {Interface: "b"}, {Interface: "c"}}}
			got := cfg.dialPolicy(c.hag, c.all, c.uses)
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("%+v, want %+v", got, c.want)
			}
			for _, from := range got.Sources {
				if from.Addr.IsValid() && got.Down.Has(from.Path) {
					t.Errorf("%+v is offered, and down", from)
				}
			}
		})
	}
}
