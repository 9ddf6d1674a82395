package state

import (
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"testing"
	"time"
	"unsafe"
)

// nth is the key of flow number n.
func nth(n int) Key {
	client := netip.AddrFrom4([4]byte{10, byte(n >> 22), byte(n >> 14), byte(n >> 6)})
	return KeyOf(netip.AddrPortFrom(client, uint16(1024+n&0x3f)), server)
}

var server = netip.MustParseAddrPort("[2001:db8:2::2]:443")

// way is how a flow comes to each state: the states on its way there.
var way = map[State][]State{
	Dialing: {Dialing}, Learning: {Learning}, Passed: {Passed}, Rejected: {Rejected},
	Released: {Dialing, Released}, Relaying: {Dialing, Released, Relaying},
	Closed: {Dialing, Closed}, Abandoned: {Dialing, Released, Abandoned},
	Refused: {Dialing, Refused}, Unreachable: {Dialing, Unreachable},
	TimedOut: {Dialing, TimedOut}, Failed: {Dialing, Failed},
}

// bring makes flow k and takes it to state s.
func bring(t testing.TB, table *Table, k Key, s State) {
	t.Helper()
	table.Begin(0, Flow{Key: k, State: way[s][0]})
	for _, next := range way[s][1:] {
		if _, ok := move(table, 0, k, next, None); !ok {
			t.Fatalf("a flow cannot come to %v by %v", s, way[s])
		}
	}
}

func all(table *Table) map[Key]Flow {
	flows := make(map[Key]Flow)
	for f := range table.All() {
		flows[f.Key] = f
	}
	return flows
}

// legal are the moves that the state machine allows, as doc.go draws them.
var legal = map[[2]State]bool{
	{Dialing, Released}: true, {Dialing, Refused}: true, {Dialing, Unreachable}: true,
	{Dialing, TimedOut}: true, {Dialing, Failed}: true, {Dialing, Closed}: true,
	{Dialing, Dialing}: true, {Dialing, Passed}: true, {Dialing, Rejected}: true, {Dialing, Abandoned}: true,
	{Released, Relaying}: true, {Released, Abandoned}: true, {Released, Failed}: true, {Released, Closed}: true,
	{Relaying, Closed}: true,
	{Learning, Passed}: true, {Learning, TimedOut}: true,
}

func TestFlowsMoveAlongTheStateMachineOnly(t *testing.T) {
	for from := range NumStates {
		for to := range NumStates {
			t.Run(fmt.Sprintf("%v to %v", from, to), func(t *testing.T) {
				table, k := NewTable(Config{}), nth(1)
				bring(t, table, k, from)
				before, totals := all(table)[k], table.Totals()
				got, ok := move(table, time.Second, k, to, NotLearnt)
				if ok != legal[[2]State{from, to}] {
					t.Fatalf("allowed: %v", ok)
				}
				now := all(table)[k]
				if !ok {
					if got != (Flow{}) || now != before || table.Totals().Entered != totals.Entered {
						t.Errorf("a refused move changed the flow to %+v", now)
					}
					return
				}
				changed := time.Second
				if from == to { // its time runs on
					changed = 0
				}
				if got != now || now.State != to || now.Reason != NotLearnt || now.Changed != changed || now.Began != 0 {
					t.Errorf("moved to %+v, returned %+v", now, got)
				}
				if wantSetup := to == Relaying; (now.Setup == time.Second) != wantSetup {
					t.Errorf("Setup is %v", now.Setup)
				}
			})
		}
	}
}

func TestOnlyLiveFlowsAreFound(t *testing.T) {
	for s := range NumStates {
		table, k := NewTable(Config{}), nth(1)
		bring(t, table, k, s)
		live := s == Dialing || s == Released || s == Learning || s == Relaying
		if s.Live() != live {
			t.Errorf("%v.Live() is %v", s, !live)
		}
		if _, found := table.Lookup(k); found != live {
			t.Errorf("%v: found: %v", s, found)
		}
		if _, found := table.Lookup(nth(2)); found {
			t.Errorf("%v: another key is found", s)
		}
		id := all(table)[k].ID
		if f, found := table.ByID(id); found != live || found && f.Key != k {
			t.Errorf("%v: found by its ID: %v, %+v", s, found, f)
		}
		for _, other := range []ID{0, 1, id + 1, id + 1<<32} {
			if f, found := table.ByID(other); found {
				t.Errorf("%v: ID %x names %+v", s, other, f)
			}
		}
	}
}

