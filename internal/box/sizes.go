//go:build linux

package box

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
)

// This file acts on what the probes find out about the size of packets: subflows of a
// path that loses large ones must not send any.

// setClamps installs the rules that lower the MSS on paths.
func (b *Box) setClamps(clamps []nfq.Clamp) error {
	b.installed.mu.Lock()
	defer b.installed.mu.Unlock()
	b.installed.clamps = clamps
	if b.installed.aside.Load() {
		return nil
	}
	return b.installRulesLocked()
}

// clamps returns what lowers the MSS on the paths with these statuses.
func (c *Config) clamps(all []paths.Status) (out []nfq.Clamp) {
	for i, s := range all {
		for _, at := range []struct {
			family netip.Addr
			limit  int
		}{{netip.IPv6Unspecified(), s.Limit6}, {netip.IPv4Unspecified(), s.Limit4}} {
			if at.limit > 0 {
				out = append(out, nfq.Clamp{Interface: c.Paths[i].Interface, Family: at.family, Packet: at.limit})
			}
		}
	}
	return out
}

// fitSizes lowers the MSS on paths that turn out to lose large packets, and ends their
// subflows, which have a larger one: they are opened anew.
func (b *Box) fitSizes(before, now []paths.Status) {
	clamps := b.cfg.clamps(now)
	if slices.Equal(clamps, b.cfg.clamps(before)) {
		return
	}
	var found []host.Finding
	for _, c := range clamps {
		found = append(found, b.largeLost(c))
	}
	b.findings.Report("sizes of packets", found...)
	if err := b.steering.paths.Clamp(clamps); err != nil {
		b.cfg.Log.Error("the MSS on a path cannot be lowered", "err", err)
		return
	}
	for i := range now {
		if shrunk(before[i].Limit6, now[i].Limit6) || shrunk(before[i].Limit4, now[i].Limit4) {
			b.endPath(i)
		}
	}
}

// shrunk reports whether a limit is lower than one before. 0 is no limit.
func shrunk(before, now int) bool { return now > 0 && (before == 0 || now < before) }

// largeLost describes a path that loses large packets.
func (b *Box) largeLost(c nfq.Clamp) host.Finding {
	i := slices.IndexFunc(b.cfg.Paths, func(p paths.Path) bool { return p.Interface == c.Interface })
	family := "IPv6"
	if c.Family.Is4() {
		family = "IPv4"
	}
	text := fmt.Sprintf("%s packets of more than %d bytes are lost", family, c.Packet)
	remedy := fmt.Sprintf("ip link set %s mtu %d, or let ICMP errors about large packets through", c.Interface, c.Packet)
	return host.LargePacketsLost.Finding(family, text).On(b.cfg.Paths[i].Name).With(remedy)
}

// sizeReason returns the reason to show for a path that loses large packets.
func sizeReason(s paths.Status) string {
	switch {
	case s.Limit6 > 0 && s.Limit4 > 0:
		return fmt.Sprintf("packets of more than %d bytes (IPv6), %d bytes (IPv4) are lost: MSS lowered", s.Limit6, s.Limit4)
	case s.Limit6 > 0:
		return fmt.Sprintf("IPv6 packets of more than %d bytes are lost: MSS lowered", s.Limit6)
	case s.Limit4 > 0:
		return fmt.Sprintf("IPv4 packets of more than %d bytes are lost: MSS lowered", s.Limit4)
	}
	return ""
}
