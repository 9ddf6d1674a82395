//go:build linux

package tests

import "github.com/synbond/synbond/pcaps"

// goldenScenarios are the golden captures.
var goldenScenarios = []goldenScenario{
	{
		name: "relayed-ipv6", quick: true, run: throughBoxes(talk(families[0])),
		shows: "a connection relayed by both boxes, with a subflow by each line",
		has: map[string][]string{
			"cpe": {"SYN", "SYN|ACK", "ACK", "FIN|ACK"},
			"hag": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1", "ACK MP_CAPABLE v1", "SYN MP_JOIN", "SYN|ACK MP_JOIN", "ACK MP_JOIN", "ACK DSS"},
		},
	},
	{
		name: "relayed-ipv4", run: throughBoxes(talk(families[1])),
		shows: "the same by IPv4",
		has: map[string][]string{
			"cpe": {"SYN", "SYN|ACK", "ACK", "FIN|ACK"},
			"hag": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1", "ACK MP_CAPABLE v1", "SYN MP_JOIN", "SYN|ACK MP_JOIN", "ACK MP_JOIN", "ACK DSS"},
		},
	},
	{
		name: "unreachable", quick: true, run: throughBoxes(failures),
		shows: "a server's firewall that answers with no route, host unreachable, prohibited, port unreachable and reset, and a closed port; IPv6 and IPv4",
		has: map[string][]string{
			"cpe": {"SYN", "RST|ACK", "ICMPv6 1/0", "ICMPv6 1/1", "ICMPv6 1/3", "ICMP 3/0", "ICMP 3/1"},
			"hag": {"SYN MP_CAPABLE v1", "RST|ACK", "ICMPv6 1/0", "ICMPv6 1/1", "ICMPv6 1/3", "ICMP 3/0", "ICMP 3/1"},
		},
	},
	{
		name: "no-answer", run: throughBoxes(noAnswer),
		shows: "SYNs that nobody answers for longer than a box holds them, then a connection that works",
		has: map[string][]string{
			"cpe": {"SYN", "SYN|ACK"},
			"hag": {"SYN MP_CAPABLE v1", "SYN", "SYN|ACK MP_CAPABLE v1"},
		},
	},
	{
		name: "retransmitted", run: throughBoxes(lossy),
		shows: "a SYN lost on its way to the server, a SYN+ACK lost on its way to the client, and a SYN lost between the boxes",
		has: map[string][]string{
			"cpe": {"SYN", "SYN|ACK", "FIN|ACK"},
			"hag": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"},
		},
	},
	{
		name: "fast-open", run: throughBoxesAtCPE(early),
		shows: "a SYN with data (TCP Fast Open); IPv6 and IPv4",
		has: map[string][]string{
			"cpe": {"SYN with data", "SYN|ACK"},
		},
	},
	{
		name: "extension-headers", run: throughBoxesAtCPE(extended),
		shows: "a client whose packets have a hop-by-hop and a destination options header before TCP",
		has: map[string][]string{
			"cpe": {"SYN", "SYN|ACK", "PSH|ACK"},
		},
	},
	{
		name: "end-to-end", run: throughBoxes(endToEnd),
		shows: "a client and a server that speak MPTCP themselves, through both boxes, and a join from another address of the client",
		has: map[string][]string{
			"cpe": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1", "SYN MP_JOIN", "SYN|ACK MP_JOIN", "ACK MP_JOIN"},
			"hag": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1", "SYN MP_JOIN", "SYN|ACK MP_JOIN", "ACK MP_JOIN"},
		},
	},
	{
		name: "endings", run: throughBoxes(endings),
		shows: "a half-close, resets by either end, a port scan, and a client's port used again",
		has: map[string][]string{
			"cpe": {"SYN", "SYN|ACK", "FIN|ACK", "RST|ACK", "RST"},
			"hag": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"},
		},
	},
	{
		name: "odd", run: throughBoxesAtCPE(odd),
		shows: "SYNs that a box may not edit, or cannot read",
		has: map[string][]string{
			"cpe": {"SYN", "SYN MP_CAPABLE v1 MP_CAPABLE v1", "SYN MP_CAPABLE v0", "SYN MP_JOIN", "fragment", "FIN|SYN", "SYN|ECE|CWR"},
		},
	},
	{
		name: "fallback", run: fallback,
		shows: "clients that offer MPTCP to a server without it, through a HAG that strips it, and through a CPE that takes it out of the answer",
		has: map[string][]string{
			"hag": {"SYN MP_CAPABLE v1", "SYN|ACK", "SYN|ACK MP_CAPABLE v1", "ACK", "PSH|ACK"},
		},
	},
	{
		name: "learn", run: learn,
		shows: "what a CPE that learns gets to decide on: connections to a server with MPTCP and to one without, twice each",
		has:   map[string][]string{"cpe": {"SYN", "SYN|ACK MP_CAPABLE v1", "SYN|ACK"}},
	},
	{
		name: "prefer", run: prefer,
		shows: `what a HAG with end_to_end = "prefer" gets to decide on: connections to a server with MPTCP and to one without, twice each`,
		has:   map[string][]string{"hag": {"SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1", "SYN|ACK"}},
	},
	{
		name: "cooked", run: withoutBoxes("cpe", "pcap", anyInterface, pcaps.LinkCooked, nil),
		shows: "all interfaces of a CPE without box (Linux cooked v1), with and without MPTCP, IPv6 and IPv4: a router sees each packet twice",
		has:   map[string][]string{"cpe": {"SYN", "SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"}},
	},
	{
		name: "cooked2", run: withoutBoxes("cpe", "pcapng", anyInterface, pcaps.LinkCooked2, nil),
		shows: "the same in Linux cooked v2",
		has:   map[string][]string{"cpe": {"SYN", "SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"}},
	},
	{
		name: "raw", run: withoutBoxes("hag", "pcapng", "dsl", pcaps.LinkRaw, nil),
		shows: "IP packets without a link layer, with and without MPTCP, IPv6 and IPv4",
		has:   map[string][]string{"hag": {"SYN", "SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"}},
	},
	{
		name: "vlan", run: withoutBoxes("hag", "pcapng", "dsl", pcaps.LinkEthernet, addVLANTags),
		shows: "VLAN tags, put in as a switch would: 802.1Q for IPv4, two (802.1ad) for the rest",
		has:   map[string][]string{"hag": {"SYN", "SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"}},
	},
	{
		name: "snap", run: withoutBoxes("hag", "pcap", "dsl", pcaps.LinkEthernet, truncateFrame),
		shows: "a capture that keeps 96 bytes of each frame: IPv6 SYNs are cut in their options, IPv4 data behind its headers",
		has:   map[string][]string{"hag": {"cut", "SYN MP_CAPABLE v1", "SYN|ACK MP_CAPABLE v1"}},
	},
	{
		name: "version0", quick: true, run: versionZero,
		shows: "MPTCP version 0 (RFC 6824) with a subflow by each line, data, and a join of an unknown token",
		has: map[string][]string{
			"hag": {"SYN MP_CAPABLE v0", "SYN|ACK MP_CAPABLE v0", "ACK MP_CAPABLE v0", "SYN MP_JOIN", "SYN|ACK MP_JOIN", "ACK MP_JOIN", "PSH|ACK DSS", "RST|ACK"},
		},
	},
}
