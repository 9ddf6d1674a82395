//go:build linux

package host

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
	"github.com/synbond/synbond/internal/paths"
)

// fakePathManager is a [PathManager] that writes down its calls. Package mptcp has a
// test of the journal with the kernel's.
type fakePathManager struct {
	calls  []string
	limits paths.SubflowLimits
}

func (p *fakePathManager) RemoveEndpoint(a netip.AddrPort) error {
	p.calls = append(p.calls, "remove "+a.String())
	return nil
}

func (p *fakePathManager) Limits() (paths.SubflowLimits, error) { return p.limits, nil }

func (p *fakePathManager) SetLimits(l paths.SubflowLimits) error {
	p.calls = append(p.calls, fmt.Sprintf("limits %d %d", l.Subflows, l.Announcements))
	return nil
}

func (p *fakePathManager) Close() error { p.calls = append(p.calls, "close"); return nil }

// journalAt opens the journal of the box with that control socket, on the thread of a
// host.
func journalAt(t *testing.T, control string) (*Journal, *fakePathManager) {
	t.Helper()
	p := &fakePathManager{limits: boxLimits}
	j, err := OpenJournal(control, func() (PathManager, error) { return p, nil })
	check(t, err)
	return j, p
}

// inNamespace runs fn in a new network namespace.
func inNamespace(t *testing.T, fn func(control string)) {
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
	setting = "net/mptcp/allow_join_initial_addr_port"
	another = "net/mptcp/stale_loss_cnt"
)

// boxLimits are those that a box sets.
var boxLimits = paths.SubflowLimits{Subflows: 8, Announcements: 1}

var endpoint = netip.MustParseAddrPort("[::1]:7100")

// change makes the changes of a box.
func change(t *testing.T, j *Journal) {
	t.Helper()
	for _, s := range []Sysctl{{setting, "0", false}, {another, "9", false}} {
		check(t, j.SetSysctl(s))
	}
	check(t, j.RecordLimits(paths.SubflowLimits{Subflows: 2, Announcements: 1}, boxLimits))
	check(t, j.RecordJoin(endpoint))
}

// settings returns the settings that change changes.
func settings(t *testing.T) string {
	t.Helper()
	a, err := ReadSysctl(setting)
	check(t, err)
	b, err := ReadSysctl(another)
	check(t, err)
	return a + " " + b
}

const restored = "remove [::1]:7100, limits 2 1, close"

func TestJournalRestoresTheMachine(t *testing.T) {
	inNamespace(t, func(control string) {
		before := settings(t)
		j, p := journalAt(t, control)
		change(t, j)
		if now := settings(t); now == before {
			t.Fatalf("nothing was changed: %s", now)
		}
		for range 2 { // the second time changes nothing
			check(t, j.Restore())
			if now := settings(t); now != before {
				t.Errorf("settings are %q, want %q", now, before)
			}
		}
		if got := strings.Join(p.calls[:3], ", "); got != restored {
			t.Errorf("path manager: %s, want %s", got, restored)
		}
		if _, err := os.Stat(j.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("the journal stays: %v", err)
		}
	})
}

func TestNextJournalRestoresAfterACrash(t *testing.T) {
	inNamespace(t, func(control string) {
		before := settings(t)
		j, _ := journalAt(t, control)
		change(t, j)
		next, p := journalAt(t, control)
		if now := settings(t); now != before {
			t.Errorf("settings are %q, want %q", now, before)
		}
		if got := strings.Join(p.calls, ", "); got != restored {
			t.Errorf("path manager: %s, want %s", got, restored)
		}
		change(t, next)
		check(t, next.Restore())
		if now := settings(t); now != before {
			t.Errorf("settings are %q, want %q", now, before)
		}
	})
}

func TestJournalRecordsChangesOnly(t *testing.T) {
	inNamespace(t, func(control string) {
		j, _ := journalAt(t, control)
		is, err := ReadSysctl(setting)
		check(t, err)
		check(t, j.SetSysctl(Sysctl{setting, is, false}))
		check(t, j.SetSysctl(Sysctl{"net/mptcp/no_such_setting", "1", true}))
		check(t, j.SetLoopbackUp()) // it is up already
		if _, err := os.Stat(j.path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("a journal was begun: %v, %+v", err, j)
		}
		err = j.SetSysctl(Sysctl{"net/mptcp/no_such_setting", "1", false})
		if err == nil || !strings.Contains(err.Error(), "kernel has no net.mptcp.no_such_setting") {
			t.Errorf("a setting that must exist: %v", err)
		}
	})
}

