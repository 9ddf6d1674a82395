//go:build linux

package mptcp

import (
	"bufio"
	"net/netip"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/mdlayher/genetlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/host"
)

// flagNames are those of ip-mptcp(8).
var flagNames = []struct {
	bit  uint32
	name string
}{{flagSignal, "signal"}, {flagSubflow, "subflow"}, {flagBackup, "backup"}, {flagFullmesh, "fullmesh"}}

// Foreign lists the endpoints of the in-kernel path manager that are not at one of these
// addresses, in the words of ip-mptcp(8).
func (p *PM) Foreign(own []netip.AddrPort) ([]string, error) {
	all, err := p.Endpoints()
	var out []string
	for _, e := range all {
		// What the kernel has added itself for a connection's own address has none of the flags.
		if e.Flags&(flagSignal|flagSubflow|flagFullmesh) == 0 || slices.Contains(own, e.AddrPort) {
			continue
		}
		words := e.Addr().String()
		if e.Port() != 0 {
			words = e.AddrPort.String()
		}
		for _, f := range flagNames {
			if e.Flags&f.bit != 0 {
				words += " " + f.name
			}
		}
		out = append(out, words)
	}
	return out, err
}

// Managers names the other processes in this network namespace that listen to MPTCP events,
// as path managers in user space do (mptcpd), `ip mptcp monitor` excepted.
func (p *PM) Managers() ([]string, error) {
	i := slices.IndexFunc(p.family.Groups, func(g genetlink.MulticastGroup) bool { return g.Name == eventGroup })
	if i < 0 {
		return nil, nil
	}
	group := p.family.Groups[i].ID
	f, err := os.Open("/proc/thread-self/net/netlink")
	if err != nil || group > 32 { // the file shows the first groups only
		return nil, err
	}
	defer f.Close()
	var out []string
	for lines := bufio.NewScanner(f); lines.Scan(); {
		// sk, protocol, port, groups in hexadecimal (kernel: netlink_native_seq_show)
		fields := strings.Fields(lines.Text())
		if len(fields) < 4 || fields[1] != strconv.Itoa(unix.NETLINK_GENERIC) {
			continue
		}
		port, err1 := strconv.ParseUint(fields[2], 10, 32)
		groups, err2 := strconv.ParseUint(fields[3], 16, 32)
		if err1 != nil || err2 != nil || groups&(1<<(group-1)) == 0 || int(port) == os.Getpid() {
			continue
		}
		// A further socket of a process, such as this one's, has a port that is no process ID.
		name := host.ProcessAt(uint32(port))
		if name != "" && name != host.Ended && name != "ip" && !slices.Contains(out, name) {
			out = append(out, name)
		}
	}
	return out, nil
}
