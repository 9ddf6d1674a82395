//go:build linux

package netlab

import (
	"context"
	"errors"
	"fmt"
	"math"
	"net/netip"
	"sync"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// LineConfig describes an access line. The zero value, named, is a plain router.
type LineConfig struct {
	Name   string        // also of the interfaces at its ends
	Rate   int64         // bit/s each way, Ethernet headers included; 0 is unlimited
	Delay  time.Duration // one way
	Buffer int           // bytes that wait for the rate limiter each way; 0 is 100 ms, at least 64 KiB
	Loss   float64       // share of packets lost each way, 0 to 1
}

// Names of a line's own interfaces.
const (
	toCPE = "cpe"
	toHAG = "hag"
)

// Line is an access line: a router in a namespace of its own between an
// interface of the CPE and one of the HAG. It shapes both directions alike.
//
// A line that has a rate or losses carries single segments, as real ones do.
// One without passes the kernel's large packets on whole.
type Line struct {
	Name string
	// Addresses of the boxes' interfaces on this line.
	CPE4, CPE6, HAG4, HAG6 netip.Addr

	router   *Host
	cpe, hag lineEnd

	mu       sync.Mutex // guards the rest and serialises changes
	cfg      LineConfig
	cancel   context.CancelFunc // of the delayers
	delayers []*delayer         // up and down; none while the line has never needed them
}

// lineEnd is one end of a line, with the host there.
type lineEnd struct {
	host   *Host
	ifname string         // of the host
	addrs  []netip.Prefix // of the host's interface
	router []netip.Prefix // of the line's interface, one per address of the host
	beyond []netip.Prefix // reached by this host
}

// newLine makes the line and connects it. The caller adds the routes at the hosts.
func newLine(cfg LineConfig, cpe, hag lineEnd) (*Line, error) {
	router, err := NewHost(cfg.Name)
	if err != nil {
		return nil, err
	}
	l := &Line{Name: cfg.Name, router: router, cpe: cpe, hag: hag, cfg: cfg}
	if err := l.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("set up line %s: %w", cfg.Name, err), l.Close())
	}
	return l, nil
}

// Router returns the host in the midst of the line. It has the interfaces cpe and hag.
func (l *Line) Router() *Host { return l.router }

func (l *Line) setUp() error {
	if err := l.router.forward(); err != nil {
		return err
	}
	for name, end := range map[string]*lineEnd{toCPE: &l.cpe, toHAG: &l.hag} {
		// The link's addresses outlive a loss of carrier. Routes do not: see Carrier.
		if err := l.router.Sysctl("net.ipv6.conf.default.keep_addr_on_down", "1"); err != nil {
			return err
		}
		if err := Connect(l.router, name, end.host, end.ifname); err != nil {
			return err
		}
		for _, a := range end.router {
			if err := l.router.AddAddress(name, a); err != nil {
				return err
			}
		}
		for _, a := range end.addrs {
			if err := end.host.AddAddress(end.ifname, a); err != nil {
				return err
			}
		}
		if err := l.addRoutes(name, end); err != nil {
			return err
		}
	}
	if err := l.SetRate(l.cfg.Rate); err != nil {
		return err
	}
	return l.applyQueues()
}

// addRoutes installs the line's own routes by one of its interfaces.
func (l *Line) addRoutes(name string, end *lineEnd) error {
	for i, a := range end.addrs {
		if err := l.router.AddRoute(Route{To: end.router[i].Masked(), Dev: name}); err != nil {
			return err
		}
		for _, p := range end.beyond {
			if p.Addr().Is4() != a.Addr().Is4() {
				continue
			}
			if err := l.router.AddRoute(Route{To: p, Via: a.Addr(), Dev: name}); err != nil {
				return err
			}
		}
	}
	return nil
}

// SetRate changes the rate of both directions. Packets in the limiter's buffer are lost.
func (l *Line) SetRate(bitsPerSecond int64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.Rate = bitsPerSecond
	if err := l.limit(); err != nil {
		return err
	}
	return l.segment()
}

// limit installs the rate limiters anew, with empty buffers.
func (l *Line) limit() error {
	for _, name := range []string{toCPE, toHAG} {
		err := l.router.withLink(name, func(nl *netlink.Handle, link netlink.Link) error {
			tbf := l.cfg.tbf(link.Attrs().Index)
			err := nl.QdiscDel(tbf)
			if err != nil && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EINVAL) {
				return err // the two above mean that there is no limiter
			}
			if l.cfg.Rate <= 0 {
				return nil
			}
			return nl.QdiscAdd(tbf)
		})
		if err != nil {
			return fmt.Errorf("limit line %s: %w", l.Name, err)
		}
	}
	return nil
}

