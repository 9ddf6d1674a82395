//go:build linux

package box

import (
	"net/netip"
	"slices"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/state"
)

// tell logs that a path, or a prefix over a path, begins or ceases to be an obstacle for
// dials.
func (b *Box) tell(n *core.Notice) {
	log := b.cfg.Log.With("path", b.pathName(n.Path), "to", prefixText(n.Prefix))
	switch {
	case n.Over && n.Reason == state.MPTCPBlocked:
		log.Info("SYNs with MP_CAPABLE are answered again")
	case n.Over:
		log.Info("SYN+ACKs come by the box again")
	case n.Reason == state.MPTCPBlocked:
		log.Warn("SYNs with MP_CAPABLE are dropped or rejected: new connections go without MPTCP, and one tries again from time to time")
	default:
		log.Warn("SYN+ACKs do not come by the box, if the servers are up: new connections pass, and one tries again from time to time")
	}
}

// pathName returns the name of a path of the core's.
func (b *Box) pathName(path uint8) string {
	if int(path) < len(b.cfg.Paths) {
		return b.cfg.Paths[path].Name
	}
	return "plain side"
}

// prefixText names the destinations within a prefix.
func prefixText(p netip.Prefix) string {
	switch {
	case p.Bits() > 0:
		return p.String()
	case p.Addr().Is4():
		return "all of IPv4"
	}
	return "all of IPv6"
}

// obstacles describes the destinations to which dials have failed.
func (b *Box) obstacles() (all []api.Obstacle) {
	now := b.now()
	for _, o := range b.core.Obstacles() {
		at := api.Obstacle{Prefix: o.Prefix, Reason: o.Reason.String(), RetryMS: max(0, (o.Retry - now).Milliseconds())}
		if o.Path != core.PlainSide {
			at.Path = b.pathName(o.Path)
		}
		all = append(all, at)
	}
	return all
}

// blockedFamilies returns, by path, the address families for which the whole path is an
// obstacle.
func (b *Box) blockedFamilies() [][]string {
	all := make([][]string, len(b.cfg.Paths))
	for _, o := range b.core.Obstacles() {
		if o.Prefix.Bits() > 0 || int(o.Path) >= len(all) {
			continue
		}
		family := "IPv6"
		if o.Prefix.Addr().Is4() {
			family = "IPv4"
		}
		all[o.Path] = append(all[o.Path], family)
	}
	for _, families := range all {
		slices.Sort(families)
	}
	return all
}
