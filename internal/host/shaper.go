//go:build linux

package host

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// Shaper limits the rate of paths' interfaces, each way, by queues that flows share
// fairly. Incoming packets have no queue of their own: they take a detour over an ifb
// device, since a queue slows a sender down more gently than losses do. Its methods are safe
// for concurrent use.
type Shaper struct {
	journal *Journal
	log     *slog.Logger

	mu     sync.Mutex
	shaped map[string]shaped // by the interface's name
}

// shaped is the last attempt at shaping the interface of a path.
type shaped struct {
	path  paths.Path
	index int // of the interface at that time
	ok    bool
}

// NewShaper returns a shaper whose changes the journal records.
func NewShaper(j *Journal, log *slog.Logger) *Shaper {
	return &Shaper{journal: j, log: log, shaped: make(map[string]shaped)}
}

// Shape shapes the interface of a path with a rate, unless it is away (index 0) or
// shaped already. The interface of that name may have been made anew, or names may have been
// exchanged: what is no longer the path's is as before.
func (s *Shaper) Shape(p paths.Path, index int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p.Rate == 0 || s.shaped[p.Interface].index == index {
		return
	}
	for name, of := range s.shaped {
		if name == p.Interface || of.index == index {
			delete(s.shaped, name) // another path's call shapes what it has now
			if err := s.journal.unshape(name); err != nil {
				s.log.Warn("queues of a path are left on an interface", "interface", name, "err", err)
			}
		}
	}
	if index == 0 {
		return
	}
	s.try(p, index)
}

func (s *Shaper) try(p paths.Path, index int) {
	err := s.shape(p, index)
	if err != nil {
		err = errors.Join(err, s.journal.unshape(p.Interface)) // all or nothing
		s.log.Warn("the rate of a path is not capped", "path", p.Name, "err", err)
	}
	s.shaped[p.Interface] = shaped{p, index, err == nil}
}

// Missing names the interfaces whose queues others have removed or replaced, "" for none.
func (s *Shaper) Missing() (string, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var names []string
	for name, of := range s.shaped {
		link, err := netlink.LinkByIndex(of.index)
		if !of.ok || err != nil { // an interface that is away has lost its queues
			continue
		}
		there, err := queuesThere(link, s.journal.ifb(name))
		if err != nil {
			return "", err
		}
		if !there {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return "", nil
	}
	slices.Sort(names)
	return "queues of " + strings.Join(names, ", ") + " gone or replaced", nil
}

// Mend shapes the interfaces again that have lost their queues. One with queues of somebody
// else stays as it is.
func (s *Shaper) Mend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, of := range s.shaped {
		link, err := netlink.LinkByIndex(of.index)
		if !of.ok || err != nil {
			continue
		}
		if there, err := queuesThere(link, s.journal.ifb(name)); err != nil || there {
			continue
		}
		s.try(of.path, of.index)
	}
	return nil
}

// queuesThere reports whether an interface has the queues of limitRate.
func queuesThere(link netlink.Link, ifb string) (bool, error) {
	in, err := netlink.LinkByName(ifb)
	if errors.As(err, &netlink.LinkNotFoundError{}) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	here, err := netlink.QdiscList(link)
	if err != nil {
		return false, err
	}
	there, err := netlink.QdiscList(in)
	if err != nil {
		return false, err
	}
	filters, err := netlink.FilterList(link, netlink.MakeHandle(0xffff, 0))
	if errors.Is(err, unix.EINVAL) { // there is no queue for what comes in
		return false, nil
	}
	return hasShape(here) && hasShape(there) && len(filters) > 0 && in.Attrs().RawFlags&unix.IFF_UP != 0, err
}

func hasShape(all []netlink.Qdisc) bool {
	return slices.ContainsFunc(all, func(q netlink.Qdisc) bool {
		return q.Attrs().Handle == shapeHandle && q.Attrs().Parent == netlink.HANDLE_ROOT
	})
}

func (s *Shaper) shape(p paths.Path, index int) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if err := s.journal.unshape(p.Interface); err != nil {
		return err
	}
	if err := checkUnshaped(link); err != nil {
		return err
	}
	ifb := &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf(ifbName, index)}}
	if err := s.journal.record(func() { s.journal.Shaped[p.Interface] = ifb.Name }); err != nil {
		return err
	}
	return limitRate(index, p.Rate, ifb)
}

// ifbName is the name of the ifb device for an interface with that index. An interface keeps
// its index when it is renamed.
const ifbName = "synbond%d"

// limitRate limits the rate of an interface each way, in bit/s. It adds the ifb device
// for incoming packets.
func limitRate(index int, rate uint64, ifb *netlink.Ifb) error {
	ingress := netlink.MakeHandle(0xffff, 0)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"add an ifb device (CONFIG_IFB)", func() error { return netlink.LinkAdd(ifb) }},
		{"bring it up", func() error { return netlink.LinkSetUp(ifb) }},
		{"limit what comes in", func() error { return addFairQueue(ifb.Index, rate) }},
		{"limit what goes out", func() error { return addFairQueue(index, rate) }},
		{"look at what comes in (CONFIG_NET_SCH_INGRESS)", func() error {
			return netlink.QdiscAdd(&netlink.Ingress{QdiscAttrs: netlink.QdiscAttrs{
				LinkIndex: index, Handle: ingress, Parent: netlink.HANDLE_INGRESS,
			}})
		}},
		{"redirect it (CONFIG_NET_CLS_U32, CONFIG_NET_ACT_MIRRED)", func() error {
			return netlink.FilterAdd(&netlink.U32{
				FilterAttrs: netlink.FilterAttrs{LinkIndex: index, Parent: ingress, Priority: 1, Protocol: unix.ETH_P_ALL},
				ClassId:     netlink.MakeHandle(1, 1), RedirIndex: ifb.Index,
			})
		}},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

// checkUnshaped returns an error if an interface has queueing disciplines beside those
// of the kernel, whose handles are zero.
func checkUnshaped(link netlink.Link) error {
	all, err := netlink.QdiscList(link)
	if err != nil {
		return err
	}
	for _, q := range all {
		if q.Attrs().Handle != 0 {
			return fmt.Errorf("interface %s has queueing of its own: %s %s", link.Attrs().Name, q.Type(), netlink.HandleStr(q.Attrs().Handle))
		}
	}
	return nil
}

// ifb returns the ifb device of the interface of that name, "" if it is not shaped.
func (j *Journal) ifb(name string) string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.Shaped[name]
}

// unshape undoes shape for the interface that had that name.
func (j *Journal) unshape(name string) error {
	ifb := j.ifb(name)
	if ifb == "" {
		return nil
	}
	if err := unshape(name, ifb); err != nil {
		return err
	}
	return j.record(func() { delete(j.Shaped, name) })
}

func unshape(name, ifb string) error {
	var index int
	if _, err := fmt.Sscanf(ifb, ifbName, &index); err != nil {
		return fmt.Errorf("ifb device %q of interface %s: %w", ifb, name, err)
	}
	var errs []error
	if link, err := netlink.LinkByIndex(index); err == nil {
		all, err := netlink.QdiscList(link)
		errs = append(errs, err)
		for _, q := range all {
			if at := q.Attrs(); at.Handle == shapeHandle || at.Parent == netlink.HANDLE_INGRESS {
				errs = append(errs, netlink.QdiscDel(q))
			}
		}
	}
	if link, err := netlink.LinkByName(ifb); err == nil {
		errs = append(errs, netlink.LinkDel(link))
	}
	return errors.Join(errs...)
}