func TestJournalOfAnotherNamespaceIsLeftAlone(t *testing.T) {
	var control string
	inNamespace(t, func(c string) {
		control = c
		j, _ := journalAt(t, c)
		change(t, j)
	})
	inNamespace(t, func(string) {
		check(t, writeSysctl(another, "7"))
		_, p := journalAt(t, control)
		if now, err := ReadSysctl(another); err != nil || now != "7" || len(p.calls) > 0 {
			t.Errorf("a setting of this namespace is now %s, %v; path manager: %v", now, err, p.calls)
		}
	})
}

func TestUnreadableJournalIsAnError(t *testing.T) {
	inNamespace(t, func(control string) {
		check(t, os.WriteFile(control+".restore", []byte("{"), 0o600))
		_, err := OpenJournal(control, nil)
		if err == nil || !strings.Contains(err.Error(), control+".restore") || !strings.Contains(err.Error(), "remove it") {
			t.Errorf("OpenJournal gives %v", err)
		}
	})
}

func TestShapingIsUndoneAfterACrash(t *testing.T) {
	inNamespace(t, func(control string) {
		check(t, netlink.LinkAdd(&netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "lte"}, PeerName: "far"}))
		lte, err := netlink.LinkByName("lte")
		check(t, err)
		j, _ := journalAt(t, control)
		NewShaper(j, slog.New(slog.DiscardHandler)).Shape(paths.Path{Interface: "lte", Rate: 10e6}, lte.Attrs().Index)
		if checkUnshaped(lte) == nil {
			t.Error("the interface is not shaped")
		}
		journalAt(t, control)
		check(t, checkUnshaped(lte))
		if links, err := netlink.LinkList(); err != nil || len(links) != 3 {
			t.Errorf("interfaces %v, %v: want lo, lte and far", links, err)
		}
	})
}

// TestJournalLeavesWhatOthersHaveChanged has others change settings while a box runs.
func TestJournalLeavesWhatOthersHaveChanged(t *testing.T) {
	inNamespace(t, func(control string) {
		j, p := journalAt(t, control)
		change(t, j)
		check(t, writeSysctl(another, "7"))
		p.limits.Subflows = 5
		p.calls = nil
		check(t, j.Restore())
		if now := settings(t); now != "1 7" {
			t.Errorf("settings are %q, want %q", now, "1 7")
		}
		if got := strings.Join(p.calls, ", "); got != "remove [::1]:7100, close" {
			t.Errorf("path manager: %s", got)
		}
	})
}

// TestJournalRestoresWhatOthersWantedLast has a box put a setting back that others have changed.
func TestJournalRestoresWhatOthersWantedLast(t *testing.T) {
	inNamespace(t, func(control string) {
		j, _ := journalAt(t, control)
		change(t, j)
		s := Sysctl{Key: another, Value: "9"}
		check(t, writeSysctl(another, "7"))
		if words, err := s.Changed(); words != "set to 7 instead of 9" || err != nil {
			t.Errorf("changed: %q, %v", words, err)
		}
		check(t, j.SetSysctl(s))
		if words, err := s.Changed(); words != "" || err != nil {
			t.Errorf("changed: %q, %v", words, err)
		}
		check(t, j.Restore())
		if now := settings(t); now != "1 7" {
			t.Errorf("settings are %q, want %q", now, "1 7")
		}
	})
}

func TestLoopbackIsMended(t *testing.T) {
	inNamespace(t, func(string) {
		l := Loopback{Families: Families()}
		check(t, l.Mend())
		for _, c := range []struct {
			name string
			do   func(netlink.Link) error
			want string
		}{
			{"nothing", func(netlink.Link) error { return nil }, ""},
			{"down", netlink.LinkSetDown, "set down"},
			{"without addresses", func(lo netlink.Link) error {
				all, err := netlink.AddrList(lo, netlink.FAMILY_ALL)
				for _, a := range all {
					err = errors.Join(err, netlink.AddrDel(lo, &a))
				}
				return err
			}, "::1 gone, 127.0.0.1 gone"},
		} {
			lo, err := netlink.LinkByName(loopbackName)
			check(t, err)
			check(t, c.do(lo))
			for _, want := range []string{c.want, ""} {
				if got, err := l.Changed(); got != want || err != nil {
					t.Errorf("%s: %q, %v, want %q", c.name, got, err, want)
				}
				check(t, l.Mend())
			}
		}
	})
}
