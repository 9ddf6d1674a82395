//go:build linux

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

// object is a transfer over a new connection.
type object struct {
	direction netlab.Direction
	bytes     int64
}

// String returns the size and the direction: "64 KiB down".
func (o object) String() string {
	if o.bytes < 1<<20 {
		return fmt.Sprintf("%d KiB %s", o.bytes>>10, o.direction)
	}
	return fmt.Sprintf("%d MiB %s", o.bytes>>20, o.direction)
}

// objects have the sizes of web pages, pictures and downloads.
var objects = func() (all []object) {
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		for _, bytes := range []int64{64 << 10, 1 << 20, 4 << 20, largestObject} {
			all = append(all, object{d, bytes})
		}
	}
	return all
}()

const largestObject = 16 << 20

// objectRounds is the number of times that each object is moved.
const objectRounds = 3

// maxShare limits the pair's time for an object, as a share of the best line's time
// without boxes. For the largest object each variant has its own limit.
const maxShare = 1.02

// objectsVariant returns a variant that moves objects over each line alone, without
// boxes, and over all lines with them. share limits the time for the largest object,
// as a share of the best line's time.
func objectsVariant(title string, lines []netlab.LineConfig, share float64) variant {
	return variant{
		title: title, lines: lines, noTimeline: true,
		steps: []step{
			await("both lines are used", allUsed),
			noteTransport,
			func(ctx context.Context, s *session) error { return s.compareObjects(ctx, lines, share) },
		},
	}
}

// noteTransport adds a note with the settings of the multipath legs.
func noteTransport(ctx context.Context, s *session) error {
	v, err := s.cpe.Paths(ctx)
	if err != nil {
		return err
	}
	s.note("multipath legs: %s, initial window of %d segments", v.Transport.CongestionControl, v.Transport.InitialWindow)
	return nil
}

// system is a system under test: a network, and the times that objects took in it.
type system struct {
	name string
	network
	took map[object][]time.Duration
	stop func() error // its traffic servers
}

// singleLine builds a network with one line and without boxes.
func singleLine(l netlab.LineConfig, congestionControl string) (*system, error) {
	built, err := netlab.Build(netlab.Topology{Lines: []netlab.LineConfig{l}, CongestionControl: congestionControl})
	if err != nil {
		return nil, err
	}
	n := network{built}
	stop, err := n.serve(new(byteCounter))
	if err != nil {
		return nil, errors.Join(err, n.Close())
	}
	return &system{l.Name + " alone", n, make(map[object][]time.Duration), stop}, nil
}

func (r *system) close() error { return errors.Join(r.stop(), r.Close()) }

// compareObjects moves the objects over each line, in a network of its own, and over
// the boxes, and compares the boxes with the best line.
func (s *session) compareObjects(ctx context.Context, lines []netlab.LineConfig, share float64) (err error) {
	var singles []*system
	defer func() {
		for _, r := range singles {
			err = errors.Join(err, r.close())
		}
	}()
	for _, l := range lines {
		r, err := singleLine(l, s.n.CongestionControl)
		if err != nil {
			return err
		}
		singles = append(singles, r)
	}
	pair := &system{name: "both", network: s.n, took: make(map[object][]time.Duration)}
	err = s.moveObjects(ctx, append(slices.Clip(singles), pair))
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	s.check("every object arrives as it was sent", err == nil, "%v", err)
	if err == nil {
		s.checkObjects(singles, pair, share)
	}
	return nil
}

// moveObjects moves every object in all systems at the same time. The systems share
// only the machine, whose disturbances affect them alike.
func (s *session) moveObjects(ctx context.Context, systems []*system) error {
	for round := range objectRounds {
		s.Say(fmt.Sprintf("%s: round %d of %d", s.report.Title, round+1, objectRounds))
		for _, o := range objects {
			g, ctx := errgroup.WithContext(ctx)
			for _, r := range systems {
				g.Go(func() error { return r.move(ctx, o) })
			}
			if err := g.Wait(); err != nil {
				return err
			}
		}
	}
	return nil
}

// move moves an object and adds its time.
func (r *system) move(ctx context.Context, o object) error {
	t, err := netlab.Transfer(ctx, r.dialer(netip.AddrPortFrom(netlab.Server6, trafficPort)), o.direction, o.bytes)
	if err != nil {
		return fmt.Errorf("%s: %s: %w", r.name, o, err)
	}
	r.took[o] = append(r.took[o], t.Elapsed)
	return nil
}

// checkObjects compares the pair's median time for each object with the best line's.
func (s *session) checkObjects(singles []*system, pair *system, share float64) {
	head := []string{"objects"}
	for _, r := range singles {
		head = append(head, r.name)
	}
	s.report.table = [][]string{append(head, "both, with boxes", "÷ best line", "allowed")}
	for _, o := range objects {
		allowed := maxShare
		if o.bytes == largestObject {
			allowed = share
		}
		s.checkObject(o, singles, pair, allowed)
	}
}

// checkObject compares the times for one object and adds them to the table.
func (s *session) checkObject(o object, singles []*system, pair *system, allowed float64) {
	took := median(pair.took[o])
	row := []string{o.String()}
	var best time.Duration
	for _, r := range singles {
		alone := median(r.took[o])
		if best == 0 || alone < best {
			best = alone
		}
		s.r.figure(fmt.Sprintf("%s %s %s ms", s.report.Title, o, r.name), 1000*alone.Seconds())
		row = append(row, ms(alone))
	}
	share := took.Seconds() / best.Seconds()
	s.r.figure(fmt.Sprintf("%s %s %s ms", s.report.Title, o, pair.name), 1000*took.Seconds())
	s.r.figure(fmt.Sprintf("%s %s ratio", s.report.Title, o), share)
	s.report.table = append(s.report.table, append(row, ms(took), fmt.Sprintf("%.3f", share), fmt.Sprintf("%.2f", allowed)))
	s.check(fmt.Sprintf("%s: %.2f of the time on the best line at most", o, allowed), share <= allowed, "%.3f", share)
}
