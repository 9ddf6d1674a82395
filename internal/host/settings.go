//go:build linux

package host

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// kernelSetting is a kernel setting with values that hurt relayed connections.
type kernelSetting struct {
	key    string
	kind   Kind
	hurts  func(Survey, int) bool
	remedy int // the value to set
}

// harmful are the settings that concern the whole machine.
var harmful = []kernelSetting{
	{"net/ipv4/tcp_syncookies", SYNCookies, func(_ Survey, v int) bool { return v == 2 }, 1},
	{"net/ipv4/tcp_abort_on_overflow", AbortOnOverflow, func(_ Survey, v int) bool { return v != 0 }, 0},
	{"net/ipv4/tcp_shrink_window", ShrinkWindow, func(_ Survey, v int) bool { return v != 0 }, 0},
	{"net/core/somaxconn", SmallQueue, func(s Survey, v int) bool { return v < s.leastQueue() }, enoughQueue},
	{"net/ipv4/tcp_max_syn_backlog", SmallQueue, func(s Survey, v int) bool { return v < s.leastQueue() }, enoughQueue},
	{"net/mptcp/enabled", MPTCPOff, func(s Survey, v int) bool { return s.Running && v == 0 }, 1},
}

// enoughQueue is the number of handshakes that a queue must hold, unless the box holds fewer.
const enoughQueue = 512

func (s Survey) leastQueue() int {
	if s.HalfOpen > 0 {
		return min(s.HalfOpen, enoughQueue)
	}
	return enoughQueue
}

// settings finds settings that hurt. What cannot be read is not in the way.
func (s Survey) settings() (found []Finding, err error) {
	for _, at := range harmful {
		text, err := s.Sysctl(at.key)
		if err != nil {
			continue
		}
		if v, err := strconv.Atoi(text); err == nil && at.hurts(s, v) {
			f := at.kind.Finding(at.key, dotted(at.key)+" is "+text).With(fmt.Sprintf("sysctl %s=%d", dotted(at.key), at.remedy))
			if f.ID == SYNCookies.ID {
				f.Stops = OverIPv6 | OverIPv4
			}
			found = append(found, f)
		}
	}
	return found, nil
}

// perInterface finds address families that are off on an interface of the box.
func (s Survey) perInterface() (found []Finding, err error) {
	look := func(ifname, path string) {
		for _, of := range []struct {
			key, off, obstacle string
			kind               Kind
			on                 int
		}{
			{"net/ipv4/conf/" + ifname + "/forwarding", "0", "IPv4 packets that come in by " + ifname + " are not forwarded", NotForwarding, 1},
			{"net/ipv6/conf/" + ifname + "/disable_ipv6", "1", "IPv6 is disabled on " + ifname, NoFamily, 0},
		} {
			if v, err := s.Sysctl(of.key); err == nil && v == of.off {
				found = append(found, of.kind.Finding(of.key, of.obstacle).On(path).
					With(fmt.Sprintf("sysctl %s=%d", dotted(of.key), of.on)))
			}
		}
	}
	for _, name := range s.Plain {
		look(name, "")
	}
	for _, p := range s.Paths {
		look(p.Interface, p.Name)
	}
	return found, nil
}

// trackedShare is the share of connection tracking's table, in percent, above which new
// connections may find no room.
const trackedShare = 95

// tracking finds a full table of connection tracking. Relayed connections have no entry, but
// their first SYN has one until it is held.
func (s Survey) tracking() ([]Finding, error) {
	count, err1 := s.number("net/netfilter/nf_conntrack_count")
	most, err2 := s.number("net/netfilter/nf_conntrack_max")
	if err1 != nil || err2 != nil || most == 0 || count*100 < most*trackedShare {
		return nil, nil // or the kernel tracks nothing
	}
	obstacle := fmt.Sprintf("%d of %d entries of connection tracking are in use", count, most)
	if n := s.trackingDrops(); n > 0 {
		obstacle += fmt.Sprintf(", and %d packets were dropped for want of one", n)
	}
	return []Finding{TrackingFull.Finding("", obstacle).With(fmt.Sprintf("sysctl net.netfilter.nf_conntrack_max=%d", 2*most))}, nil
}

func (s Survey) number(key string) (int, error) {
	text, err := s.Sysctl(key)
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(text)
}

// trackingDrops returns the number of packets that found no room in the table (kernel:
// ct_cpu_seq_show): the columns drop and early_drop, in hexadecimal, a line per processor.
func (s Survey) trackingDrops() (n uint64) {
	text, err := s.File("/proc/thread-self/net/stat/nf_conntrack")
	if err != nil {
		return 0
	}
	lines := strings.Split(strings.TrimSpace(text), "\n")
	names := strings.Fields(lines[0])
	for _, line := range lines[1:] {
		for i, field := range strings.Fields(line) {
			if i < len(names) && (names[i] == "drop" || names[i] == "early_drop") {
				v, _ := strconv.ParseUint(field, 16, 64) // zero if the kernel writes otherwise
				n += v
			}
		}
	}
	return n
}

// clock finds a clock that cannot be right.
func (s Survey) clock() ([]Finding, error) {
	now := s.Now()
	if !now.Before(Released) {
		return nil, nil
	}
	return []Finding{WrongClock.Finding("", "the clock says "+now.Format(time.DateOnly)+", before this version existed")}, nil
}

// Released is a time before which no clock is right: this version did not exist.
var Released = time.Date(2026, time.November, 1, 0, 0, 0, 0, time.UTC)
