package box

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/paths"
)

// sysctl is a kernel setting that a role needs.
type sysctl struct {
	key, value string
	optional   bool // not every kernel has it
}

// early is early demux: the kernel would match packets of a passed connection
// with what it keeps of a closed one, TIME-WAIT in a client's name, and then not
// forward them (ip_forward drops what has a socket). It must hold after a crash,
// too, so it is a setting and no rule.
var early = sysctl{"net/ipv4/tcp_early_demux", "0", true}

// blackhole is what makes one server that answers only its fourth SYN switch
// MPTCP off for every connection of the box, for an hour (since Linux 6.12).
var blackhole = sysctl{"net/mptcp/blackhole_timeout", "0", true}

// sysctls of each role, restored when the box stops.
var sysctls = map[Role][]sysctl{
	CPE: {
		{"net/mptcp/enabled", "1", false},
		// The box opens the subflows, not the kernel.
		{"net/mptcp/pm_type", "1", false},
		blackhole, early,
	},
	HAG: {
		{"net/mptcp/enabled", "1", false},
		{"net/mptcp/pm_type", "0", false},
		// The C flag, RFC 8684, section 3.1: no joins to the server's own address.
		{"net/mptcp/allow_join_initial_addr_port", "0", false},
		blackhole, early,
	},
}

// Settings that have three values each: the smallest, the initial and the largest
// size of a TCP socket's buffer, in bytes (tcp(7)).
const (
	receiveBuffer = "net/ipv4/tcp_rmem"
	sendBuffer    = "net/ipv4/tcp_wmem"
)

// buffers are their least values, for the paths: the sockets of the plain side begin
// with what the machine had. What a sender may have under way at first is
// half of the initial receive buffer, which must not be less than what the lines
// hold; and the largest send buffer must hold what is under way on the longest of
// them, twice that for the kernel's own needs.
var buffers = map[string][3]int{
	receiveBuffer: {0, 8 << 20, 16 << 20},
	sendBuffer:    {0, 0, 16 << 20},
}

// readSizes reads the values of such a setting.
func readSizes(key string) (sizes [3]int, err error) {
	text, err := readSysctl(key)
	if err != nil {
		return sizes, err
	}
	if _, err := fmt.Sscan(text, &sizes[0], &sizes[1], &sizes[2]); err != nil {
		return sizes, fmt.Errorf("%s is %q: %w", key, text, err)
	}
	return sizes, nil
}

// atLeast raises the values of such a setting.
func atLeast(j *journal, key string, least [3]int) error {
	sizes, err := readSizes(key)
	if err != nil {
		return err
	}
	for i := range sizes {
		sizes[i] = max(sizes[i], least[i])
	}
	return sysctl{key: key, value: fmt.Sprintf("%d\t%d\t%d", sizes[0], sizes[1], sizes[2])}.set(j)
}

// widen gives subflows their initial window. What the kernel refuses costs speed
// of short transfers, not more.
func (b *Box) widen(undo *undo) {
	if b.cfg.InitialWindow == 0 {
		return
	}
	w, err := mptcp.OpenWindow(b.cfg.InitialWindow)
	if err != nil {
		b.cfg.Log.Info("subflows begin with the kernel's initial window", "err", err)
		b.cfg.InitialWindow = 0
		return
	}
	b.window = w
	undo.add(w.Close)
}

// installSystem sets what the whole machine shares: loopback, sysctls, and on a
// HAG the join addresses. The journal remembers what was there before.
func (b *Box) installSystem(undo *undo) error {
	j, err := openJournal(b.cfg.Control)
	if err != nil {
		return err
	}
	b.journal = j
	undo.add(j.restore)
	b.families = presentFamilies()
	if err := loopbackUp(j); err != nil {
		return err
	}
	for _, s := range sysctls[b.cfg.Role] {
		if err := s.set(j); err != nil {
			return err
		}
	}
	was, err := readSizes(receiveBuffer)
	if err != nil {
		return err
	}
	b.plainBuffer = was[1]
	for key, least := range buffers {
		if err := atLeast(j, key, least); err != nil {
			return err
		}
	}
	if b.cfg.Role == HAG {
		return b.installJoins(j)
	}
	return nil
}

// set writes a setting that is not so yet.
func (s sysctl) set(j *journal) error {
	old, err := readSysctl(s.key)
	if errors.Is(err, os.ErrNotExist) {
		if s.optional {
			return nil
		}
		return fmt.Errorf("kernel has no %s: it needs CONFIG_MPTCP (see `synbond doctor`)", strings.ReplaceAll(s.key, "/", "."))
	}
	if err != nil || old == s.value {
		return err
	}
	if err := j.remember(func() { j.Sysctls[s.key] = old }); err != nil {
		return err
	}
	if err := writeSysctl(s.key, s.value); err != nil {
		return fmt.Errorf("set %s to %s: %w; it takes root's rights over this network namespace and a writable /proc/sys",
			strings.ReplaceAll(s.key, "/", "."), s.value, err)
	}
	return nil
}

