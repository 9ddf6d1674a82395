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
	InputDrops = kind(Kind{
		"input-drops", Warning, "a firewall drops relayed packets on their way to the box",
		"relayed connections hang", "let the chain accept the packets that carry the box's mark",
	})
	NoInterface = kind(Kind{
		"no-interface", Warning, "an interface of the configuration is missing",
		"connections by it are not relayed", "nothing if the interface comes later, or correct its name (see `ip link`)",
	})
	PortOfMaster = kind(Kind{
		"port-of-master", Warning, "an interface of the configuration is a port of a bridge, a bond or a team",
		"packets come in by the other interface, and the box does not see them", "name the bridge, bond or team in its place",
	})
	ReversePath = kind(Kind{
		"reverse-path-filter", Warning, "a strict reverse-path filter drops what comes back over a path",
		"IPv4 connections get no subflow on the path", "set net.ipv4.conf.IFACE.rp_filter of the path's interface to 2",
	})
)

var kinds []Kind

func kind(k Kind) Kind {
	kinds = append(kinds, k)
	return k
}

// Kinds returns all kinds of findings.
func Kinds() []Kind { return kinds }
