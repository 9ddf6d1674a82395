package lab

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"golang.org/x/sync/errgroup"
)

// object is a thing to move, by a connection of its own.
type object struct {
	direction netlab.Direction
	bytes     int64
}

// String is such as "64 KiB down".
func (o object) String() string {
	if o.bytes < 1<<20 {
		return fmt.Sprintf("%d KiB %s", o.bytes>>10, o.direction)
	}
	return fmt.Sprintf("%d MiB %s", o.bytes>>20, o.direction)
}

// objects are as large as web pages, pictures and downloads.
var objects = func() (all []object) {
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		for _, bytes := range []int64{64 << 10, 1 << 20, 4 << 20, largest} {
			all = append(all, object{d, bytes})
		}
	}
	return all
}()

const largest = 16 << 20

// objectRounds is how often each is moved.
const objectRounds = 3

// neverSlower is what the pair may take for an object, as a share of what the best
// line alone takes. Of the largest object a part wants more.
const neverSlower = 1.02

// objectsOver is a part that moves objects over each line alone, without boxes,
// and over all with them. The largest may take a share of the best line's time.
func objectsOver(title string, lines []netlab.LineConfig, share float64) part {
	return part{
		title: title, lines: lines, still: true,
		steps: []step{
			see("both lines are used", allUsed),
			noteTransport,
			func(ctx context.Context, s *scene) error { return s.compareObjects(ctx, lines, share) },
		},
	}
}

// noteTransport notes how the multipath legs of this part are to carry bytes.
func noteTransport(ctx context.Context, s *scene) error {
	v, err := s.cpe.Paths(ctx)
	if err != nil {
		return err
	}
	s.note("multipath legs: %s, initial window of %d segments", v.Transport.CongestionControl, v.Transport.InitialWindow)
	return nil
}

// rival is a network, and how long objects took in it.
type rival struct {
	name string
	network
	took map[object][]time.Duration
	stop func() error // its traffic servers
}

// alone is a network with that line only, and without boxes.
func alone(l netlab.LineConfig, congestionControl string) (*rival, error) {
	built, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{l}, CongestionControl: congestionControl})
	if err != nil {
		return nil, err
	}
	n := network{built}
	stop, err := n.serve(new(arrivals))
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &rival{l.Name + " alone", n, make(map[object][]time.Duration), stop}, nil
}

func (r *rival) close() error { return errors.Join(r.stop(), r.Close()) }

// compareObjects has the lines, each in a network of its own, and the boxes move
// objects, and judges the boxes by the best line.
func (s *scene) compareObjects(ctx context.Context, lines []netlab.LineConfig, share float64) (err error) {
	var singles []*rival
	defer func() {
		for _, r := range singles {
			err = errors.Join(err, r.close())
		}
	}()
	for _, l := range lines {
		r, err := alone(l, s.n.CongestionControl)
		if err != nil {
			return err
		}
		singles = append(singles, r)
	}
	pair := &rival{name: "both", network: s.n, took: make(map[object][]time.Duration)}
	err = s.race(ctx, append(slices.Clip(singles), pair))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.check("every object arrives as it was sent", err == nil, "%v", err)
	if err == nil {
		s.judgeObjects(singles, pair, share)
	}
	return nil
}

// race has all rivals move every object at the same time: they share nothing but
// the machine, and what disturbs that disturbs all of them.
func (s *scene) race(ctx context.Context, rivals []*rival) error {
	for round := range objectRounds {
		s.Say(fmt.Sprintf("%s: round %d of %d", s.shown.Title, round+1, objectRounds))
		for _, o := range objects {
			g, ctx := errgroup.WithContext(ctx)
			for _, r := range rivals {
				g.Go(func() error { return r.move(ctx, o) })
			}
			if err := g.Wait(); err != nil {
				return err
			}
		}
	}
	return nil
}

// move moves an object.
func (r *rival) move(ctx context.Context, o object) error {
	t, err := netlab.Transfer(ctx, r.dialer(netip.AddrPortFrom(netlab.Server6, trafficPort)), o.direction, o.bytes)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", r.name, o, err)
	}
	r.took[o] = append(r.took[o], t.Elapsed)
	return nil
}

// judgeObjects compares the pair's medians with those of the best line for each object.
func (s *scene) judgeObjects(singles []*rival, pair *rival, share float64) {
	head := []string{"objects"}
	for _, r := range singles {
		head = append(head, r.name)
	}
	s.shown.table = [][]string{append(head, "both, with boxes", "÷ best line", "allowed")}
	for _, o := range objects {
		allowed := neverSlower
		if o.bytes == largest {
			allowed = share
		}
		s.judgeObject(o, singles, pair, allowed)
	}
}

// judgeObject compares them for one object, and shows them.
func (s *scene) judgeObject(o object, singles []*rival, pair *rival, allowed float64) {
	took := median(pair.took[o])
	row := []string{o.String()}
	var best time.Duration
	for _, r := range singles {
		alone := median(r.took[o])
		if best == 0 || alone < best {
			best = alone
		}
		s.r.figure(fmt.Sprintf("%s %s %s ms", s.shown.Title, o, r.name), 1000*alone.Seconds())
		row = append(row, ms(alone))
	}
	share := took.Seconds() / best.Seconds()
	s.r.figure(fmt.Sprintf("%s %s %s ms", s.shown.Title, o, pair.name), 1000*took.Seconds())
	s.r.figure(fmt.Sprintf("%s %s ratio", s.shown.Title, o), share)
	s.shown.table = append(s.shown.table, append(row, ms(took), fmt.Sprintf("%.3f", share), fmt.Sprintf("%.2f", allowed)))
	s.check(fmt.Sprintf("%s: %.2f of the time on the best line at most", o, allowed), share <= allowed, "%.3f", share)
}