const sysctlRoot = "/proc/sys/"

func readSysctl(key string) (string, error) {
	b, err := os.ReadFile(sysctlRoot + key)
	return strings.TrimSpace(string(b)), err
}

func writeSysctl(key, value string) error {
	return os.WriteFile(sysctlRoot+key, []byte(value), 0)
}

// loopbackUp brings lo up: relayed packets are delivered by way of it.
func loopbackUp(j *journal) error {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return fmt.Errorf("find loopback: %w", err)
	}
	if lo.Attrs().RawFlags&unix.IFF_UP != 0 {
		return nil
	}
	if err := j.remember(func() { j.LoopbackDown = true }); err != nil {
		return err
	}
	if err := netlink.LinkSetUp(lo); err != nil {
		return fmt.Errorf("bring loopback up: %w; it takes root's rights over this network namespace", err)
	}
	return nil
}

// filesBeside is how many descriptors a box may use beside those of its flows. A loop
// of the relay has eight.
var filesBeside = 192 + 16*runtime.NumCPU()

// raiseFileLimit makes room for two descriptors per flow, and lowers the number
// of flows where that is not to be had: a flow too many is passed, one that
// lacks a descriptor later would be broken.
func (c *Config) raiseFileLimit() (short bool, err error) {
	var l unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &l); err != nil {
		return false, fmt.Errorf("read file limit: %w", err)
	}
	want := uint64(2*c.Table.MaxFlows + filesBeside)
	for _, try := range []unix.Rlimit{{Cur: want, Max: max(want, l.Max)}, {Cur: l.Max, Max: l.Max}} {
		if l.Cur >= want {
			return false, nil
		}
		if unix.Setrlimit(unix.RLIMIT_NOFILE, &try) == nil {
			l = try
		}
	}
	if l.Cur >= want {
		return false, nil
	}
	c.Table.MaxFlows = max(1, (int(l.Cur)-filesBeside)/2)
	return true, nil
}

// installJoins has the kernel accept joins, as many as a CPE may have paths.
func (b *Box) installJoins(j *journal) error {
	pm, err := mptcp.Open()
	if err != nil {
		return err
	}
	defer pm.Close()
	limits, err := pm.Limits()
	if err != nil {
		return err
	}
	if limits.Subflows < paths.MaxPaths {
		if err := j.remember(func() { j.Limits = &limits }); err != nil {
			return err
		}
		if err := pm.SetLimits(mptcp.Limits{Subflows: paths.MaxPaths, Announcements: limits.Announcements}); err != nil {
			return err
		}
	}
	for _, addr := range b.cfg.Join {
		if err := j.remember(func() { j.Joins = append(j.Joins, addr) }); err != nil {
			return err
		}
		if err := pm.AddEndpoint(addr); err != nil {
			return err
		}
	}
	return nil
}

// presentFamilies returns the address families that this machine has.
func presentFamilies() []int {
	var out []int
	for _, f := range []struct {
		family int
		proof  string
	}{{unix.AF_INET6, "/proc/sys/net/ipv6"}, {unix.AF_INET, "/proc/sys/net/ipv4"}} {
		if _, err := os.Stat(f.proof); err == nil && enabled(f.family) {
			out = append(out, f.family)
		}
	}
	return out
}

// enabled tells whether a family's loopback address can be bound: IPv6 may be
// compiled in and yet be disabled (net.ipv6.conf.*.disable_ipv6).
func enabled(family int) bool {
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	if family == unix.AF_INET {
		return true
	}
	for _, of := range []string{"all", "lo"} {
		if off, err := readSysctl("net/ipv6/conf/" + of + "/disable_ipv6"); err == nil && off == "1" {
			return false
		}
	}
	return true
}

// capabilities that a box needs: for rules, routes and path manager; for
// transparent sockets; for clients whose port is below 1024.
var capabilities = []struct {
	bit  uint
	name string
}{
	{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"},
	{unix.CAP_NET_RAW, "CAP_NET_RAW"},
	{unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"},
}

// privileged tells, before anything is touched, whether the process may do what a box does.
func privileged() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&hdr, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	var missing []string
	for _, c := range capabilities {
		if data[0].Effective&(1<<c.bit) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		return fmt.Errorf("no privilege: run as root, or give it %s", strings.Join(missing, ", "))
	}
	return nil
}
