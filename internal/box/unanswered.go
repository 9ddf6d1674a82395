//go:build linux

package box

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/paths"
)

// unansweredAfter is the time without an answer to probes after which the box says so.
const unansweredAfter = 5 * time.Second

// reportUnanswered shows over which paths the HAG does not answer probes. A filter may
// take UDP and leave TCP alone: such a path is used, unless it has been silent since.
func (b *Box) reportUnanswered(hag paths.HAGState, all []paths.Status, now time.Time) {
	if b.upstreams != nil {
		return // nobody is to answer probes
	}
	lasts := func(since time.Time) bool { return !since.IsZero() && now.Sub(since) >= unansweredAfter }
	var found []host.Finding
	for i, s := range all {
		p := &b.set.Paths[i]
		refused := slices.DeleteFunc(slices.Clone(p.Join), func(j netip.AddrPort) bool {
			return j.Addr().Is4() && !lasts(s.Refused4) || j.Addr().Is6() && !lasts(s.Refused6)
		})
		if len(refused) > 0 {
			found = append(found, refusedProbes(hag, p, refused))
			continue
		}
		if !lasts(s.Waiting) || len(p.Join) == 0 {
			continue
		}
		f := host.ProbesUnanswered.Finding("", "no answer to probes at "+portsOf("UDP", p.Join)).On(p.Name)
		f.Consequence = "the path is down"
		switch {
		case s.Up && s.ByTCP:
			f.Consequence = "TCP is answered there, so the path is used, and the box notices within seconds when it goes silent"
		case s.Up:
			f.Consequence = "the path is used as long as its link is up, and the box does not notice when it goes silent"
		}
		found = append(found, f)
	}
	b.findings.Report("probes", found...)
}

// refusedProbes returns the finding that join addresses of a path refuse probes. A HAG that is
// stopped, and a firewall that rejects UDP, answer alike.
func refusedProbes(hag paths.HAGState, p *paths.Path, at []netip.AddrPort) host.Finding {
	f := host.ProbesRefused.Finding("", portsOf("UDP", at)+" is unreachable (ICMP): no box takes probes there, or a firewall rejects UDP").On(p.Name)
	switch {
	case hag == paths.HAGDown:
		f.Consequence = "new connections pass and are not bonded"
	case len(at) < len(p.Join):
		f.Consequence = "no subflows of that address family on the path"
	default:
		f.Consequence = "the path is used as long as its link is up, and the box does not notice when it goes silent"
	}
	return f
}

// portsOf names ports of a protocol, and the addresses that they belong to.
func portsOf(protocol string, at []netip.AddrPort) string {
	var words []string
	for _, j := range at {
		text := fmt.Sprintf("%s port %d of %s", protocol, j.Port(), j.Addr())
		if i := len(words) - 1; i >= 0 && strings.HasPrefix(words[i], fmt.Sprintf("%s port %d of ", protocol, j.Port())) {
			words[i] += " and " + j.Addr().String()
			continue
		}
		words = append(words, text)
	}
	return strings.Join(slices.Compact(words), ", ")
}
