package core

import (
	"fmt"
	"net/netip"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/state"
)

// The ends of a request, and addresses of its destination.
var (
	phone  = netip.MustParseAddrPort("192.0.2.7:40000")
	listen = netip.MustParseAddrPort("203.0.113.1:1080")
	web6   = netip.MustParseAddr("2001:db8:1::80")
	web4   = netip.MustParseAddr("198.51.100.80")
	other4 = netip.MustParseAddr("198.51.100.81")
	askKey = state.KeyOf(phone, listen)
)

// asks returns a request for a name or an address, with a port.
func asks(host string, port uint16) Request {
	q := Request{ID: 7, Client: phone, At: listen, Name: host, Server: netip.AddrPortFrom(netip.Addr{}, port)}
	if a, err := netip.ParseAddr(host); err == nil {
		q.Name, q.Server = "", netip.AddrPortFrom(a, port)
	}
	return q
}

func (d *driver) ask(now time.Duration, q Request) { d.acts = d.Asked(d.acts[:0], now, q) }

func (d *driver) resolve(now time.Duration, last bool, addrs ...netip.Addr) {
	d.acts = d.Resolved(d.acts[:0], now, d.id(askKey), addrs, last)
}

// connects returns the dials that the last actions begin, by their server.
func (d *driver) connects() map[netip.Addr]state.ID {
	out := make(map[netip.Addr]state.ID)
	for _, a := range d.acts {
		if a.Kind == Connect {
			out[a.Dial.Server.Addr()] = a.Flow
		}
	}
	return out
}

func (d *driver) end(now time.Duration, id state.ID, err error) {
	d.acts = d.DialEnded(d.acts[:0], now, id, Dialed{Err: err})
}

func TestRequestIsDecidedByPolicy(t *testing.T) {
	net := func(all ...string) (out []netip.Prefix) {
		for _, p := range all {
			out = append(out, netip.MustParsePrefix(p))
		}
		return out
	}
	policy := &Policy{Default: state.Relay, Rules: []Rule{
		{Name: "mail", Ports: []PortRange{{25, 25}}, Action: state.Reject},
		{Name: "ads", Names: []string{"*.ads.example", "ads.example"}, Action: state.Reject},
		{Name: "guest", Users: []string{"guest"}, To: net("198.51.100.80/32"), Action: state.Relay},
		{Name: "guest-else", Users: []string{"guest"}, Action: state.Reject},
		{Name: "office", To: net("10.1.0.0/16", "203.0.113.1/32"), Users: []string{"boss"}, Action: state.Relay},
		{Name: "all4", To: net("0.0.0.0/0"), Action: state.Relay},
	}}
	for _, c := range []struct {
		host, user string
		port       uint16
		want       Verdict
		why        string
	}{
		{"2001:db8:1::80", "", 443, Hold, ""},
		{"198.51.100.80", "", 443, Hold, "all4"},
		{"198.51.100.80", "", 25, Prohibited, "mail"},
		{"web.example", "", 25, Prohibited, "mail"},
		{"a.ads.example", "", 443, Prohibited, "ads"},
		{"ads.example", "", 443, Prohibited, "ads"},
		{"198.51.100.80", "guest", 443, Hold, "guest"},
		{"198.51.100.81", "guest", 443, Prohibited, "guest-else"},
		{"10.1.2.3", "boss", 443, Hold, "office"},
		{"10.1.2.3", "", 443, Prohibited, "forbidden"},
		{"203.0.113.1", "boss", 443, Hold, "office"},
		{"203.0.113.1", "", 443, Prohibited, "forbidden"},
		{"127.0.0.1", "boss", 443, Prohibited, "forbidden"},
		{"0.0.0.0", "", 443, Prohibited, "forbidden"},
		{"::1", "", 443, Prohibited, "forbidden"},
		{"::", "", 443, Prohibited, "forbidden"},
		{"::ffff:127.0.0.1", "", 443, Prohibited, "forbidden"},
		{"::127.0.0.1", "", 443, Prohibited, "forbidden"},
		{"64:ff9b::7f00:1", "", 443, Prohibited, "forbidden"},
		{"64:ff9b::c633:6450", "", 443, Hold, ""},
		{"2002:7f00:1::1", "", 443, Prohibited, "forbidden"},
		{"fe80::1", "", 443, Prohibited, "forbidden"},
		{"fd00::1", "", 443, Prohibited, "forbidden"},
		{"ff02::1", "", 443, Prohibited, "forbidden"},
		{"224.0.0.1", "", 443, Prohibited, "forbidden"},
		{"169.254.169.254", "", 80, Prohibited, "forbidden"},
		{"192.168.1.1", "", 80, Prohibited, "forbidden"},
		{"100.64.0.1", "", 80, Prohibited, "forbidden"},
	} {
		t.Run(fmt.Sprint(c.host, " ", c.port, " ", c.user), func(t *testing.T) {
			d := newDriver(t, Config{Policy: policy, Own: func(a netip.Addr) bool { return a == listen.Addr() }})
			q := asks(c.host, c.port)
			q.User = c.user
			d.ask(0, q)
			got := d.acts[0].Decision
			if got.Verdict != c.want || got.Why() != c.why || got.Packet.ID != q.ID || got.Asked == nil {
				t.Errorf("%v because of %q, want %v because of %q", got.Verdict, got.Why(), c.want, c.why)
			}
			if dials := len(d.connects()); (dials == 1) != (c.want == Hold) {
				t.Errorf("%d dials", dials)
			}
		})
	}
}