func TestRepeatedSYNTakesThePlaceOfTheHeldOne(t *testing.T) {
	table, k := NewTable(Config{}), nth(1)
	syn := func(id uint32) Begun { return table.Begin(0, Flow{Key: k, State: Dialing, Held: id}) }
	if b := syn(7); b.Repeat || b.Full != None {
		t.Errorf("the first SYN is %+v", b)
	}
	for _, want := range []uint32{7, 8} {
		if b := syn(want + 1); b != (Begun{ID: all(table)[k].ID, Repeat: true, State: Dialing, Superseded: want}) {
			t.Errorf("the repeat of SYN %d is %+v", want, b)
		}
	}
	if f, ok := move(table, 0, k, Released, None); !ok || f.Held != 9 {
		t.Errorf("SYN %d is released, want the newest, 9", f.Held)
	}
	if b := syn(10); b.State != Released || !b.Repeat {
		t.Errorf("a repeat after the release is %+v", b)
	}
	move(table, 0, k, Closed, None)
	if b := syn(11); b.Repeat || b.Full != None {
		t.Errorf("a SYN after the end is %+v", b)
	}
}

func TestSYNOfAClientThatBeganAgainIsTold(t *testing.T) {
	table, k := NewTable(Config{}), nth(1)
	syn := func(isn uint32) Begun { return table.Begin(0, Flow{Key: k, State: Dialing, ISN: isn}) }
	syn(100)
	if b := syn(200); !b.Other {
		t.Errorf("another SYN while dialing is %+v", b)
	}
	move(table, 0, k, Released, None)
	if b := syn(200); b.Other {
		t.Errorf("the repeat of the SYN that was released is %+v", b)
	}
	for range 2 {
		if b := syn(300); !b.Other {
			t.Errorf("another SYN after the release is %+v", b)
		}
	}
}

func TestFullTableRecordsNoLiveFlow(t *testing.T) {
	table := NewTable(Config{MaxFlows: 1})
	bring(t, table, nth(1), Relaying)
	if b := table.Begin(0, Flow{Key: nth(2), State: Dialing}); b.Full != FlowsFull {
		t.Errorf("a flow too many is %+v", b)
	}
	if _, live := table.Lookup(nth(2)); live {
		t.Error("a flow too many is recorded")
	}
	if b := table.Begin(0, Flow{Key: nth(2), State: Passed}); b.Repeat || b.Full != None {
		t.Errorf("a passed flow is %+v", b)
	}
	if b := table.Begin(0, Flow{Key: nth(1), State: Dialing}); !b.Repeat {
		t.Errorf("a repeat in a full table is %+v", b)
	}
}

func TestRoomIsBoundedByHalfOpenAndByLiveFlows(t *testing.T) {
	table := NewTable(Config{MaxFlows: 3, MaxHalfOpen: 2})
	step := func(want Reason, do func()) {
		t.Helper()
		do()
		if got := table.full(nil); got != want {
			t.Errorf("room is %q, want %q", got, want)
		}
	}
	step(None, func() {})
	step(None, func() { bring(t, table, nth(1), Dialing) })
	step(HalfOpenFull, func() { bring(t, table, nth(2), Released) })
	step(None, func() { move(table, 0, nth(2), Relaying, None) })
	step(None, func() { bring(t, table, nth(9), Passed) }) // ended flows take no room
	step(HalfOpenFull, func() { bring(t, table, nth(3), Dialing) })
	step(HalfOpenFull, func() { move(table, 0, nth(1), Released, None) })
	step(FlowsFull, func() { move(table, 0, nth(1), Relaying, None) })
	step(FlowsFull, func() { move(table, 0, nth(3), Released, None) })
	step(None, func() { move(table, 0, nth(3), Closed, None) })
}

