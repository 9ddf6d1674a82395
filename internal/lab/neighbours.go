//go:build linux

package lab

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/synbond/synbond/internal/netlab"
)

// neighbour is something beside the boxes that decides about packets, too: a program on
// a router, or a fault of a line.
type neighbour struct {
	name   string
	before []command     // run before the network is measured
	beside []command     // run only once the boxes are there
	plain  string        // the CPE's interface to its client, if not the usual one
	route  string        // the line by which the HAG reaches the client, if not the first
	idle   time.Duration // for which a connection waits before it carries something
}

// command is a line for the shell of a host.
type command struct {
	on   func(network) *netlab.Host
	line string
}

// Hosts of commands.
func onCPE(n network) *netlab.Host { return n.CPE }
func onHAG(n network) *netlab.Host { return n.HAG }
func onDSL(n network) *netlab.Host { return n.Line("dsl").Router() }
func onLTE(n network) *netlab.Host { return n.Line("lte").Router() }

// Ports of the server that neighbours treat: the server takes transfers on
// forbiddenPort, and nobody listens on translatedPort.
const (
	forbiddenPort  = 5004
	translatedPort = 5005
)

// Rules of neighbours, with their chain. %s stands for the rule.
const (
	inForward     = "table inet neighbour { chain forward { type filter hook forward priority filter; %s; }; }"
	inPrerouting  = "table inet neighbour { chain prerouting { type filter hook prerouting priority mangle; %s; }; }"
	inInput       = "table inet neighbour { chain input { type filter hook input priority filter; policy drop; %s; }; }"
	inDNAT        = "table inet neighbour { chain translate { type nat hook prerouting priority dstnat; %s; }; }"
	inSNAT        = "table ip neighbour4 { chain masquerade4 { type nat hook postrouting priority srcnat; %s; }; }"
	lineForgets   = "net.netfilter.nf_conntrack_tcp_timeout_established=4 net.netfilter.nf_conntrack_tcp_loose=0"
	dropUnknown   = "ct state invalid drop"
	notInterfaces = "iifname != lo"
)

// rule is a command that adds a rule of nftables in the given chain.
func rule(on func(network) *netlab.Host, chain, text string) command {
	return command{on, "nft '" + fmt.Sprintf(chain, text) + "'"}
}

// onBoth returns a command for each of the boxes' machines.
func onBoth(line string) []command { return []command{{onCPE, line}, {onHAG, line}} }

// neighbours is the table of the scenario of that name. The first has nobody beside the
// boxes, and tells which of their warnings belong to no neighbour.
var neighbours = []neighbour{
	{name: "nobody"},
	{name: "firewall on the CPE", before: []command{
		rule(onCPE, inForward, fmt.Sprintf("tcp dport %d reject with tcp reset", forbiddenPort))}},
	{name: "firewall on the HAG", before: []command{
		rule(onHAG, inForward, fmt.Sprintf("tcp dport %d drop", forbiddenPort))}},
	{name: "input policy drop", before: []command{
		rule(onHAG, inInput, "iif lo accept; ct state established,related accept; meta l4proto { icmp, icmpv6 } accept")}},
	{name: "policy routing by source", route: "lte", before: []command{
		{onCPE, fmt.Sprintf("ip rule add from %s lookup 101 prio 50; ip -6 rule add from %s lookup 101 prio 50", netlab.Client4, netlab.Client6)}}},
	{name: "strict rp_filter, by mark", before: onBoth("sysctl -qw net.ipv4.conf.all.rp_filter=1 net.ipv4.conf.all.src_valid_mark=1")},
	{name: "marks of another program", before: []command{
		rule(onCPE, inPrerouting, notInterfaces+" meta mark set meta mark | 0x00010100"),
		rule(onHAG, inPrerouting, notInterfaces+" meta mark set meta mark | 0x00010100")}},
	{name: "marks overwritten", before: []command{
		rule(onCPE, inPrerouting, notInterfaces+" tcp flags != syn meta mark set 0x100"),
		rule(onHAG, inPrerouting, notInterfaces+" tcp flags != syn meta mark set 0x100")}},
	{name: "bridge with br_netfilter", plain: "bridge", before: []command{
		{onCPE, "ip link add bridge type bridge && ip addr flush dev lan && ip link set lan master bridge && ip link set bridge up"},
		{onCPE, fmt.Sprintf("ip addr add %s/24 dev bridge && ip addr add %s/64 dev bridge nodad", netlab.CPELan4, netlab.CPELan6)},
		{onCPE, "sysctl -qw net.bridge.bridge-nf-call-iptables=1 net.bridge.bridge-nf-call-ip6tables=1"}}},
	{name: "destination NAT", before: []command{
		rule(onCPE, inDNAT, fmt.Sprintf("tcp dport %d dnat to :%d", translatedPort, trafficPort))}},
	{name: "masquerade", before: []command{
		rule(onCPE, inSNAT, "oifname { dsl, lte } masquerade"),
		rule(onDSL, inForward, "ip saddr 198.51.100.0/28 drop")}},
	{name: "MSS clamp", before: []command{
		rule(onCPE, inForward, "tcp flags syn tcp option maxseg size set 1200")}},
	{name: "black hole for large packets on lte", before: []command{
		rule(onLTE, inForward, "meta length > 1300 drop")}},
	{name: "black hole behind an MSS clamp", before: []command{
		rule(onCPE, inForward, "tcp flags syn tcp option maxseg size set 1200"),
		rule(onDSL, inForward, "meta length > 1320 drop")}},
	{name: "NAT that forgets", idle: 8 * time.Second, before: []command{
		rule(onLTE, inSNAT, "oifname hag masquerade"),
		rule(onLTE, inForward, dropUnknown),
		{onLTE, "nft 'table inet neighbour { chain input { type filter hook input priority filter; iifname hag meta l4proto tcp drop; }; }'"},
		{onLTE, "sysctl -qw " + lineForgets}}},
	{name: "MP_CAPABLE dropped on dsl", before: []command{
		rule(onDSL, inForward, "tcp flags & (syn|ack) == syn tcp option mptcp exists drop")}},
	{name: "MP_CAPABLE refused on dsl", before: []command{
		rule(onDSL, inForward, "tcp flags & (syn|ack) == syn tcp option mptcp exists reject with tcp reset")}},
	{name: "joins refused on lte", before: []command{
		rule(onLTE, inForward, fmt.Sprintf("tcp dport %d reject with tcp reset", netlab.JoinPort))}},
	{name: "MPTCP stripped on lte", before: []command{
		rule(onLTE, inForward, "tcp flags & syn == 0 reset tcp option mptcp")}},
	{name: "MPTCP stripped on dsl", before: []command{
		rule(onDSL, inForward, "tcp flags & syn == 0 reset tcp option mptcp")}},
	{name: "MPTCP endpoints of another program", beside: []command{
		{onHAG, fmt.Sprintf("ip mptcp endpoint add %s dev %s subflow", netlab.HAGWan4, netlab.HAGWanInterface)},
		{onCPE, fmt.Sprintf("ip mptcp endpoint add %s dev %s subflow", netlab.CPELan4, netlab.CPELanInterface)}}},
	{name: "nftables flushed", beside: onBoth("nft flush ruleset")},
	{name: "policy rules flushed", beside: onBoth("for f in -4 -6; do ip $f rule show | awk -F: '$1 == 1 {print \"from\" $2}' | while read r; do ip $f rule del pref 1; done; done")},
	{name: "MPTCP switched off", beside: onBoth("sysctl -qw net.mptcp.enabled=0")},
}

