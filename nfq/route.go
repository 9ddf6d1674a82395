//go:build linux

package nfq

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	mdnetlink "github.com/mdlayher/netlink"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/nl"
)

// Packets to the box have a routing table of their own, in which every destination is
// local. Its rules come before those of other programs, which are for packets that this
// machine forwards: with the priority rulePriority, or with firstPriority where others have
// taken that one.
const (
	routeTable    = 91
	rulePriority  = 1
	firstPriority = 0
)

const (
	loopback = "lo"
	// loopbackIndex is the interface index of lo in every network namespace (kernel: LOOPBACK_IFINDEX).
	loopbackIndex = 1
)

// Routes is the policy routing of one address family that delivers packets to a box.
//
// Each interface of the box has a rule for packets with the mark [Relay], so that none
// applies where the kernel asks for the way back to a packet's source: there the incoming
// interface is lo, and with net.ipv4.conf.*.src_valid_mark, or in an nftables expression
// `fib saddr . mark . iif`, the mark is the packet's.
type Routes struct {
	Family     int // unix.AF_INET, unix.AF_INET6
	Interfaces []string
}

// Install adds the policy rules and the local route. They replace those of an earlier box.
// The loopback interface must be up.
func (r Routes) Install() error {
	if err := r.Remove(); err != nil {
		return err
	}
	return r.Mend()
}

// Mend adds what [Routes.Missing] finds.
func (r Routes) Mend() error {
	if err := netlink.RouteReplace(r.local()); err != nil {
		return fmt.Errorf("add local route to table %d: %w", routeTable, err)
	}
	all, err := r.list()
	if err != nil {
		return err
	}
	for _, rule := range r.rules(priorityBeside(all)) {
		if err := netlink.RuleAdd(rule); err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add rule for mark %#x: %w", rule.Mark, err)
		}
	}
	return nil
}

// Missing names what is not there of the policy routing, "" if all is there.
func (r Routes) Missing() (string, error) {
	all, err := r.list()
	if err != nil {
		return "", err
	}
	n, wanted := 0, r.rules(priorityBeside(all))
	for _, want := range wanted {
		if !slices.ContainsFunc(all, func(is netlink.Rule) bool {
			return isOwn(is) && is.IifName == want.IifName && is.Priority <= want.Priority &&
				is.Mark == want.Mark && is.Mask != nil && *is.Mask == *want.Mask
		}) {
			n++
		}
	}
	routed, err := r.routed()
	var words []string
	if n > 0 {
		words = append(words, fmt.Sprintf("%d of %d policy rules are gone", n, len(wanted)))
	}
	if !routed && err == nil {
		words = append(words, fmt.Sprintf("the route of table %d is gone", routeTable))
	}
	return strings.Join(words, ", "), err
}

// routed reports whether the local route is there. The kernel lists the routes of one table
// only: a router may have a million others.
func (r Routes) routed() (bool, error) {
	c, err := mdnetlink.Dial(unix.NETLINK_ROUTE, nil)
	if err != nil {
		return false, fmt.Errorf("list routes: %w", err)
	}
	defer c.Close()
	_ = c.SetOption(mdnetlink.GetStrictCheck, true) // before Linux 4.20 all are listed
	request := make([]byte, unix.SizeofRtMsg)
	request[rtmFamily], request[rtmTable] = byte(r.Family), routeTable
	got, err := c.Execute(mdnetlink.Message{
		Header: mdnetlink.Header{Type: unix.RTM_GETROUTE, Flags: mdnetlink.Request | mdnetlink.Dump}, Data: request,
	})
	if errors.Is(err, unix.ENOENT) { // there is no such table
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("list routes of table %d: %w", routeTable, err)
	}
	return slices.ContainsFunc(got, func(m mdnetlink.Message) bool {
		return len(m.Data) >= unix.SizeofRtMsg && m.Data[rtmTable] == routeTable && m.Data[rtmPrefix] == 0 && m.Data[rtmType] == unix.RTN_LOCAL
	}), nil
}

// Offsets in struct rtmsg, uapi linux/rtnetlink.h. Family and table are at the same places
// in struct fib_rule_hdr, uapi linux/fib_rules.h.
const (
	rtmFamily = 0
	rtmPrefix = 1
	rtmTable  = 4
	rtmType   = 7
)

// Remove undoes [Routes.Install], also that of an earlier box on other interfaces. It is no
// error if there is nothing to undo.
func (r Routes) Remove() error {
	rules, err := r.list()
	if err != nil {
		return err
	}
	for _, rule := range rules {
		if !isOwn(rule) {
			continue
		}
		rule.Family = r.Family
		if err := netlink.RuleDel(&rule); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove rule for mark %#x: %w", rule.Mark, err)
		}
	}
	err = netlink.RouteDel(r.local())
	if err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.ENOENT) && !errors.Is(err, unix.EAFNOSUPPORT) {
		return fmt.Errorf("remove local route from table %d: %w", routeTable, err)
	}
	return nil
}

// list returns the policy rules of all programs in the order in which the kernel asks them.
func (r Routes) list() ([]netlink.Rule, error) {
	all, err := netlink.RuleList(r.Family)
	if errors.Is(err, unix.EAFNOSUPPORT) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list policy rules: %w", err)
	}
	for i := range all {
		all[i].Priority = max(all[i].Priority, firstPriority) // the kernel leaves 0 out
	}
	return all, nil
}

