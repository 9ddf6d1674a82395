//go:build linux

package host

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// Journal changes the machine for a box, and restores it. It is a file beside the
// control socket with the state before each change, written before the change is
// made: after a crash the next box with the same control socket restores the machine.
// Its methods are safe for concurrent use.
type Journal struct {
	path        string
	pathManager func() (PathManager, error)

	mu sync.Mutex // guards what follows, and the file

	NetNS   string            `json:"netns"` // the namespace of the changes
	Sysctls map[string]string `json:"sysctls"`
	// Set has the values that the box has given to Sysctls. A setting with another value
	// belongs to whoever has changed it since.
	Set          map[string]string    `json:"set,omitempty"`
	LoopbackDown bool                 `json:"loopback_down,omitempty"`
	Limits       *paths.SubflowLimits `json:"limits,omitempty"`
	SetLimits    *paths.SubflowLimits `json:"set_limits,omitempty"` // by the box
	Joins        []netip.AddrPort     `json:"joins,omitempty"`
	Shaped       map[string]string    `json:"shaped,omitempty"` // interfaces, and the ifb device of each
}

// PathManager is the kernel's MPTCP path manager, as far as a journal restores it.
type PathManager interface {
	RemoveEndpoint(netip.AddrPort) error
	Limits() (paths.SubflowLimits, error)
	SetLimits(paths.SubflowLimits) error
	Close() error
}

// OpenJournal restores the changes of a crashed box with the same control socket, and
// begins a new journal.
func OpenJournal(control string, pathManager func() (PathManager, error)) (*Journal, error) {
	netns, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("find own network namespace: %w", err)
	}
	old := &Journal{path: control + ".restore", pathManager: pathManager}
	b, err := os.ReadFile(old.path)
	if err == nil {
		err = json.Unmarshal(b, old)
	}
	switch {
	case errors.Is(err, os.ErrNotExist):
	case err != nil:
		return nil, fmt.Errorf("leftover of an earlier box %s: %w; check the settings it names, then remove it", old.path, err)
	case old.NetNS == netns: // otherwise its changes are in another namespace
		if err := old.Restore(); err != nil {
			return nil, fmt.Errorf("clean up after an earlier box: %w; see to it, then remove that file", err)
		}
	}
	return &Journal{
		path: old.path, pathManager: pathManager, NetNS: netns,
		Sysctls: make(map[string]string), Set: make(map[string]string), Shaped: make(map[string]string),
	}, nil
}

// record changes the journal by note, and writes it to its file.
func (j *Journal) record(note func()) error {
	j.mu.Lock()
	defer j.mu.Unlock()
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

// RecordLimits records the limits of the kernel's path manager before and after a change
// that is about to be made.
func (j *Journal) RecordLimits(before, after paths.SubflowLimits) error {
	return j.record(func() { j.Limits, j.SetLimits = &before, &after })
}

// RecordJoin records a join address before it is added to the kernel's path manager.
func (j *Journal) RecordJoin(addr netip.AddrPort) error {
	return j.record(func() {
		if !slices.Contains(j.Joins, addr) {
			j.Joins = append(j.Joins, addr)
		}
	})
}

// SetLoopbackUp brings the loopback interface up: relayed packets are delivered over it.
func (j *Journal) SetLoopbackUp() error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if lo.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	if err := j.record(func() { j.LoopbackDown = true }); err != nil {
		return err
	}
	return Loopback{}.Mend()
}

// Restore undoes every change that nobody has changed since, and removes the journal's file
// unless a change could not be undone.
func (j *Journal) Restore() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	var errs []error
	for key, value := range j.Sysctls {
		now, _ := ReadSysctl(key)
		if set, known := j.Set[key]; now != value && (!known || now == set) {
			errs = append(errs, writeSysctl(key, value))
		}
	}
	errs = append(errs, j.restorePathManager())
	for name, ifb := range j.Shaped {
		errs = append(errs, unshape(name, ifb))
	}
	if j.LoopbackDown {
		lo, err := netlink.LinkByName("lo")
		if err == nil && lo.Attrs().RawFlags&unix.IFF_UP != 0 {
			err = netlink.LinkSetDown(lo)
		}
		errs = append(errs, err)
	}
	if err := errors.Join(errs...); err != nil {
		return fmt.Errorf("%w; %s has the state before", err, j.path)
	}
	if err := os.Remove(j.path); !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return nil
}

func (j *Journal) restorePathManager() error {
	if j.Limits == nil && len(j.Joins) == 0 {
		return nil
	}
	pm, err := j.pathManager()
	if err != nil {
		return err
	}
	defer pm.Close()
	var errs []error
	for _, addr := range j.Joins {
		errs = append(errs, pm.RemoveEndpoint(addr))
	}
	if j.Limits != nil {
		now, err := pm.Limits()
		errs = append(errs, err)
		if err == nil && (j.SetLimits == nil || now == *j.SetLimits) {
			errs = append(errs, pm.SetLimits(*j.Limits))
		}
	}
	return errors.Join(errs...)
}
