//go:build linux

package host

// Kinds of findings. [Kinds] lists them for the documentation.
var (
	NotForwarding = kind(Kind{
		"not-forwarding", Warning, "the machine does not forward packets of an address family",
		"connections of that family end here", "set net.ipv4.ip_forward or net.ipv6.conf.all.forwarding to 1",
	})
	NoFamily = kind(Kind{
		"no-family", Note, "the kernel lacks an address family, or it is disabled", "connections of that family are not relayed",
		"set net.ipv6.conf.*.disable_ipv6 to 0, or do nothing if the network has only the other family",
	})
	LargePacketsLost = kind(Kind{
		"large-packets-lost", Warning, "a path loses large packets, and no ICMP error says so",
		"the box lowers the MSS of its subflows there; other connections on this line hang unless ICMP errors tell them", "lower the interface's MTU, or let the ICMP errors through",
	})
	InputDrops = kind(Kind{
		"input-drops", Warning, "a firewall drops packets of relayed connections on their way to the box",
		"new connections pass and are not bonded", "let the chain accept packets with the box's mark",
	})
	OutputDrops = kind(Kind{
		"output-drops", Warning, "a firewall drops packets of relayed connections that the box sends",
		"new connections pass and are not bonded", "let the chain accept packets with the box's mark",
	})
	LoopDrops = kind(Kind{
		"loop-drops", Warning, "a firewall drops the SYNs that the box loops over lo, for example `iif lo ip saddr != 127.0.0.0/8 drop`",
		"new connections pass and are not bonded", "let the chain accept packets with the box's mark",
	})
	MarkLost = kind(Kind{
		"mark-lost", Warning, "another program overwrites the mark of packets to the box, after the box has set it",
		"new connections pass and are not bonded", "let its chain accept packets with the box's mark, or change only bits of 0x00ffff00",
	})
	MarkTaken = kind(Kind{
		"mark-taken", Warning, "a policy rule of another program applies to marks that belong to the box (bits of 0xff0000ff)",
		"new connections pass and are not bonded", "let the other program use bits of 0x00ffff00 only",
	})
	OwnSource = kind(Kind{
		"own-source", Note, "another program translates the sources of connections that the box relays, as `masquerade` does",
		"the box dials them from its own address", "nothing, or leave hosts whose addresses are routed out of the translation",
	})
	JoinDrops = kind(Kind{
		"join-drops", Warning, "a firewall or a reverse-path filter of this machine drops joins, probes or their answers",
		"no further subflows over this path", "accept TCP and UDP of the join port, in both directions",
	})
	NoInterface = kind(Kind{
		"no-interface", Warning, "an interface of the configuration is missing",
		"connections by it are not relayed", "nothing if the interface comes later, or correct its name (see `ip link`)",
	})
	PortOfMaster = kind(Kind{
		"port-of-master", Warning, "an interface of the configuration is a port of a bridge, a bond or a team",
		"packets come in by the other interface, and the box does not see them", "name the bridge, bond or team in its place",
	})
	NoJoinRoute = kind(Kind{
		"no-join-route", Warning, "an address family of a path has no route to the join address",
		"connections of that family get no subflow on the path", "add a route to the join address by the path's interface; a default route with a higher metric is enough",
	})
	ReversePath = kind(Kind{
		"reverse-path-filter", Warning, "a strict reverse-path filter drops what comes back over a path",
		"IPv4 connections get no subflow on the path", "set net.ipv4.conf.IFACE.rp_filter of the path's interface to 2",
	})
	StandsAside = kind(Kind{
		"stands-aside", Warning, "others remove, again and again, what relayed connections need on the machine: rules, routes, loopback, MPTCP",
		"connections pass and are not bonded", "let the other program leave alone what belongs to the box; the box tries again by itself",
	})
	Contested = kind(Kind{
		"contested", Warning, "others change a setting of the box again and again", "it stays as they want it, and may cost bonding or speed",
		"let the other program leave the setting alone; the box tries again by itself",
	})
	OtherEndpoints = kind(Kind{
		"other-endpoints", Note, "other programs have given the kernel MPTCP endpoints",
		"relayed connections do not use them; the machine's own connections may",
		"delete them with `ip mptcp endpoint`, or with NetworkManager by `connection.mptcp-flags disabled`, if nothing else needs them",
	})
	OtherManager = kind(Kind{
		"other-path-manager", Warning, "another program listens to MPTCP events, as path managers do",
		"it may open and end subflows of relayed connections", "stop it while the box runs, or have it leave these connections alone",
	})
)

