//go:build linux

package box

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/state"
)

// writeDump writes an [api.Dump] of the flows that the filter selects. It does so flow by
// flow: a million of them in one piece of memory would stop the whole process for as long as
// that takes to grow.
func (b *Box) writeDump(w io.Writer, filter flowFilter) error {
	out := bufio.NewWriter(w)
	values := json.NewEncoder(out)
	totals := b.totals()
	fmt.Fprintf(out, `{"role":%q,"flows":[`, b.cfg.Role) // a write that failed fails the next ones, too
	separator := ""
	for f := range b.described(filter, &totals) {
		out.WriteString(separator)
		if err := values.Encode(f); err != nil {
			return err
		}
		separator = ","
	}
	out.WriteString(`],"totals":`)
	if err := values.Encode(totals); err != nil {
		return err
	}
	if learnt := b.learnt(); filter.All && len(learnt) > 0 {
		out.WriteString(`,"learnt":`)
		if err := values.Encode(learnt); err != nil {
			return err
		}
	}
	if obstacles := b.obstacles(); filter.All && len(obstacles) > 0 {
		out.WriteString(`,"obstacles":`)
		if err := values.Encode(obstacles); err != nil {
			return err
		}
	}
	out.WriteString("}\n")
	return out.Flush()
}

// described yields the flows of a dump. It adds the bytes of all live flows to the totals,
// those of flows that it leaves out as well.
func (b *Box) described(filter flowFilter, totals *api.Totals) iter.Seq[api.Flow] {
	return func(yield func(api.Flow) bool) {
		traits := sync.OnceValue(b.traits)
		for f := range b.core.Flows() {
			if f.State == state.Relaying {
				up, down := b.moved(f.ID)
				totals.BytesUp += up
				totals.BytesDown += down
				if f.Asked != nil {
					addUser(totals, f.Asked.User, up, down)
				}
			}
			if filter.selects(&f) && !yield(b.describe(f, b.now(), traits())) {
				return
			}
		}
	}
}

// addUser adds a live flow to the totals of its user.
func addUser(totals *api.Totals, user string, up, down uint64) {
	of := totals.Gateway.Users[user]
	of.Live++
	of.BytesUp += up
	of.BytesDown += down
	totals.Gateway.Users[user] = of
}

// traits returns the traits of subflows that the dump cannot see otherwise.
func (b *Box) traits() map[mptcp.Ends]mptcp.Trait {
	traits, err := mptcp.Traits(b.set.Shared)
	if err != nil {
		b.cfg.Log.Warn("the dump cannot show backup subflows", "err", err)
	}
	return traits
}

// moved returns the bytes that a flow has carried.
func (b *Box) moved(id state.ID) (up, down uint64) {
	c, ok := b.conns.get(id)
	if !ok {
		return 0, 0
	}
	return c.BytesUp(), c.BytesDown()
}

// learnt describes the destinations known to action learn.
func (b *Box) learnt() []api.Learnt {
	now := b.now()
	var out []api.Learnt
	for e := range b.core.Learnt(now) {
		out = append(out, api.Learnt{Prefix: e.Prefix, MPTCP: e.Capable, ExpiresMS: (e.Expires - now).Milliseconds()})
	}
	return out
}

func (b *Box) totals() api.Totals {
	t := b.core.Totals()
	out := api.Totals{
		UptimeMS: b.now().Milliseconds(), Live: t.LiveByName(), Entered: t.EnteredByName(),
		Reasons: t.ReasonsByName(), Rules: t.Rules, Learnt: b.core.LearntLen(),
		BytesUp: b.bytesUp.Load(), BytesDown: b.bytesDown.Load(), Queue: b.queueTotals(), Translated: b.translated(),
		Findings: b.findingsByID(),
	}
	if b.steering != nil {
		out.Subflows = api.SubflowTotals(b.steering.kernel.manager.Counters())
	}
	if b.gateway != nil {
		b.gateway.totals(&out)
	}
	if b.cfg.Record != nil {
		out.Recording = new(b.recorder.Totals())
	}
	return out
}

func (b *Box) describe(f state.Flow, now time.Duration, traits map[mptcp.Ends]mptcp.Trait) api.Flow {
	out := api.Flow{
		Client: f.Key.Client(), Server: f.Server(), Side: f.Side.String(),
		Action: f.Action.String(), State: f.State.String(), Reason: f.Reason.String(), Rule: f.Rule,
		AgeMS: f.Age(now).Milliseconds(), SetupUS: f.Setup.Microseconds(), Subflows: []api.Subflow{},
		Recording: b.recorder.File(f.Key),
	}
	if f.Asked != nil {
		out.User, out.At = f.Asked.User, f.Key.Server()
		if name := f.Asked.Name; name != "" {
			out.Name = fmt.Sprintf("%s:%d", name, f.Asked.Server.Port())
		}
	}
	conn, ok := b.conns.get(f.ID)
	if !ok {
		return out
	}
	out.BytesUp, out.BytesDown = conn.BytesUp(), conn.BytesDown()
	if from := conn.Local(); from.IsValid() && from != out.Client {
		out.DialedFrom = from
	}
	info, ok := conn.Info()
	if !ok {
		return out
	}
	out.MPTCP, out.Token = info.MPTCP, info.Token
	for _, s := range info.Subflows {
		trait := traits[mptcp.Ends{Local: s.Local, Remote: s.Remote}]
		sub := api.Subflow{
			Local: s.Local, Remote: s.Remote, RTTUS: s.RTT.Microseconds(),
			BytesSent: s.BytesSent, BytesReceived: s.BytesReceived, Retransmitted: s.Retransmitted,
			Backup: trait.Backup,
		}
		_, sub.Encapsulated = b.set.Encapsulated(s.Local.Addr(), s.Remote.Addr())
		if p := b.set.Of(s.Local, s.Remote, trait.Interface); p != nil {
			sub.Path = p.Name
		}
		out.Subflows = append(out.Subflows, sub)
	}
	return out
}
