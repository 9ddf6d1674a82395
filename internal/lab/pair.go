//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// transferTime is the duration of each of the four transfers: the scenario stays
// well below 40 s.
const transferTime = 4 * time.Second

// compare compares the network without and with boxes, and checks it after the boxes
// have stopped, and after they have been killed.
func (x *run) compare(ctx context.Context) error {
	if x.Transfer == 0 {
		x.Transfer = transferTime
	}
	var err error
	if x.r.Without, err = x.n.measure(ctx, x.Transfer, x.saying("without boxes: ")); err != nil {
		return fmt.Errorf("without boxes: %w", err)
	}
	before, err := x.snapshot()
	if err != nil {
		return err
	}
	if err := errors.Join(x.n.CPE.AddFirewall(), x.n.HAG.AddFirewall()); err != nil {
		return err
	}
	x.Say("starting the boxes")
	cpe, hag, err := x.n.StartPair(x.Program, x.dir, x.cpeFlags...)
	if err != nil {
		return err
	}
	if err := x.withBoxes(ctx, cpe); err != nil {
		return errors.Join(fmt.Errorf("with boxes: %w", err), cpe.Stop(), hag.Stop())
	}
	x.Say("stopping the boxes")
	stopped := errors.Join(cpe.Stop(), hag.Stop())
	x.r.check("both boxes stop cleanly", stopped == nil, fmt.Sprint(stopped))
	after, err := x.snapshot()
	if err != nil {
		return err
	}
	after = slices.DeleteFunc(after, func(l string) bool { return strings.HasSuffix(l, "table "+netlab.FirewallTable) })
	x.r.check("and leave nothing behind", slices.Equal(before, after), difference(before, after))
	return x.crash(ctx)
}

func (x *run) saying(prefix string) func(string) { return func(step string) { x.Say(prefix + step) } }

// withBoxes measures the network with boxes and checks the results.
func (x *run) withBoxes(ctx context.Context, cpe *netlab.Box) error {
	links, err := x.n.openTaps()
	defer closeTaps(links)
	if err != nil {
		return err
	}
	r := x.r
	if r.With, err = x.n.measure(ctx, x.Transfer, x.saying("with boxes: ")); err != nil {
		return err
	}
	r.Wires = wiresOf(links, netip.AddrPortFrom(netlab.Server6, trafficPort), netip.AddrPortFrom(netlab.Server4, trafficPort))
	x.checkMeasurements()
	x.checkWires()
	dump, err := cpe.Flows(ctx)
	if err != nil {
		return err
	}
	relayed := dump.Totals.Entered["relaying"]
	r.check("the CPE relayed every connection", relayed >= 2*connects, fmt.Sprintf("%d relayed", relayed))
	var drops uint64
	for _, h := range []*netlab.Host{x.n.CPE, x.n.HAG} {
		d, err := h.FirewallDrops()
		if err != nil {
			return err
		}
		drops += d
	}
	r.check("a firewall that drops invalid packets drops no TCP segment", drops == 0, fmt.Sprintf("%d dropped on CPE and HAG", drops))
	return nil
}

// checkMeasurements compares the client's measurements with and without boxes.
func (x *run) checkMeasurements() {
	r, without, with := x.r, &x.r.Without, &x.r.With
	for i, f := range families {
		ratio := with.Connect[i].Seconds() / without.Connect[i].Seconds()
		r.figure("connect ratio "+f.name, ratio)
		r.check(f.name+": connecting takes no further round trip", ratio < 1.5, fmt.Sprintf("%.3f of the time without boxes", ratio))
		want := f.client
		if f.client.Is4() && x.ownSource4 {
			want = x.n.Lines[0].CPE4
		}
		r.check(fmt.Sprintf("%s: the server sees %s", f.name, want), with.PeerSeen[i] == want, "it saw "+with.PeerSeen[i].String())
		for _, c := range []struct {
			name      string
			then, now attempt
		}{
			{"a refused port is refused", without.Refused[i], with.Refused[i]},
			{"an absent host is unreachable", without.Absent[i], with.Absent[i]},
		} {
			ok := c.then.Errno == c.now.Errno && c.now.Errno != 0
			r.check(f.name+": "+c.name+" as without boxes", ok, fmt.Sprintf("%s, without boxes %s", c.now, c.then))
		}
	}
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		r.figure("goodput "+d.String()+" Mbit/s", with.result(d).Goodput/mbit)
		r.figure("goodput "+d.String()+" of one line Mbit/s", without.result(d).Goodput/mbit)
		least := slices.Min(with.Share[d])
		r.check(d.String()+": every line carries the connection", least >= 0.1, x.shareText(with.Share[d]))
	}
}

// checkWires checks the MPTCP options of the handshakes on each link.
func (x *run) checkWires() {
	for i, w := range x.r.Wires {
		want := netlab.MPJoin
		switch i {
		case 0, len(x.r.Wires) - 1:
			want = netlab.PlainTCP
		case 1:
			want = netlab.MPCapable
		}
		x.r.check(fmt.Sprintf("%s: handshakes are %s", w.Link, want), w.SYN == want && w.SYNACK == want,
			fmt.Sprintf("SYN %s, SYN+ACK %s", w.SYN, w.SYNACK))
	}
}

// crash kills both boxes while they run and connects again.
func (x *run) crash(ctx context.Context) error {
	x.Say("killing the boxes")
	cpe, hag, err := x.n.StartPair(x.Program, x.dir, x.cpeFlags...)
	if err != nil {
		return err
	}
	if err := errors.Join(cpe.Kill(), hag.Kill()); err != nil {
		return err
	}
	for _, f := range families {
		seen, err := netlab.PeerSeen(ctx, x.n.dialer(netip.AddrPortFrom(f.server, trafficPort)))
		x.r.check(f.name+": connections go through dead boxes", err == nil && seen.Addr().Unmap() == f.client, fmt.Sprintf("%v, error %v", seen, err))
	}
	return nil
}

func (x *run) snapshot() ([]string, error) {
	cpe, err := x.n.CPE.Snapshot()
	if err != nil {
		return nil, err
	}
	hag, err := x.n.HAG.Snapshot()
	return append(cpe, hag...), err
}

// difference lists the lines that only one of two snapshots has.
func difference(before, after []string) string {
	var out []string
	for _, l := range before {
		if !slices.Contains(after, l) {
			out = append(out, "gone: "+l)
		}
	}
	for _, l := range after {
		if !slices.Contains(before, l) {
			out = append(out, "new: "+l)
		}
	}
	return strings.Join(out, "; ")
}

func (x *run) shareText(shares []float64) string {
	words := make([]string, len(shares))
	for i, s := range shares {
		words[i] = fmt.Sprintf("%s %.0f %%", x.lines[i].Name, 100*s)
	}
	return strings.Join(words, ", ")
}

func (m *Measurement) result(d netlab.Direction) netlab.Result {
	if d == netlab.Up {
		return m.Up
	}
	return m.Down
}
