package box

import (
	"errors"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

func TestMain(m *testing.M) { netlabtest.Main(m) }

// journalAt opens the journal of the box with that control socket, on the thread of a host.
func journalAt(t *testing.T, control string) *journal {
	t.Helper()
	j, err := openJournal(control)
	check(t, err)
	return j
}

// machine runs fn in a new namespace.
func machine(t *testing.T, fn func(control string)) {
	t.Helper()
	netlabtest.Require(t)
	h, err := netlab.NewHost("box")
	check(t, err)
	t.Cleanup(func() { check(t, h.Close()) })
	control := filepath.Join(t.TempDir(), "box.sock")
	done := false
	check(t, h.Do(func() error { fn(control); done = true; return nil }))
	if !done {
		t.Fatal("the test ended on the host's thread")
	}
}

const (
	setting  = "net/mptcp/allow_join_initial_addr_port"
	settings = "net/mptcp/stale_loss_cnt"
)

// change sets what a box sets, as a box does.
func change(t *testing.T, j *journal, endpoint netip.AddrPort) {
	t.Helper()
	for _, s := range []sysctl{{setting, "0", false}, {settings, "9", false}} {
		check(t, s.set(j))
	}
	p, err := mptcp.Open()
	check(t, err)
	defer p.Close()
	limits, err := p.Limits()
	check(t, err)
	check(t, j.remember(func() { j.Limits = &limits }))
	check(t, p.SetLimits(mptcp.Limits{Subflows: 8, Announcements: 1}))
	check(t, j.remember(func() { j.Joins = append(j.Joins, endpoint) }))
	check(t, p.AddEndpoint(endpoint))
}

// situation is all that change changes.
func situation(t *testing.T) string {
	t.Helper()
	a, err := readSysctl(setting)
	check(t, err)
	b, err := readSysctl(settings)
	check(t, err)
	p, err := mptcp.Open()
	check(t, err)
	defer p.Close()
	limits, err := p.Limits()
	check(t, err)
	endpoints, err := p.Endpoints()
	check(t, err)
	out := []string{a, b, string(rune('0' + limits.Subflows)), string(rune('0' + limits.Announcements))}
	for _, e := range endpoints {
		out = append(out, e.String())
	}
	return strings.Join(out, " ")
}

var endpoint = netip.MustParseAddrPort("[::1]:7100")

func TestMachineIsAsBeforeWhenABoxStops(t *testing.T) {
	machine(t, func(control string) {
		before := situation(t)
		j := journalAt(t, control)
		change(t, j, endpoint)
		if now := situation(t); now == before {
			t.Fatalf("nothing was changed: %s", now)
		}
		for range 2 { // the second time there is nothing to do
			check(t, j.restore())
			if now := situation(t); now != before {
				t.Errorf("the machine is left as %q, want %q", now, before)
			}
		}
		if _, err := os.Stat(j.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal stays: %v", err)
		}
	})
}

func TestMachineIsAsBeforeAfterABoxWasKilled(t *testing.T) {
	machine(t, func(control string) {
		before := situation(t)
		change(t, journalAt(t, control), endpoint)
		// Nothing restores. The next box does, before it begins.
		next := journalAt(t, control)
		if now := situation(t); now != before {
			t.Errorf("the machine is left as %q, want %q", now, before)
		}
		change(t, next, endpoint)
		check(t, next.restore())
		if now := situation(t); now != before {
			t.Errorf("the machine is left as %q, want %q", now, before)
		}
	})
}

func TestJournalRemembersOnlyWhatABoxChanges(t *testing.T) {
	machine(t, func(control string) {
		j := journalAt(t, control)
		is, err := readSysctl(setting)
		check(t, err)
		check(t, sysctl{setting, is, false}.set(j))
		check(t, sysctl{"net/mptcp/no_such_setting", "1", true}.set(j))
		check(t, loopbackUp(j)) // it is up already
		if _, err := os.Stat(j.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a journal was begun: %v, %+v", err, j)
		}
		err = sysctl{"net/mptcp/no_such_setting", "1", false}.set(j)
		if err == nil || !strings.Contains(err.Error(), "kernel has no net.mptcp.no_such_setting") {
			t.Errorf("a setting that must be there: %v", err)
		}
	})
}

func TestJournalOfAnotherNamespaceIsLeftAlone(t *testing.T) {
	var control string
	machine(t, func(c string) {
		control = c
		change(t, journalAt(t, c), endpoint)
	})
	machine(t, func(string) {
		check(t, writeSysctl(settings, "7"))
		journalAt(t, control)
		if now, err := readSysctl(settings); err != nil || now != "7" {
			t.Errorf("a setting of this namespace is now %s, %v", now, err)
		}
	})
}

func TestJournalThatCannotBeReadIsNamed(t *testing.T) {
	machine(t, func(control string) {
		check(t, os.WriteFile(control+".restore", []byte("{"), 0o600))
		_, err := openJournal(control)
		if err == nil || !strings.Contains(err.Error(), control+".restore") || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("openJournal gives %v", err)
		}
	})
}

func TestUndoTakesEveryStepLastFirst(t *testing.T) {
	var u undo
	var order []int
	first, third := errors.New("first"), errors.New("third")
	for i, err := range []error{first, nil, third} {
		u.add(func() error { order = append(order, i); return err })
	}
	cause := errors.New("cause")
	err := u.all(cause)
	for _, want := range []error{cause, first, third} {
		if !errors.Is(err, want) {
			t.Errorf("%v is lost in %v", want, err)
		}
	}
	if len(order) != 3 || order[0] != 2 || order[2] != 0 {
		t.Errorf("steps were taken in order %v", order)
	}
	if err := new(undo).all(nil); err != nil {
		t.Errorf("nothing to undo gives %v", err)
	}
}

func TestCapsOfACrashedBoxAreTakenBack(t *testing.T) {
	machine(t, func(control string) {
		check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lte"}, PeerName: "far"}))
		lte, err := netlink.LinkByName("lte")
		check(t, err)
		s := shaper{journal: journalAt(t, control), log: slog.New(slog.DiscardHandler), seen: make(map[string]int)}
		s.look(paths.Path{Interface: "lte", Rate: 10e6}, lte.Attrs().Index)
		if err := unshaped(lte); err == nil {
			t.Error("nothing is capped")
		}
		journalAt(t, control)
		check(t, unshaped(lte))
		if links, err := netlink.LinkList(); err != nil || len(links) != 3 {
			t.Errorf("interfaces %v, %v: want lo, lte and far", links, err)
		}
	})
}
