//go:build linux

package box

import (
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/state"
)

// manyFallbacks in a row are the network's doing: a single one may be the other host's.
const manyFallbacks = 3

// countFallback looks at a flow that has ended. Its server answered with MP_CAPABLE, if it
// has a token; if it then ran as TCP, something took the options of later packets away
// (RFC 8684, section 3.7). A flow without bytes had no chance to show that.
func (b *Box) countFallback(id state.ID, c connection) {
	if b.steering == nil || b.conns.token(id) == 0 || c.BytesUp()+c.BytesDown() == 0 {
		return
	}
	if info, ok := c.Info(); ok && !info.MPTCP {
		b.fallbacks.Add(1)
	} else {
		b.fallbacks.Store(0)
	}
}

// strippedFindings returns the finding that the network takes MPTCP options away on the
// first path.
func (b *Box) strippedFindings() []host.Finding {
	if b.fallbacks.Load() < manyFallbacks {
		return nil
	}
	return []host.Finding{host.RemovesOptions.Finding("", "the last connections fell back to TCP after a handshake with MPTCP: something on the path removes the options of later packets").On(b.cfg.Paths[0].Name)}
}

// unbondedFindings returns the findings that connections over a path are answered without MPTCP,
// although the HAG is there.
func (b *Box) unbondedFindings(hag paths.HAGState) (all []host.Finding) {
	if hag != paths.HAGUp || b.upstreams != nil {
		return nil
	}
	over := b.core.Unbonded()
	for i, p := range b.cfg.Paths {
		if over.Has(uint8(i)) {
			all = append(all, host.NotBonded.Finding("", "the HAG answers probes, and yet the last connections were answered without MPTCP").On(p.Name))
		}
	}
	return all
}