// isOwn reports whether a box has added a policy rule.
func isOwn(r netlink.Rule) bool {
	return r.Table == routeTable && Mark(r.Mark)&ownerMask == Relay&ownerMask
}

// priorityBeside returns the priority for the box's rules beside all rules that there are.
// Of rules with the same priority the older one comes first.
func priorityBeside(all []netlink.Rule) int {
	for _, is := range all {
		switch {
		case is.Priority != rulePriority:
		case isOwn(is):
			return rulePriority
		default:
			return firstPriority
		}
	}
	return rulePriority
}

// rules returns the policy rules: those for segments, and one for SYNs that the box loops
// itself. A SYN that the kernel loops brings its route along.
func (r Routes) rules(priority int) (rules []*netlink.Rule) {
	for _, name := range r.Interfaces {
		rules = append(rules, r.rule(name, Relay, Mask, priority))
	}
	return append(rules, r.rule(loopback, ToPlain, groupMask, priority))
}

func (r Routes) rule(iif string, mark, mask Mark, priority int) *netlink.Rule {
	rule := netlink.NewRule()
	bits := uint32(mask)
	rule.Family, rule.Table, rule.Priority = r.Family, routeTable, priority
	rule.IifName, rule.Mark, rule.Mask = iif, uint32(mark), &bits
	return rule
}

func (r Routes) local() *netlink.Route {
	any := net.IPNet{IP: net.IPv6zero, Mask: net.CIDRMask(0, 128)}
	if r.Family == unix.AF_INET {
		any = net.IPNet{IP: net.IPv4zero.To4(), Mask: net.CIDRMask(0, 32)}
	}
	return &netlink.Route{
		LinkIndex: loopbackIndex, Dst: &any, Table: routeTable,
		Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST, Family: r.Family,
	}
}

// ByInput returns the interfaces for which another program's policy rule asks by which of
// them a packet came in. Such a rule does not apply to a connection of the box's own.
func (r Routes) ByInput() (names []string) {
	all, _ := netlink.RuleList(r.Family)
	for _, is := range all {
		if is.Table != routeTable && slices.Contains(r.Interfaces, is.IifName) {
			names = append(names, is.IifName)
		}
	}
	return names
}

// MarkRule is a policy rule of another program for packets with a mark.
type MarkRule struct {
	Priority   int
	Mark, Mask uint32
	Invert     bool   // the rule is for all other packets
	Interface  string // by which packets come in, "" for any
}

// Applies reports whether the rule applies to a mark.
func (m MarkRule) Applies(mark uint32) bool { return (mark&m.Mask == m.Mark) != m.Invert }

// ByMark returns the policy rules of other programs that ask for the mark of a packet.
func (r Routes) ByMark() (rules []MarkRule) {
	all, _ := r.list()
	for _, is := range all {
		if isOwn(is) || is.Mark == 0 && is.Mask == nil {
			continue
		}
		m := MarkRule{is.Priority, is.Mark, ^uint32(0), is.Invert, is.IifName}
		if is.Mask != nil {
			m.Mask = *is.Mask
		}
		rules = append(rules, m)
	}
	return rules
}

// MarksTaken returns the rules that apply to one of the box's marks, though not to an unmarked
// packet. They concern what this machine sends: the box's own rules come first for what comes
// in by its interfaces.
func MarksTaken(rules []MarkRule) []MarkRule {
	return slices.DeleteFunc(slices.Clone(rules), func(m MarkRule) bool {
		if m.Interface != "" && m.Interface != loopback || m.Applies(0) {
			return true
		}
		return !slices.ContainsFunc([]Mark{PlainSocket, PathSocket, OwnSocket, ToPlain, ToPaths}, func(own Mark) bool { return m.Applies(uint32(own)) })
	})
}

// WatchRoutes calls changed once at the start, and then each time that a policy rule
// comes or goes, or a route of the box's table goes, in this network namespace, until ctx
// ends. Family is that of the change, unix.AF_UNSPEC for any. By is the netlink port of the
// program that has made it: in most cases its process ID, 0 if unknown.
func WatchRoutes(ctx context.Context, changed func(family int, by uint32)) error {
	groups := []uint32{unix.RTNLGRP_IPV4_RULE, unix.RTNLGRP_IPV6_RULE, unix.RTNLGRP_IPV4_ROUTE, unix.RTNLGRP_IPV6_ROUTE}
	err := nl.Watch(ctx, unix.NETLINK_ROUTE, groups, func(messages []mdnetlink.Message) {
		if messages == nil {
			changed(unix.AF_UNSPEC, 0)
		}
		for _, m := range messages {
			if concernsRoutes(m) {
				changed(int(m.Data[rtmFamily]), m.Header.PID)
			}
		}
	})
	if err != nil {
		return fmt.Errorf("watch policy routing: %w", err)
	}
	return nil
}

// concernsRoutes reports whether a message is about a policy rule, or the loss of a route
// of the box's table.
func concernsRoutes(m mdnetlink.Message) bool {
	if len(m.Data) <= rtmTable {
		return false
	}
	switch m.Header.Type {
	case unix.RTM_NEWRULE, unix.RTM_DELRULE:
		return true
	case unix.RTM_DELROUTE:
		return m.Data[rtmTable] == routeTable
	}
	return false
}
