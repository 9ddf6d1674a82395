package box

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"iter"
	"net/netip"
	"time"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/relay"
	"github.com/synbond/synbond/state"
)

// Dump is the state of a box, as `synbond flows --json` prints it.
type Dump struct {
	Role   Role   `json:"role"`
	Flows  []Flow `json:"flows"`
	Totals Totals `json:"totals"`
	// Learnt is what action learn has found out, in dumps of all flows.
	Learnt []Learnt `json:"learnt,omitempty"`
}

// Learnt says whether a destination answers with MPTCP.
type Learnt struct {
	Prefix    netip.Prefix `json:"prefix"`
	MPTCP     bool         `json:"mptcp"`
	ExpiresMS int64        `json:"expires_ms"` // from now
}

// Flow is one flow of a dump.
type Flow struct {
	Client  netip.AddrPort `json:"client"`
	Server  netip.AddrPort `json:"server"`
	Side    string         `json:"side"` // by which it entered
	Action  string         `json:"action"`
	State   string         `json:"state"`
	Reason  string         `json:"reason"`
	AgeMS   int64          `json:"age_ms"`
	SetupUS int64          `json:"setup_us"` // from the SYN to both legs
	MPTCP   bool           `json:"mptcp"`
	Token   uint32         `json:"token"`
	// DialedFrom is where the onward connection comes from if that is not the client.
	DialedFrom string    `json:"dialed_from,omitempty"`
	BytesUp    uint64    `json:"bytes_up"`
	BytesDown  uint64    `json:"bytes_down"`
	Subflows   []Subflow `json:"subflows"`
	// Recording is the file that has the flow's handshake, while there is one.
	Recording string `json:"recording,omitempty"`
}

// Subflow is one subflow of the multipath leg, from the box's point of view.
type Subflow struct {
	Path          string         `json:"path"`
	Local         netip.AddrPort `json:"local"`
	Remote        netip.AddrPort `json:"remote"`
	Backup        bool           `json:"backup"` // now, for either end
	RTTUS         int64          `json:"rtt_us"`
	BytesSent     uint64         `json:"bytes_sent"`
	BytesReceived uint64         `json:"bytes_received"`
	Retransmitted uint64         `json:"retransmitted"` // of the bytes sent
}

// Totals count what happened since the box started.
type Totals struct {
	UptimeMS  int64             `json:"uptime_ms"`
	Live      map[string]int    `json:"live"`    // live flows by state
	Entered   map[string]uint64 `json:"entered"` // flows that ever came into each state
	Reasons   map[string]uint64 `json:"reasons"` // why flows were passed or ended, and packets let through
	Learnt    int               `json:"learnt"`  // destinations of which it is known whether they speak MPTCP
	BytesUp   uint64            `json:"bytes_up"`
	BytesDown uint64            `json:"bytes_down"`
	Subflows  paths.Counters    `json:"subflows"` // opened by a CPE
	Queue     QueueTotals       `json:"queue"`
	// Recording is there if the box records.
	Recording *RecordingTotals `json:"recording,omitempty"`
}

// writeDump writes a [Dump] of the live flows, and with all also of those that ended
// lately. It does so flow by flow: a million of them in one piece of memory would
// stop the whole process for as long as that takes to grow.
func (b *Box) writeDump(w io.Writer, all bool) error {
	out := bufio.NewWriter(w)
	values := json.NewEncoder(out)
	totals := b.totals()
	fmt.Fprintf(out, `{"role":%q,"flows":[`, b.cfg.Role) // a write that failed fails the next ones, too
	separator := ""
	for f := range b.described(all) {
		out.WriteString(separator)
		if err := values.Encode(f); err != nil {
			return err
		}
		separator = ","
		if f.State == state.Relaying.String() {
			totals.BytesUp += f.BytesUp
			totals.BytesDown += f.BytesDown
		}
	}
	out.WriteString(`],"totals":`)
	if err := values.Encode(totals); err != nil {
		return err
	}
	if learnt := b.learnt(); all && len(learnt) > 0 {
		out.WriteString(`,"learnt":`)
		if err := values.Encode(learnt); err != nil {
			return err
		}
	}
	out.WriteString("}\n")
	return out.Flush()
}

// described yields the flows of a dump.
func (b *Box) described(all bool) iter.Seq[Flow] {
	return func(yield func(Flow) bool) {
		backups, err := paths.Backups()
		if err != nil {
			b.cfg.Log.Warn("which subflows are backups is not known", "err", err)
		}
		for f := range b.core.Table.All() {
			if (all || f.State.Live()) && !yield(b.describe(f, b.now(), backups)) {
				return
			}
		}
	}
}

// learnt describes what action learn has found out.
func (b *Box) learnt() []Learnt {
	now := b.now()
	var out []Learnt
	for e := range b.core.Learnt.All(now) {
		out = append(out, Learnt{e.Prefix, e.Capable, (e.Expires - now).Milliseconds()})
	}
	return out
}

func (b *Box) totals() Totals {
	t := b.core.Table.Totals()
	out := Totals{
		UptimeMS: b.now().Milliseconds(), Live: t.Live, Entered: t.Entered, Reasons: t.Reasons, Learnt: b.core.Learnt.Len(),
		BytesUp: b.bytesUp.Load(), BytesDown: b.bytesDown.Load(), Queue: b.queueTotals(),
	}
	if b.steering != nil {
		out.Subflows = b.steering.manager.Counters()
	}
	if b.cfg.Record != nil {
		out.Recording = new(b.recorder.Totals())
	}
	return out
}

func (b *Box) describe(f state.Flow, now time.Duration, backups map[paths.Ends]bool) Flow {
	out := Flow{
		Client: f.Key.Client(), Server: f.Key.Server(), Side: f.Side.String(),
		Action: f.Action.String(), State: f.State.String(), Reason: f.Reason,
		AgeMS: f.Age(now).Milliseconds(), SetupUS: f.Setup.Microseconds(), Subflows: []Subflow{},
		Recording: b.recorder.File(f.Key),
	}
	conn, ok := f.Legs.(*relay.Conn)
	if !ok {
		return out
	}
	out.BytesUp, out.BytesDown = conn.BytesUp(), conn.BytesDown()
	if from := conn.Local(); from.IsValid() && from != out.Client {
		out.DialedFrom = from.String()
	}
	info, ok := conn.Info()
	if !ok {
		return out
	}
	out.MPTCP, out.Token = info.MPTCP, info.Token
	for _, s := range info.Subflows {
		sub := Subflow{
			Local: s.Local, Remote: s.Remote, RTTUS: s.RTT.Microseconds(),
			BytesSent: s.BytesSent, BytesReceived: s.BytesReceived, Retransmitted: s.Retransmitted,
			Backup: backups[paths.Ends{Local: s.Local, Remote: s.Remote}],
		}
		if p := b.set.Of(s.Local, s.Remote); p != nil {
			sub.Path = p.Name
		}
		out.Subflows = append(out.Subflows, sub)
	}
	return out
}
