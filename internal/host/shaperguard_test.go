//go:build linux

package host

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/paths"
)

// dummy adds an interface that is shaped, and returns it with its shaper and its log.
func dummy(t *testing.T, control string) (netlink.Link, *Shaper, *bytes.Buffer) {
	t.Helper()
	check(t, netlink.LinkAdd(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: "dsl"}}))
	link, err := netlink.LinkByName("dsl")
	check(t, err)
	check(t, netlink.LinkSetUp(link))
	j, _ := journalAt(t, control)
	log := new(bytes.Buffer)
	s := NewShaper(j, slog.New(slog.NewTextHandler(log, nil)))
	s.Shape(paths.Path{Name: "dsl", Interface: "dsl", Rate: 1_000_000}, link.Attrs().Index)
	return link, s, log
}

// root returns the handle of the queueing discipline that an interface has at its root.
func root(t *testing.T, link netlink.Link) string {
	t.Helper()
	all, err := netlink.QdiscList(link)
	check(t, err)
	for _, q := range all {
		if q.Attrs().Parent == netlink.HANDLE_ROOT {
			return netlink.HandleStr(q.Attrs().Handle)
		}
	}
	return ""
}

func TestQueuesThatOthersRemoveAreMended(t *testing.T) {
	for name, remove := range map[string]func(netlink.Link, string) error{
		"outgoing": func(l netlink.Link, _ string) error { return del(l, netlink.HANDLE_ROOT) },
		"incoming": func(l netlink.Link, _ string) error { return del(l, netlink.HANDLE_INGRESS) },
		"the ifb device": func(_ netlink.Link, ifb string) error {
			return netlink.LinkDel(&netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: ifb}})
		},
	} {
		inNamespace(t, func(control string) {
			link, s, log := dummy(t, control)
			if words, err := s.Missing(); words != "" || err != nil || log.Len() > 0 {
				t.Fatalf("%s: at first %q, %v, log %s", name, words, err, log)
			}
			check(t, remove(link, s.journal.ifb("dsl")))
			for _, want := range []string{"queues of dsl gone or replaced", ""} {
				if words, err := s.Missing(); words != want || err != nil {
					t.Errorf("%s: %q, %v, want %q", name, words, err, want)
				}
				check(t, s.Mend())
			}
			check(t, s.journal.Restore())
			if got := root(t, link); got == netlink.HandleStr(shapeHandle) {
				t.Errorf("%s: %s is left", name, got)
			}
		})
	}
}

// del deletes the queueing discipline of an interface that has this parent.
func del(link netlink.Link, parent uint32) error {
	all, err := netlink.QdiscList(link)
	for _, q := range all {
		if q.Attrs().Parent == parent {
			err = errors.Join(err, netlink.QdiscDel(q))
		}
	}
	return err
}

// TestQueuesOfOthersStay has another program put a queueing discipline in the place of the box's.
func TestQueuesOfOthersStay(t *testing.T) {
	inNamespace(t, func(control string) {
		link, s, log := dummy(t, control)
		check(t, del(link, netlink.HANDLE_ROOT))
		check(t, netlink.QdiscAdd(netlink.NewHtb(netlink.QdiscAttrs{
			LinkIndex: link.Attrs().Index, Handle: netlink.MakeHandle(7, 0), Parent: netlink.HANDLE_ROOT,
		})))
		for range 2 {
			check(t, s.Mend())
		}
		if got := root(t, link); got != "7:0" {
			t.Errorf("the interface has %q, want the other program's", got)
		}
		if words, err := s.Missing(); words != "" || err != nil || strings.Count(log.String(), "not capped") != 1 {
			t.Errorf("%q, %v, log:\n%s", words, err, log)
		}
	})
}
