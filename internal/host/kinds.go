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
)

var kinds []Kind

func kind(k Kind) Kind {
	kinds = append(kinds, k)
	return k
}

// Kinds returns all kinds of findings.
func Kinds() []Kind { return kinds }