func TestRequestForAnAddressIsAnsweredAsItsDial(t *testing.T) {
	for _, c := range []struct {
		err    error
		want   Verdict
		reason state.Reason
		state  state.State
	}{
		{nil, Deliver, state.None, state.Released},
		{syscall.ECONNREFUSED, Reset, state.WasRefused, state.Refused},
		{syscall.ENETUNREACH, NoRoute, state.NoRoute, state.Unreachable},
		{syscall.EHOSTUNREACH, HostUnreachable, state.HostUnreachable, state.Unreachable},
		{syscall.ETIMEDOUT, Drop, state.NoAnswer, state.TimedOut},
		{syscall.EMFILE, Accept, state.FilesFull, state.Failed},
	} {
		d := newCore(t, state.Relay)
		d.ask(0, asks("198.51.100.80", 443))
		id := d.connects()[web4]
		if !d.Live(id) {
			t.Fatal("the dial is not wanted")
		}
		d.end(time.Second, id, c.err)
		got, ok := d.decision()
		f, _ := d.Flow(askKey)
		if !ok || got.Verdict != c.want || got.Reason != c.reason || got.Packet.ID != 7 || f.State != c.state {
			t.Errorf("%v: %v, %v, state %v", c.err, got.Verdict, got.Reason, f.State)
		}
		if f.Server() != netip.AddrPortFrom(web4, 443) {
			t.Errorf("the flow's server is %v", f.Server())
		}
		if n, _ := d.Backlog(); n != 0 {
			t.Errorf("%v: %d handshakes are left", c.err, n)
		}
	}
}