func TestFlowsExpireByTheTimeoutOfTheirState(t *testing.T) {
	cfg := Config{Dial: 10, HalfOpen: 20, Memory: 30}
	cases := []struct {
		in      State
		timeout time.Duration
		then    State
		handed  bool
	}{
		{Dialing, 10, TimedOut, true},
		{Released, 20, Abandoned, true},
		{Relaying, 0, Relaying, false},
		{Closed, 30, 0, false},
		{Passed, 30, 0, false},
		{Refused, 30, 0, false},
	}
	for _, c := range cases {
		t.Run(c.in.String(), func(t *testing.T) {
			table, k := NewTable(cfg), nth(1)
			bring(t, table, k, c.in)
			if moved := table.Expire(c.timeout-1, 10); len(moved) != 0 || all(table)[k].State != c.in {
				t.Errorf("the flow expired too early: %+v", moved)
			}
			at := c.timeout
			if at == 0 {
				at = 1 << 60
			}
			moved := table.Expire(at, 10)
			f, there := all(table)[k]
			switch {
			case c.handed:
				if len(moved) != 1 || moved[0] != f || f.State != c.then || f.Reason != NoAnswer || f.Changed != at {
					t.Errorf("expired to %+v, handed on %+v", f, moved)
				}
			case len(moved) != 0:
				t.Errorf("handed on %+v", moved)
			case there != (c.in == Relaying):
				t.Errorf("remembered: %v", there)
			}
		})
	}
}

func TestExpiryTakesTheOldestFirstAndNoMoreThanAsked(t *testing.T) {
	table := NewTable(Config{Dial: 10, HalfOpen: 20, Memory: 30})
	for n := range 5 {
		table.Begin(time.Duration(n), Flow{Key: nth(n), State: Dialing})
	}
	var got []Key
	for _, limit := range []int{0, 1, 3, 10} {
		moved := table.Expire(13, limit)
		if len(moved) > limit {
			t.Errorf("%d flows expired, at most %d were asked for", len(moved), limit)
		}
		for _, f := range moved {
			got = append(got, f.Key)
		}
	}
	// The last one is 9 old.
	if want := []Key{nth(0), nth(1), nth(2), nth(3)}; !slices.Equal(got, want) {
		t.Errorf("expired %v, want %v", got, want)
	}
}

func TestEndedFlowsAreBoundedAndTheOldestIsForgottenFirst(t *testing.T) {
	table := NewTable(Config{MaxEnded: 3})
	for n := range 6 {
		bring(t, table, nth(n), []State{Closed, Passed, Refused}[n%3])
	}
	bring(t, table, nth(100), Dialing)
	flows := all(table)
	for n := range 6 {
		if _, there := flows[nth(n)]; there != (n >= 3) {
			t.Errorf("flow %d is remembered: %v", n, there)
		}
	}
	if _, there := flows[nth(100)]; !there {
		t.Error("a live flow was forgotten")
	}
}

func TestKeyBeginsAgainAfterItEnded(t *testing.T) {
	table, k := NewTable(Config{MaxEnded: 2, Memory: 30}), nth(1)
	bring(t, table, k, Closed)
	bring(t, table, nth(2), Closed)
	table.Begin(20, Flow{Key: k, State: Dialing, Held: 5})
	f, ok := table.Lookup(k)
	if !ok || f.Began != 20 || f.Held != 5 || f.Age(25) != 5 {
		t.Errorf("the flow that begins again is %+v, %v", f, ok)
	}
	// Its past may be neither forgotten in its place nor count against others.
	bring(t, table, nth(3), Closed)
	table.Expire(40, 10)
	if got := slices.Collect(maps.Keys(all(table))); len(got) != 1 || got[0] != k {
		t.Errorf("%v are remembered, want %v", got, k)
	}
}

