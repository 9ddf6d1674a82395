//go:build linux

package host

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// Shaper limits the rate of paths' interfaces, each way, by queues that flows share
// fairly. Incoming packets have no queue of their own: they take a detour over an ifb
// device, since a queue slows a sender down more gently than losses do. A shaper is
// for one goroutine.
type Shaper struct {
	journal *Journal
	log     *slog.Logger
	shaped  map[string]int // index of the interface of that name, when it was last looked at
}

// NewShaper returns a shaper whose changes the journal records.
func NewShaper(j *Journal, log *slog.Logger) *Shaper {
	return &Shaper{journal: j, log: log, shaped: make(map[string]int)}
}

// Shape shapes the interface of a path with a rate, unless it is away (index 0) or
// shaped already. The interface of that name may have been made anew, or names may have been
// exchanged: what is no longer the path's is as before.
func (s *Shaper) Shape(p paths.Path, index int) {
	if p.Rate == 0 || s.shaped[p.Interface] == index {
		return
	}
	for name, at := range s.shaped {
		if name == p.Interface || at == index {
			delete(s.shaped, name) // another path's call shapes what it has now
			if err := s.journal.unshape(name); err != nil {
				s.log.Warn("queues of a path are left on an interface", "interface", name, "err", err)
			}
		}
	}
	if index == 0 {
		return
	}
	s.shaped[p.Interface] = index
	if err := s.shape(p, index); err != nil {
		err = errors.Join(err, s.journal.unshape(p.Interface)) // all or nothing
		s.log.Warn("the rate of a path is not capped", "path", p.Name, "err", err)
	}
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

// unshape undoes shape for the interface that had that name.
func (j *Journal) unshape(name string) error {
	ifb, shaped := j.Shaped[name]
	if !shaped {
		return nil
	}
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
	if err := errors.Join(errs...); err != nil {
		return err
	}
	return j.record(func() { delete(j.Shaped, name) })
}