func TestAddressesOfANameAreDialedByFamilyInTurn(t *testing.T) {
	d := newCore(t, state.Relay)
	d.ask(0, asks("web.example", 443))
	if want := []Kind{Decide, Resolve}; !slices.Equal(d.kinds(), want) || d.acts[1].Name != "web.example" {
		t.Fatalf("%+v", d.acts)
	}
	d.resolve(0, false, web6)
	first := d.connects()[web6]
	if first == 0 {
		t.Fatalf("%+v", d.acts)
	}
	d.resolve(0, true, web4, other4)
	if len(d.connects()) != 0 {
		t.Fatal("the second dial begins at once")
	}
	d.acts = d.Tick(d.acts[:0], attemptDelay)
	second := d.connects()[web4]
	if second == 0 {
		t.Fatalf("after the delay: %+v", d.acts)
	}
	d.end(attemptDelay, first, syscall.ENETUNREACH) // then the next one begins at once
	third := d.connects()[other4]
	if third == 0 {
		t.Fatalf("after a failure: %+v", d.acts)
	}
	d.end(time.Second, second, nil)
	got, _ := d.decision()
	if got.Verdict != Deliver || !slices.Contains(d.kinds(), Abort) || d.acts[0].Flow != third {
		t.Fatalf("the first that answers: %+v", d.acts)
	}
	f, _ := d.Flow(askKey)
	if f.ID != second || f.Server() != netip.AddrPortFrom(web4, 443) || f.Asked.Name != "web.example" {
		t.Errorf("the flow is %+v, %+v", f, f.Asked)
	}
	if _, wanted := d.Paired(nil, time.Second, second); !wanted {
		t.Error("the winner is not wanted")
	}
	if d.Live(first) || d.Live(third) {
		t.Error("the others are wanted")
	}
}

func TestNameWithoutAPermittedAddressIsRefused(t *testing.T) {
	for _, c := range []struct {
		name   string
		addrs  []netip.Addr
		want   Verdict
		reason state.Reason
	}{
		{"no address", nil, HostUnreachable, state.NoAddress},
		{"addresses of this machine's network only", []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("fd00::1")}, Prohibited, state.Forbidden},
	} {
		t.Run(c.name, func(t *testing.T) {
			d := newCore(t, state.Relay)
			d.ask(0, asks("inside.example", 80))
			d.resolve(0, true, c.addrs...)
			got, _ := d.decision()
			f, _ := d.Flow(askKey)
			if got.Verdict != c.want || got.Reason != c.reason || f.State != state.Rejected || len(d.connects()) != 0 {
				t.Errorf("%+v, state %v", got, f.State)
			}
		})
	}
}

func TestForbiddenAddressAmongOthersIsNotDialed(t *testing.T) {
	d := newCore(t, state.Relay)
	d.ask(0, asks("mixed.example", 80))
	d.resolve(0, true, netip.MustParseAddr("::1"), web4)
	if all := d.connects(); len(all) != 1 || all[web4] == 0 {
		t.Errorf("dials: %v", all)
	}
}

func TestRefusalSaysMoreThanNoRoute(t *testing.T) {
	d := newCore(t, state.Relay)
	d.ask(0, asks("web.example", 443))
	d.resolve(0, true, web6, web4)
	d.end(0, d.connects()[web6], syscall.ENETUNREACH)
	d.end(0, d.connects()[web4], syscall.ECONNREFUSED)
	if got, _ := d.decision(); got.Verdict != Reset {
		t.Errorf("%+v", got)
	}
}

func TestClientThatLeavesEndsItsDials(t *testing.T) {
	d := newCore(t, state.Relay)
	d.ask(0, asks("web.example", 443))
	d.resolve(0, true, web6, web4)
	first := d.connects()[web6]
	d.acts = d.Tick(d.acts[:0], attemptDelay)
	d.acts = d.ClientLeft(d.acts[:0], time.Second, askKey, 8) // another client with the same port
	if len(d.acts) != 0 {
		t.Fatalf("%+v", d.acts)
	}
	d.acts = d.ClientLeft(d.acts[:0], time.Second, askKey, 7)
	if aborts := len(d.acts); aborts != 3 || d.acts[0].Flow != first {
		t.Errorf("%+v", d.acts)
	}
	f, _ := d.Flow(askKey)
	if f.State != state.Abandoned || d.Live(first) {
		t.Errorf("state %v", f.State)
	}
	d.end(time.Second, first, nil) // an event that comes late
	if len(d.acts) != 0 && d.acts[0].Kind != Abort {
		t.Errorf("%+v", d.acts)
	}
}

func TestRequestThatTakesTooLongIsRefused(t *testing.T) {
	d := newCore(t, state.Relay)
	d.ask(0, asks("slow.example", 443))
	d.acts = d.Tick(d.acts[:0], 21*time.Second)
	if got, ok := d.decision(); !ok || got.Verdict != Drop || got.Reason != state.NoAnswer {
		t.Errorf("%+v", d.acts)
	}
}