func TestReasonStaysUntilThereIsAnother(t *testing.T) {
	table := NewTable(Config{})
	table.Begin(0, Flow{Key: nth(1), State: Dialing, Reason: LearntPlain, Rule: "guests"})
	for _, step := range []struct {
		to          State
		reason, has Reason
	}{{Released, None, LearntPlain}, {Relaying, None, LearntPlain}, {Closed, FIN, FIN}} {
		if f, _ := move(table, 0, nth(1), step.to, step.reason); f.Reason != step.has || f.Rule != "guests" {
			t.Errorf("%v: reason %q, want %q", step.to, f.Reason, step.has)
		}
	}
	got := table.Totals()
	if want := [NumReasons]uint64{LearntPlain: 1, FIN: 1}; got.Reasons != want {
		t.Errorf("reasons %v, want %v", got.Reasons, want)
	}
	if want := map[string]uint64{"guests": 1}; !maps.Equal(got.Rules, want) {
		t.Errorf("rules %v, want %v", got.Rules, want)
	}
}

func TestTotalsCountStatesAndReasons(t *testing.T) {
	table := NewTable(Config{})
	bring(t, table, nth(1), Relaying)
	bring(t, table, nth(2), Released)
	bring(t, table, nth(3), Dialing)
	table.Begin(0, Flow{Key: nth(4), State: Passed, Reason: MPJoin})
	move(table, 0, nth(3), Refused, WasRefused)
	table.Count(HopLimit)
	table.Count(HopLimit)
	got := table.Totals()
	if want := [NumStates]int{Released: 1, Relaying: 1}; got.Live != want {
		t.Errorf("live %v, want %v", got.Live, want)
	}
	if want := [NumReasons]uint64{MPJoin: 1, WasRefused: 1, HopLimit: 2}; got.Reasons != want {
		t.Errorf("reasons %v, want %v", got.Reasons, want)
	}
	if want := [NumStates]uint64{Dialing: 3, Released: 2, Relaying: 1, Passed: 1, Refused: 1}; got.Entered != want {
		t.Errorf("entered %v, want %v", got.Entered, want)
	}
	if got.HalfOpen != 1 {
		t.Errorf("%d half-open, want 1", got.HalfOpen)
	}
}

func TestKeysTellEndpointsApartAndGiveThemBack(t *testing.T) {
	ends := []string{"192.0.2.1:1", "192.0.2.1:2", "[2001:db8::1]:1", "[::1]:1", "0.0.0.0:0", "[::]:0", "255.255.255.255:65535"}
	seen := make(map[Key]string)
	for _, c := range ends {
		for _, s := range ends {
			client, server := netip.MustParseAddrPort(c), netip.MustParseAddrPort(s)
			k := KeyOf(client, server)
			if k.Client() != client || k.Server() != server {
				t.Errorf("%s to %s comes back as %v to %v", c, s, k.Client(), k.Server())
			}
			if other, twice := seen[k]; twice {
				t.Errorf("%s to %s has the key of %s", c, s, other)
			}
			seen[k] = c + " to " + s
		}
	}
	if KeyOf(netip.MustParseAddrPort("[::ffff:192.0.2.1]:1"), netip.MustParseAddrPort(ends[0])) !=
		KeyOf(netip.MustParseAddrPort(ends[0]), netip.MustParseAddrPort(ends[0])) {
		t.Error("an IPv4-mapped address has a key of its own")
	}
}

func TestNamesAreAsTheCommandLinePrintsThem(t *testing.T) {
	for i, want := range Actions {
		if got := Action(i).String(); got != want {
			t.Errorf("action %d is %q", i, got)
		}
	}
	seen := make(map[string]bool)
	for s := range NumStates {
		name := s.String()
		if name == "" || seen[name] {
			t.Errorf("state %d is named %q", s, name)
		}
		seen[name] = true
	}
	if Plain.String() != "plain" || Multipath.String() != "multipath" || Plain.Opposite() != Multipath || Multipath.Opposite() != Plain {
		t.Error("the sides are not plain and multipath, opposite to each other")
	}
}