// Findings of a running box.
var (
	ProbesUnanswered = kind(Kind{
		"probes-unanswered", Warning, "the HAG has not answered a probe over a path for 5 s", "the path is down, or watched by TCP, or used as long as its link is up",
		"let UDP to the join port through to the HAG and back, and see whether the HAG's box runs there",
	})
	NotCounted = kind(Kind{
		"not-counted", Warning, "a rule for forwarded packets counts connections or their bytes (ct count, quota, connlimit, connbytes)",
		"it does not see the packets of relayed connections, so that it limits other connections only",
		"have the connections that it limits pass, by a rule of the box with `action = \"pass\"`, or limit the rate of SYNs instead",
	})
	NotBonded = kind(Kind{
		"not-bonded", Warning, "the HAG answers probes, and yet the last connections over a path were answered without MPTCP",
		"they run as without boxes, over that path only",
		"`synbond flows` at the HAG shows whether it lets them pass; if not, something on the path removes TCP option 30 from SYNs: have the operator let it through, or make another path the first one",
	})
	ProbesRefused = kind(Kind{
		"probes-refused", Warning, "probes over a path have been answered for 5 s by ICMP port unreachable: no box runs at the join address, or a firewall rejects UDP",
		"if no other path is answered, new connections pass and are not bonded; else the box does not notice when the path goes silent",
		"start the HAG's box, or let UDP to the join port through to the HAG, or leave join addresses out that the HAG does not have",
	})
	NotDelivered = kind(Kind{
		"not-delivered", Warning, "the SYNs that the box loops over lo, or its answers to hosts, are lost, for a cause that the other checks do not see",
		"new connections pass and are not bonded; one tries again from time to time",
		"see which rule or filter drops packets with the box's mark (`nft monitor trace`, `tc filter show`)",
	})
	DialsRefused = kind(Kind{
		"dials-refused", Warning, "policy routing refuses connections that the box begins, as rules for `iif lo` or `uidrange` do",
		"new connections pass and are not bonded", "let packets with the box's mark take the way of those that the machine forwards: `ip rule add pref 2 fwmark 0x5b000000/0xff000000 lookup main`",
	})
	UpstreamFails = kind(Kind{
		"upstream-fails", Warning, "a server through which connections go cannot be used",
		"new connections go through another one; if there is none, they pass, or are rejected if `upstream.down` says so",
		"see whether the SOCKS server runs there, user and password are right, and a firewall lets its port through; the box tries again by itself",
	})
	UpstreamBehind = kind(Kind{
		"upstream-behind", Warning, "a server through which connections go is behind this box, on the plain side",
		"connections to and from it pass", "name a server that is reached by the paths",
	})
	RefusesSubflows = kind(Kind{
		"refuses-subflows", Warning, "further subflows are refused on a path", "connections do not use the path",
		"let TCP with MPTCP options to the join port through: what refuses it is in the finding",
	})
	Encapsulates = kind(Kind{
		"encapsulates", Note, "a path refuses further subflows, so they travel in UDP datagrams", "each of their packets costs more processor time",
		"nothing, or let TCP with MPTCP options to the join port through: what refuses it is in the finding",
	})
	NoEncapsulation = kind(Kind{
		"no-encapsulation", Warning, "the machine gives the box no TUN interface", "connections do not use paths that refuse subflows, and end if a middlebox resets all of theirs",
		"load the module tun (kernel option CONFIG_TUN), and let the box open /dev/net/tun",
	})
	RemovesOptions = kind(Kind{
		"removes-options", Warning, "the network removes MPTCP options after the handshake on the first path",
		"connections run as without a box, over that path only",
		"have the operator let TCP option 30 through, or make another path the first one",
	})
)

// Kinds of findings about settings.
var (
	SYNCookies = kind(Kind{
		"syn-cookies", Warning, "the kernel answers every SYN with a cookie (net.ipv4.tcp_syncookies is 2)",
		"new connections pass and are not bonded: the ACK of a cookie would find no socket", "set net.ipv4.tcp_syncookies to 1",
	})
	AbortOnOverflow = kind(Kind{
		"abort-on-overflow", Note, "the kernel resets connections that it cannot hand over at once (net.ipv4.tcp_abort_on_overflow)",
		"under load hosts get resets, where otherwise they would wait", "set net.ipv4.tcp_abort_on_overflow to 0",
	})
	ShrinkWindow = kind(Kind{
		"shrink-window", Note, "the kernel takes back windows that it has offered (net.ipv4.tcp_shrink_window)",
		"subflows may repeat data, and transfers take longer, when memory is short", "set net.ipv4.tcp_shrink_window to 0",
	})
	SmallQueue = kind(Kind{
		"small-queue", Note, "queues of handshakes are short (net.core.somaxconn, net.ipv4.tcp_max_syn_backlog)",
		"many handshakes at once overflow them, and some connections begin seconds later or not at all", "set both to 4096, and start the box again",
	})
	MPTCPOff = kind(Kind{
		"mptcp-off", Warning, "MPTCP has been switched off while the box runs (net.mptcp.enabled)",
		"new connections pass, and are not bonded", "set net.mptcp.enabled to 1",
	})
	TrackingFull = kind(Kind{
		"tracking-full", Warning, "the table of connection tracking is full or nearly so",
		"the kernel drops packets of new connections", "raise net.netfilter.nf_conntrack_max, or find out who opens so many connections",
	})
	WrongClock = kind(Kind{
		"wrong-clock", Note, "the machine's clock is behind the release of this version",
		"quotas count in the period that was current before, until the clock is right", "set the clock, by NTP for instance",
	})
)

var kinds []Kind

func kind(k Kind) Kind {
	kinds = append(kinds, k)
	return k
}

// Kinds returns all kinds of findings.
func Kinds() []Kind { return kinds }
