//go:build linux

package box

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/internal/probe"
)

// kernelWindow is the initial window of Linux, in segments (RFC 6928; TCP_INIT_CWND).
const kernelWindow = 10

// transport returns the configured settings of multipath legs, and the kernel's
// where none is configured.
func (c *Config) transport() (t api.Transport, err error) {
	t = api.Transport{
		CongestionControl: c.CongestionControl,
		InitialWindow:     cmp.Or(c.InitialWindow, kernelWindow),
	}
	if t.CongestionControl == "" {
		if t.CongestionControl, err = host.ReadSysctl("net/ipv4/tcp_congestion_control"); err != nil {
			return t, err
		}
	}
	if t.ReceiveBuffer, err = host.ReadSizes(host.ReceiveBuffer); err != nil {
		return t, err
	}
	t.SendBuffer, err = host.ReadSizes(host.SendBuffer)
	return t, err
}

// paths describes the paths as they are now.
func (b *Box) paths() api.Paths {
	now := time.Now()
	out := api.Paths{Role: string(b.cfg.Role), Transport: b.transport, Findings: b.knownFindings(), Kept: b.kept()}
	blocked := b.blockedFamilies()
	for i, p := range b.set.Paths {
		out.Paths = append(out.Paths, api.Path{Name: p.Name, Interface: p.Interface, Blocked: blocked[i]})
	}
	if b.responder != nil {
		for _, p := range b.responder.Peers() {
			out.Peers = append(out.Peers, b.peer(p, now))
		}
	}
	if b.steering == nil {
		return out
	}
	v, counters, lagging := b.steering.view.Load(), b.steering.kernel.manager.CountersByPath(), b.steering.kernel.manager.Lagging()
	if b.upstreams != nil {
		out.Upstreams = b.upstreams.describe()
	}
	out.HAG = &api.HAG{State: v.hag.State.String(), Reason: v.hag.Reason, SinceMS: now.Sub(v.hag.Since).Milliseconds()}
	if v.hag.Instance != 0 {
		out.HAG.Instance = boxID(v.hag.Instance)
	}
	for i, s := range v.statuses {
		at := b.pathState(b.set.Paths[i], s, now)
		at.Use, at.RateUp, at.RateDown, at.Subflows = v.desired[i].String(), v.rates[i].Up, v.rates[i].Down, counters[i].Open
		if s.Up {
			all := []string{cmp.Or(at.Reason, v.refusals[i].Reason), s.FamilyReason(), sizeReason(s)}
			at.Encapsulation = b.steering.encapsulation.state(i, v.encaps[i].Open)
			at.Reason = strings.Join(slices.DeleteFunc(all, func(r string) bool { return r == "" }), "; ")
		}
		for _, d := range lagging[i] {
			at.Lagging = append(at.Lagging, d.String())
		}
		out.Paths[i].PathState = at
	}
	return out
}

func (b *Box) pathState(p paths.Path, s paths.Status, now time.Time) *api.PathState {
	out := &api.PathState{
		State: upOrDown(s.Up), Reason: s.Reason, SinceMS: now.Sub(s.Since).Milliseconds(), Mode: string(p.Mode),
		Address4: s.Addr4, Address6: s.Addr6, Reason4: s.Reason4, Reason6: s.Reason6, Join: p.Join, Seen4: s.Seen4, Seen6: s.Seen6,
		LargestPacket4: s.Limit4, LargestPacket6: s.Limit6,
		FurtherWindow4: b.furtherWindow(s.Addr4, p.Join), FurtherWindow6: b.furtherWindow(s.Addr6, p.Join),
		RTTUS: s.RTT.Microseconds(), Loss: s.Loss, Probed: s.Probed, BytesUp: s.BytesSent, BytesDown: s.BytesReceived,
	}
	if p.Quota.Bytes > 0 {
		out.Quota = &api.Quota{Limit: p.Quota.Bytes, Used: b.steering.usage.Used(p.Name), Until: p.Quota.End(now)}
	}
	return out
}

// furtherWindow returns the initial window of a further subflow, in segments, between
// an address and the address of its family at the other end.
func (b *Box) furtherWindow(at netip.Addr, ends []netip.AddrPort) int {
	i := slices.IndexFunc(ends, func(e netip.AddrPort) bool { return e.Addr().BitLen() == at.BitLen() })
	switch {
	case i < 0:
		return 0
	case b.window == nil:
		return kernelWindow
	case b.cfg.Role == HAG:
		return b.window.Further(ends[i].Addr(), at)
	}
	return b.window.Further(at, ends[i].Addr())
}

func (b *Box) peer(p probe.Peer, now time.Time) api.Peer {
	out := api.Peer{Box: boxID(p.Box), HeardMS: now.Sub(p.Heard).Milliseconds()}
	for _, at := range p.Paths {
		out.Paths = append(out.Paths, api.PeerPath{
			Index: at.Index, Address: at.Addr, HeardMS: now.Sub(at.Heard).Milliseconds(), State: upOrDown(!at.Down),
			FurtherWindow: b.furtherWindow(at.Addr, b.cfg.Join),
		})
	}
	return out
}

// boxID formats the random number of a box's run.
func boxID(n uint64) string { return fmt.Sprintf("%016x", n) }

func upOrDown(up bool) string {
	if up {
		return "up"
	}
	return "down"
}
