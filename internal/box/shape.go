package box

import (
	"errors"
	"fmt"
	"log/slog"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/paths"
)

// shaper caps what the interfaces of paths carry, each way by queues which flows
// share. What comes in has none of its own and takes a detour by an ifb device,
// since a queue slows a sender down more gently than losses do.
type shaper struct {
	journal *journal
	log     *slog.Logger
	seen    map[string]int // index of the interface of that name, when it was last shaped
}

// look shapes the interface of a path if it is there and has not been shaped:
// one that was away may have been made anew.
func (s *shaper) look(p paths.Path, index int) {
	if p.Rate == 0 || index == 0 || s.seen[p.Interface] == index {
		return
	}
	s.seen[p.Interface] = index
	if err := s.shape(p, index); err != nil {
		err = errors.Join(err, s.journal.unshape(p.Interface)) // all or nothing
		s.log.Warn("the rate of a path is not capped", "path", p.Name, "err", err)
	}
}

func (s *shaper) shape(p paths.Path, index int) error {
	link, err := netlink.LinkByIndex(index)
	if err != nil {
		return err
	}
	if err := s.journal.unshape(p.Interface); err != nil {
		return err
	}
	if err := unshaped(link); err != nil {
		return err
	}
	ifb := &netlink.Ifb{LinkAttrs: netlink.LinkAttrs{Name: fmt.Sprintf("synbond%d", index)}}
	if err := s.journal.remember(func() { s.journal.Shaped[p.Interface] = ifb.Name }); err != nil {
		return err
	}
	return capped(index, p.Rate, ifb)
}

// capped lets an interface carry so many bit/s each way, by way of an ifb device
// that it adds.
func capped(index int, rate uint64, ifb *netlink.Ifb) error {
	ingress := netlink.MakeHandle(0xffff, 0)
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"add an ifb device (CONFIG_IFB)", func() error { return netlink.LinkAdd(ifb) }},
		{"bring it up", func() error { return netlink.LinkSetUp(ifb) }},
		{"limit what comes in", func() error { return fair(ifb.Index, rate) }},
		{"limit what goes out", func() error { return fair(index, rate) }},
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

// unshaped tells whether an interface has the kernel's queueing only, whose
// handles are zero.
func unshaped(link netlink.Link) error {
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

// unshape takes back what shape has done to the interface of that name.
func (j *journal) unshape(name string) error {
	ifb, shaped := j.Shaped[name]
	if !shaped {
		return nil
	}
	var errs []error
	if link, err := netlink.LinkByName(name); err == nil {
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