// tbf returns the rate limiter for one interface.
func (c *LineConfig) tbf(link int) *netlink.Tbf {
	rate := uint64(max(c.Rate/8, 1))
	buffer := c.Buffer
	if buffer <= 0 {
		buffer = max(64<<10, int(min(rate/10, math.MaxInt32)))
	}
	// The limiter sends a burst at once after a wake-up: more than a packet, and
	// enough to keep the rate when a wake-up is 2 ms late.
	burst := max(2*1514, uint32(min(rate/500, 16<<20)))
	return &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: link,
			Handle:    netlink.MakeHandle(1, 0),
			Parent:    netlink.HANDLE_ROOT,
		},
		Rate:   rate,
		Limit:  uint32(buffer),
		Buffer: netlink.Xmittime(rate, burst),
	}
}

// segment makes the hosts send single segments if the line needs that.
func (l *Line) segment() error {
	whole := l.cfg.Rate <= 0 && l.cfg.Loss <= 0
	return errors.Join(
		l.cpe.host.offloadSegmentation(l.cpe.ifname, whole),
		l.hag.host.offloadSegmentation(l.hag.ifname, whole),
	)
}

// SetDelay changes the one-way delay. Packets stay in order: none leaves before one
// that arrived earlier.
func (l *Line) SetDelay(d time.Duration) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.Delay = d
	return l.applyQueues()
}

// SetLoss changes the share of packets lost each way, each by itself.
func (l *Line) SetLoss(share float64) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.cfg.Loss = share
	if err := l.segment(); err != nil {
		return err
	}
	return l.applyQueues()
}

// applyQueues sets delay and loss of the delayers. It makes the delayers when they
// are first needed: without them packets cost nothing.
func (l *Line) applyQueues() error {
	if l.delayers == nil {
		if l.cfg.Delay <= 0 && l.cfg.Loss <= 0 {
			return nil
		}
		if err := l.makeQueues(); err != nil {
			return fmt.Errorf("line %s: %w", l.Name, err)
		}
	}
	for _, d := range l.delayers {
		d.delay.Store(int64(l.cfg.Delay))
		d.loss.Store(math.Float64bits(l.cfg.Loss))
	}
	return nil
}

func (l *Line) makeQueues() error {
	ctx, cancel := context.WithCancel(context.Background())
	numbers := map[string]uint16{toHAG: 0, toCPE: 1}
	var ds []*delayer
	for _, n := range numbers {
		d, err := startDelayer(ctx, l.router, n)
		if err != nil {
			cancel()
			return errors.Join(err, closeAll(ds))
		}
		ds = append(ds, d)
	}
	// The rules come last: packets for a queue without a reader are dropped.
	if err := l.router.queueRules(numbers); err != nil {
		cancel()
		return errors.Join(err, closeAll(ds))
	}
	l.cancel, l.delayers = cancel, ds
	return nil
}

func closeAll(ds []*delayer) error {
	var errs []error
	for _, d := range ds {
		errs = append(errs, d.close())
	}
	return errors.Join(errs...)
}

// Down makes the line lose all packets, those under way too, while its interfaces
// stay up. Down(false) ends that.
func (l *Line) Down(down bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.router.silence(down); err != nil {
		return fmt.Errorf("silence line %s: %w", l.Name, err)
	}
	if !down {
		return nil
	}
	return l.limit() // empties the buffers
}

// Carrier takes the carrier from the CPE's interface on this line, or gives it back.
func (l *Line) Carrier(on bool) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	err := l.router.withLink(toCPE, func(nl *netlink.Handle, link netlink.Link) error {
		if on {
			return nl.LinkSetUp(link)
		}
		return nl.LinkSetDown(link)
	})
	if err != nil {
		return fmt.Errorf("carrier of line %s: %w", l.Name, err)
	}
	if !on {
		return nil
	}
	return l.addRoutes(toCPE, &l.cpe)
}

// Bytes returns the number of bytes that the line delivered to the HAG and to the
// CPE, Ethernet headers included.
func (l *Line) Bytes() (up, down uint64) {
	return l.sent(toHAG), l.sent(toCPE)
}

// sent returns the number of bytes that one of the line's interfaces sent, 0 after Close.
func (l *Line) sent(name string) uint64 {
	var n uint64
	err := l.router.withLink(name, func(_ *netlink.Handle, link netlink.Link) error {
		if st := link.Attrs().Statistics; st != nil {
			n = st.TxBytes
		}
		return nil
	})
	if err != nil {
		return 0
	}
	return n
}

// Close removes the line.
func (l *Line) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.cancel != nil {
		l.cancel()
		l.cancel = nil
	}
	err := closeAll(l.delayers)
	l.delayers = nil
	return errors.Join(err, l.router.Close())
}
