package box

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/mptcp"
)

// journal is a file beside the control socket that says how the machine was
// before the box, so that a box that was killed is cleaned up by the next one.
type journal struct {
	path string

	NetNS        string            `json:"netns"` // the namespace that this is about
	Sysctls      map[string]string `json:"sysctls"`
	LoopbackDown bool              `json:"loopback_down,omitempty"`
	Limits       *mptcp.Limits     `json:"limits,omitempty"`
	Joins        []netip.AddrPort  `json:"joins,omitempty"`
	Shaped       map[string]string `json:"shaped,omitempty"` // interfaces, and the ifb device of each
}

// openJournal restores what a crashed box with the same control socket left,
// and begins a new journal.
func openJournal(control string) (*journal, error) {
	netns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("find own network namespace: %w", err)
	}
	old := &journal{path: control + ".restore"}
	b, err := os.ReadFile(old.path)
	if err == nil {
		err = json.Unmarshal(b, old)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("leftover of an earlier box %s: %w; check the settings it names, then remove it", old.path, err)
	case old.NetNS == netns: // otherwise it speaks of a namespace that is none of ours
		if err := old.restore(); err != nil {
			return nil, fmt.Errorf("clean up after an earlier box: %w; see to it, then remove that file", err)
		}
	}
	return &journal{path: old.path, NetNS: netns, Sysctls: make(map[string]string), Shaped: make(map[string]string)}, nil
}

// remember notes a change, on disk, before it is made.
func (j *journal) remember(note func()) error {
	note()
	b, err := json.MarshalIndent(j, "", "\t")
	if err != nil {
		return err
	}
	next := j.path + ".new"
	if err := os.WriteFile(next, b, 0o600); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	if err := os.Rename(next, j.path); err != nil {
		return fmt.Errorf("write journal: %w", err)
	}
	return nil
}

// restore undoes every change, and then forgets them, unless one could not be undone.
func (j *journal) restore() error {
	var errs []error
	for key, value := range j.Sysctls {
		if now, _ := readSysctl(key); now != value {
			errs = append(errs, writeSysctl(key, value))
		}
	}
	errs = append(errs, j.restoreJoins())
	for name := range j.Shaped {
		errs = append(errs, j.unshape(name))
	}
	if j.LoopbackDown {
		lo, err := netlink.LinkByName("lo")
		if err == nil && lo.Attrs().RawFlags&unix.IFF_UP != 0 {
			err = netlink.LinkSetDown(lo)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; %s tells what it was before", err, j.path)
	}
	if err := os.Remove(j.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (j *journal) restoreJoins() error {
	if j.Limits == nil && len(j.Joins) == 0 {
		return nil
	}
	pm, err := mptcp.Open()
	if err != nil {
		return err
	}
	defer pm.Close()
	var errs []error
	for _, addr := range j.Joins {
		errs = append(errs, pm.RemoveEndpoint(addr))
	}
	if j.Limits != nil {
		errs = append(errs, pm.SetLimits(*j.Limits))
	}
	return errors.Join(errs...)
}

// undo is what a box has to take back when it stops, last first.
type undo struct{ steps []func() error }

func (u *undo) add(step func() error) { u.steps = append(u.steps, step) }

// all takes every step, whatever happens, and joins what goes wrong to err.
func (u *undo) all(err error) error {
	for i := len(u.steps) - 1; i >= 0; i-- {
		err = errors.Join(err, u.steps[i]())
	}
	return err
}