func TestFlowsBeginRepeatAndEndWithoutAllocation(t *testing.T) {
	table := NewTable(Config{MaxEnded: 10})
	next := 0
	cycle := func() {
		next = (next + 1) % 100
		k := nth(next)
		table.Begin(0, Flow{Key: k, State: Dialing, Rule: "guests"})
		table.Begin(0, Flow{Key: k, State: Dialing, Held: 1})
		table.Lookup(k)
		move(table, 0, k, Released, None)
		move(table, 0, k, Relaying, None)
		move(table, 0, k, Closed, FIN)
	}
	for range 1000 { // until there are as many records as it takes
		cycle()
	}
	if n := testing.AllocsPerRun(1000, cycle); n != 0 {
		t.Errorf("a flow costs %v allocations", n)
	}
}

func TestRecordsFillTwoCacheLinesAndARepeatTouchesOne(t *testing.T) {
	const line = 64
	if size := unsafe.Sizeof(record{}); size != 2*line {
		t.Errorf("a record has %d bytes", size)
	}
	var f Flow
	for name, end := range map[string]uintptr{
		"Key": unsafe.Offsetof(f.Key) + unsafe.Sizeof(f.Key), "State": unsafe.Offsetof(f.State) + unsafe.Sizeof(f.State),
		"Held": unsafe.Offsetof(f.Held) + unsafe.Sizeof(f.Held), "ISN": unsafe.Offsetof(f.ISN) + unsafe.Sizeof(f.ISN),
	} {
		if end > line {
			t.Errorf("%s ends at byte %d", name, end)
		}
	}
	if at := uintptr(unsafe.Pointer(newSlab().at(firstFlow))) % line; at != 0 {
		t.Errorf("a record begins %d bytes behind a line", at)
	}
}

func TestForgottenFlowsLeaveTheirRecordsToOthers(t *testing.T) {
	table := NewTable(Config{MaxEnded: page})
	for n := range 10 * page {
		bring(t, table, nth(n), Closed)
	}
	if pages := len(table.flows.pages); pages != 2 {
		t.Errorf("%d flows are remembered in %d pages", page, pages)
	}
}

func TestFlowThatIsDialedAgainHasAnotherID(t *testing.T) {
	table := NewTable(Config{})
	bring(t, table, nth(1), Dialing)
	first := all(table)[nth(1)].ID
	f, ok := table.Move(0, first, Dialing, None)
	if !ok || f.ID == first {
		t.Fatalf("dialed again it is %+v, %v", f, ok)
	}
	if _, ok := table.Move(0, first, Released, None); ok {
		t.Error("an event of the first dial moves the flow")
	}
	if _, ok := table.Move(0, f.ID, Released, None); !ok {
		t.Error("an event of the second dial does not move the flow")
	}
}

func TestWaitingFlowsAreFoundEachTimeTheirAgeDoubles(t *testing.T) {
	table := NewTable(Config{})
	bring(t, table, nth(0), Released)
	bring(t, table, nth(1), Relaying)
	var at []time.Duration
	for now := time.Duration(0); now <= 90; now += 3 {
		for _, f := range table.Waiting(Released, 10, now-3, now) {
			if f.Key != nth(0) {
				t.Errorf("%v is not in that state", f.Key)
			}
			at = append(at, now)
		}
	}
	if want := []time.Duration{12, 21, 42, 81}; !slices.Equal(at, want) {
		t.Errorf("found at %v, want %v", at, want)
	}
}

func TestLastFlowIsKnownAfterItsEndUntilItIsForgotten(t *testing.T) {
	table := NewTable(Config{Memory: time.Second})
	k := nth(1)
	if _, ok := table.Last(k); ok {
		t.Error("there is a flow before the first")
	}
	table.Begin(0, Flow{Key: k, State: Passed, Rule: "guests"})
	if f, ok := table.Last(k); !ok || f.Rule != "guests" {
		t.Errorf("flow %+v, %v", f, ok)
	}
	table.Expire(time.Second, 1)
	if _, ok := table.Last(k); ok {
		t.Error("it is remembered for ever")
	}
}