func TestRequestOfACrowdedGatewayIsRefused(t *testing.T) {
	d := newDriver(t, Config{Policy: &Policy{Default: state.Relay}, Table: state.Config{MaxHalfOpen: 1}})
	d.ask(0, asks("198.51.100.80", 443))
	q := asks("198.51.100.80", 443)
	q.Client = netip.MustParseAddrPort("192.0.2.7:40001")
	d.ask(0, q)
	if got, _ := d.decision(); got.Verdict != Drop || got.Reason != state.HalfOpenFull {
		t.Errorf("%+v", got)
	}
}

func TestClientThatConnectsAnewEndsItsOldFlow(t *testing.T) {
	d := newCore(t, state.Relay)
	d.ask(0, asks("198.51.100.80", 443))
	old := d.connects()[web4]
	q := asks("198.51.100.80", 443)
	q.ID = 8
	d.ask(time.Second, q)
	if d.Live(old) || len(d.connects()) != 1 || !slices.ContainsFunc(d.acts, func(a Action) bool { return a.Kind == Abort && a.Flow == old }) {
		t.Errorf("%+v", d.acts)
	}
}

func TestUserHasAsManyFlowsAsTheLimitAllows(t *testing.T) {
	d := newDriver(t, Config{Policy: &Policy{Default: state.Relay}, Table: state.Config{MaxPerUser: 2}})
	ask := func(user string, port uint16) state.Reason {
		q := asks("198.51.100.80", 443)
		q.User, q.Client = user, netip.AddrPortFrom(phone.Addr(), port)
		d.ask(0, q)
		return d.acts[0].Decision.Reason
	}
	for i, c := range []struct {
		user string
		want state.Reason
	}{{"alice", state.None}, {"alice", state.None}, {"alice", state.UserFull}, {"bob", state.None}, {"", state.None}, {"", state.None}, {"", state.None}} {
		if got := ask(c.user, uint16(i+1)); got != c.want {
			t.Errorf("request %d of %q: %v, want %v", i, c.user, got, c.want)
		}
	}
	first := state.KeyOf(netip.AddrPortFrom(phone.Addr(), 1), listen)
	d.acts = d.ClientLeft(d.acts[:0], 0, first, 7)
	if got := ask("alice", 100); got != state.None {
		t.Errorf("after one has ended: %v", got)
	}
}

func TestUserWithoutAnyQuotaLeftIsRefused(t *testing.T) {
	spent := "alice"
	d := newDriver(t, Config{Policy: &Policy{Default: state.Relay}, Spent: func(user string) bool { return user == spent }})
	for i, c := range []struct {
		user, name string
		want       state.Reason
	}{
		{"alice", "", state.UserQuota}, {"alice", "www.example", state.UserQuota}, {"bob", "", state.None}, {"", "", state.None},
	} {
		q := asks("198.51.100.80", 443)
		q.User, q.Client = c.user, netip.AddrPortFrom(phone.Addr(), uint16(i+1))
		if c.name != "" {
			q.Name, q.Server = c.name, netip.AddrPortFrom(netip.Addr{}, 443)
		}
		d.ask(0, q)
		got := d.acts[0].Decision
		if got.Reason != c.want || (got.Verdict == Prohibited) != (c.want != state.None) || c.want != state.None && len(d.acts) != 1 {
			t.Errorf("%q asks for %q: %+v", c.user, c.name, d.acts)
		}
		if e := d.ExplainRequest(0, q); e.Decision.Reason != c.want {
			t.Errorf("%q is told %+v", c.user, e.Decision)
		}
	}
	spent = ""
	q := asks("198.51.100.80", 443)
	q.User = "alice"
	if d.ask(0, q); d.acts[0].Decision.Verdict != Hold {
		t.Errorf("in the next period: %+v", d.acts)
	}
}
