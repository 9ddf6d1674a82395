//go:build linux

package tests

import (
	"bytes"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// What is in a box's way it finds, names, and forgets when it is mended.

// findings returns the IDs of a box's findings.
func findings(t *testing.T, b *netlab.Box) (ids []string) {
	t.Helper()
	p, err := b.Paths(within(t, 5*time.Second))
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range p.Findings {
		ids = append(ids, f.ID)
	}
	return ids
}

// doctor returns the lines of doctor on a host that are not ok, as "ID status".
func doctor(t *testing.T, h *netlab.Host, flags ...string) (lines []string) {
	t.Helper()
	program := synbond()
	cmd := h.Command(program.Path, append([]string{"doctor", "--json"}, flags...)...)
	cmd.Env = program.Env
	var out bytes.Buffer
	cmd.Stdout = &out
	_ = h.Run(cmd) // it fails where a box cannot run
	var d struct {
		Findings []struct{ Status, Name, ID, Source string }
	}
	if err := json.Unmarshal(out.Bytes(), &d); err != nil {
		t.Fatalf("doctor: %v: %s", err, out.String())
	}
	for _, f := range d.Findings {
		if f.Status != "ok" {
			lines = append(lines, strings.TrimSpace(f.ID+" "+f.Source))
		}
	}
	return lines
}

// wantFinding makes a box find an obstacle while it runs, and forget it when it is mended.
// Each function is called once; undo may be nil for obstacles that end by themselves.
func (p *pair) wantFinding(t *testing.T, b *netlab.Box, id string, make, undo func()) {
	t.Helper()
	found := func() bool { return slices.Contains(findings(t, b), id) }
	if found() {
		t.Fatalf("%s is found before", id)
	}
	make()
	eventually(t, b.Role+" finds "+id, found)
	if h := p.routers()[strings.ToUpper(b.Role)]; !slices.ContainsFunc(doctor(t, h), func(l string) bool { return strings.HasPrefix(l, id) }) {
		t.Errorf("doctor does not find %s", id)
	}
	if !(dump(t, b).Totals.Findings[id] > 0) {
		t.Errorf("flows do not show %s", id)
	}
	undo()
	eventually(t, b.Role+" finds "+id+" no longer", func() bool { return !found() })
}

func TestObstaclesAreFoundAndForgotten(t *testing.T) {
	p := neighbours(t)
	for _, b := range []*netlab.Box{p.cpe, p.hag} {
		h := p.routers()[strings.ToUpper(b.Role)]
		for _, c := range []struct{ id, make, undo string }{
			{"not-forwarding", "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1"},
			{"input-drops", "nft add table inet fw; nft add chain inet fw in '{ type filter hook input priority 0; policy drop; }'", "nft delete table inet fw"},
		} {
			t.Run(b.Role+" "+c.id, func(t *testing.T) {
				p.wantFinding(t, b, c.id, func() { admin(t, h, c.make) }, func() { admin(t, h, c.undo) })
			})
		}
	}
}
