//go:build linux

package main

import (
	"bufio"
	"fmt"
	"os"
	"runtime"
	"strconv"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"golang.org/x/sys/unix"
)

// machine describes the machine of the benchmark.
type machine struct {
	Processor string `json:"processor"`
	Cores     int    `json:"cores"`
	Memory    string `json:"memory"`
	Kernel    string `json:"kernel"`
	Files     int    `json:"files"` // file descriptors per process
	Go        string `json:"go"`
}

func thisMachine() machine {
	var u unix.Utsname
	unix.Uname(&u) //nolint:errcheck // cannot fail
	kb := field("/proc/meminfo", "MemTotal:")
	return machine{
		Processor: model(), Cores: runtime.NumCPU(), Memory: fmt.Sprintf("%.0f GiB", kb/(1<<20)),
		Kernel: unix.ByteSliceToString(u.Release[:]), Files: fileLimit(), Go: runtime.Version(),
	}
}

func model() string {
	b, _ := os.ReadFile("/proc/cpuinfo") // without it the name is unknown
	for line := range strings.Lines(string(b)) {
		if k, v, _ := strings.Cut(line, ":"); strings.TrimSpace(k) == "model name" {
			return strings.TrimSpace(v)
		}
	}
	return runtime.GOARCH
}

// fileLimit returns the hard limit of file descriptors per process. The Go runtime and
// the boxes raise their limit to it.
func fileLimit() int {
	var l unix.Rlimit
	unix.Getrlimit(unix.RLIMIT_NOFILE, &l) //nolint:errcheck // cannot fail
	return int(min(l.Max, 1<<20))
}

// field returns the number after a name in a file of /proc, 0 if there is none.
func field(file, name string) float64 {
	f, err := os.Open(file)
	if err != nil {
		return 0
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		words := strings.Fields(lines.Text())
		if len(words) > 1 && words[0] == name {
			v, _ := strconv.ParseFloat(words[1], 64)
			return v
		}
	}
	return 0
}

// tick is the unit of processor times in /proc: USER_HZ is 100 on all of Go's platforms.
const tick = 10 * time.Millisecond

// usage is the processor time used until now.
type usage struct {
	machine time.Duration // by all programs, including the kernel's interrupts
	boxes   time.Duration // by the boxes' processes
}

// used reads the processor times. See proc(5): /proc/stat, /proc/PID/stat.
func used(b *boxes) (u usage, err error) {
	all, err := os.ReadFile("/proc/stat")
	if err != nil {
		return u, err
	}
	// cpu  user nice system idle iowait irq softirq …
	first, _, _ := strings.Cut(string(all), "\n")
	for _, i := range []int{1, 2, 3, 6, 7} {
		u.machine += ticks(strings.Fields(first), i)
	}
	for _, pid := range b.pids {
		one, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil {
			return u, err
		}
		// The name may have spaces; what follows it begins with field 3.
		_, rest, _ := strings.Cut(string(one), ") ")
		words := strings.Fields(rest)
		u.boxes += ticks(words, 14-3) + ticks(words, 15-3)
	}
	return u, nil
}

func ticks(words []string, i int) time.Duration {
	if i >= len(words) {
		return 0
	}
	n, _ := strconv.ParseInt(words[i], 10, 64)
	return time.Duration(n) * tick
}

func (u usage) since(before usage) usage {
	return usage{u.machine - before.machine, u.boxes - before.boxes}
}

// busyShare returns the share of the machine's processor time that other programs use
// while this one waits.
func busyShare() (float64, error) {
	const look = 300 * time.Millisecond
	before, err := used(&boxes{})
	if err != nil {
		return 0, err
	}
	start := time.Now()
	time.Sleep(look)
	after, err := used(&boxes{})
	return after.since(before).machine.Seconds() / (time.Since(start).Seconds() * float64(runtime.NumCPU())), err
}

// memory returns, in KiB, the mean memory of the boxes' processes and the memory of
// the kernel's objects.
func memory(b *boxes) (process, kernel float64) {
	for _, pid := range b.pids {
		process += field(fmt.Sprintf("/proc/%d/status", pid), "VmRSS:") / float64(len(b.pids))
	}
	return process, field("/proc/meminfo", "Slab:")
}

// readNet reads a file of /proc/net in a host's namespace.
func readNet(h *netlab.Host, name string) (string, error) {
	var b []byte
	err := h.Do(func() (err error) {
		b, err = os.ReadFile("/proc/thread-self/net/" + name)
		return err
	})
	return string(b), err
}

// mptcpCounters returns a host's MPTCP counters by the kernel's names (net/mptcp/mib.c).
func mptcpCounters(h *netlab.Host) (map[string]int64, error) {
	text, err := readNet(h, "netstat")
	if err != nil {
		return nil, err
	}
	counters := make(map[string]int64)
	var names []string
	for line := range strings.Lines(text) {
		words := strings.Fields(line)
		switch {
		case len(words) == 0 || words[0] != "MPTcpExt:":
		case names == nil:
			names = words
		default:
			for i := 1; i < min(len(words), len(names)); i++ {
				counters[names[i]], _ = strconv.ParseInt(words[i], 10, 64)
			}
		}
	}
	return counters, nil
}