// settleTime is the time between the boxes' start and the first connection, and
// besideTime the time that they get to notice a change.
const (
	settleTime = 500 * time.Millisecond
	besideTime = 3 * time.Second
)

// meet compares a network that has a neighbour without and with boxes.
func (x *run) meet(ctx context.Context, who neighbour) (err error) {
	defer func() {
		if ctx.Err() != nil {
			err = context.Cause(ctx)
		}
	}()
	if who.route != "" {
		if err := x.n.RouteClient(x.n.Line(who.route)); err != nil {
			return err
		}
	}
	if err := x.n.run(who.before); err != nil {
		x.row(who.name, "", "", "not tried")
		x.note(fmt.Sprintf("%s: %v", who.name, err))
		return nil
	}
	x.Say(who.name + ": without boxes")
	without, err := x.n.experience(ctx, who.idle)
	if err != nil {
		return err
	}
	x.Say(who.name + ": with boxes")
	with, said, err := x.withNeighbour(ctx, who)
	if err != nil {
		return err
	}
	x.judge(who, without, with, said)
	return nil
}

// withNeighbour starts the boxes beside a neighbour, and returns the client's experience
// and the boxes' warnings.
func (x *run) withNeighbour(ctx context.Context, who neighbour) (e experience, said []string, err error) {
	hag, err := x.n.StartHAG(x.Program, x.dir)
	if err != nil {
		return e, nil, err
	}
	x.n.CPEPlain = cmp.Or(who.plain, x.n.CPEPlain)
	cpe, err := x.n.StartCPE(x.Program, x.dir, nil)
	if err != nil {
		return e, nil, errors.Join(err, hag.Stop())
	}
	err = sleep(ctx, settleTime)
	if err == nil && len(who.beside) > 0 {
		err = errors.Join(x.n.run(who.beside), sleep(ctx, besideTime))
	}
	if err == nil {
		e, err = x.n.experience(ctx, who.idle)
	}
	if view, err := cpe.Paths(ctx); err == nil {
		for _, p := range view.Paths {
			if p.Reason != "" {
				said = append(said, p.Name+": "+p.Reason)
			}
		}
	}
	if err := errors.Join(err, cpe.Stop(), hag.Stop()); err != nil {
		return e, nil, err
	}
	for _, b := range []*netlab.Box{cpe, hag} {
		said = append(said, warnings(b)...)
	}
	return e, said, nil
}

// warnings returns the messages of a box's log that are warnings or errors, each once.
func warnings(b *netlab.Box) (all []string) {
	for _, line := range b.Log() {
		_, text, _ := strings.Cut(line, "level=")
		level, text, _ := strings.Cut(text, " ")
		said := b.Role + ": " + strings.TrimPrefix(text, "msg=")
		if (level == "WARN" || level == "ERROR") && !slices.Contains(all, said) {
			all = append(all, said)
		}
	}
	return all
}

// run runs commands.
func (n network) run(commands []command) error {
	for _, c := range commands {
		h := c.on(n)
		cmd := h.Command("sh", "-c", c.line)
		var out strings.Builder
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := h.Run(cmd); err != nil {
			return fmt.Errorf("on %s: %s: %w: %s", h.Name, c.line, err, strings.TrimSpace(out.String()))
		}
	}
	return nil
}
