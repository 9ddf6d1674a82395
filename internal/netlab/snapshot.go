//go:build linux

package netlab

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/google/nftables"
	"github.com/vishvananda/netlink"
)

// Snapshot lists the settings of the host that a box changes, one line each: nftables
// tables, policy rules, routes of all tables, sysctls of MPTCP and TCP, the state of
// loopback. Two snapshots are equal if nothing has changed.
func (h *Host) Snapshot() ([]string, error) {
	var all []string
	err := h.Do(func() error {
		for _, list := range []func(*netlink.Handle) ([]string, error){
			snapshotTables, snapshotRules, snapshotRoutes, snapshotSysctls, snapshotLoopback,
		} {
			lines, err := list(h.nl)
			if err != nil {
				return err
			}
			all = append(all, lines...)
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("snapshot of %s: %w", h.Name, err)
	}
	slices.Sort(all)
	return all, nil
}

func snapshotTables(*netlink.Handle) ([]string, error) {
	c, err := nftables.New()
	if err != nil {
		return nil, err
	}
	tables, err := c.ListTables()
	var lines []string
	for _, t := range tables {
		lines = append(lines, "nftables table "+t.Name)
	}
	return lines, err
}

func snapshotRules(nl *netlink.Handle) ([]string, error) {
	rules, err := nl.RuleList(netlink.FAMILY_ALL)
	var lines []string
	for _, r := range rules {
		lines = append(lines, fmt.Sprintf("family %d %s mark %#x", r.Family, r, r.Mark))
	}
	return lines, err
}

func snapshotRoutes(nl *netlink.Handle) ([]string, error) {
	routes, err := nl.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{}, netlink.RT_FILTER_TABLE)
	var lines []string
	for _, r := range routes {
		lines = append(lines, fmt.Sprintf("route %v table %d type %d link %d", r.Dst, r.Table, r.Type, r.LinkIndex))
	}
	return lines, err
}

func snapshotSysctls(*netlink.Handle) ([]string, error) {
	var lines []string
	for _, pattern := range []string{"mptcp/*", "ipv4/tcp_[rw]mem", "ipv4/tcp_early_demux", "ipv4/tcp_mtu_probing"} {
		files, err := filepath.Glob("/proc/sys/net/" + pattern)
		if err != nil {
			return nil, err
		}
		for _, f := range files {
			// Counters may refuse to be read; settings do not.
			if b, err := os.ReadFile(f); err == nil {
				lines = append(lines, "sysctl "+f+" "+strings.TrimSpace(string(b)))
			}
		}
	}
	return lines, nil
}

func snapshotLoopback(nl *netlink.Handle) ([]string, error) {
	lo, err := nl.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	return []string{"loopback " + lo.Attrs().Flags.String()}, nil
}
