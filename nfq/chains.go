//go:build linux

package nfq

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/google/nftables"
	"golang.org/x/sys/unix"
)

// HoldPriority is the priority in forward at which a box takes SYNs.
const HoldPriority = 1000

// ForwardChains describes the nftables chains of other programs that see forwarded packets
// before the box does, in the order in which a packet meets them.
func ForwardChains() (texts []string, err error) {
	c, err := nftables.New()
	if err != nil {
		return nil, fmt.Errorf("open nftables: %w", err)
	}
	chains, err := c.ListChains()
	if err != nil {
		return nil, fmt.Errorf("list nftables chains: %w", err)
	}
	chains = slices.DeleteFunc(chains, func(ch *nftables.Chain) bool {
		return ch.Hooknum == nil || *ch.Hooknum != unix.NF_INET_FORWARD || ch.Priority == nil || *ch.Priority > HoldPriority ||
			families[ch.Table.Family] == "" || ch.Table.Name == tableName("cpe") || ch.Table.Name == tableName("hag")
	})
	slices.SortStableFunc(chains, func(a, b *nftables.Chain) int { return cmp.Compare(*a.Priority, *b.Priority) })
	for _, ch := range chains {
		policy := ""
		if ch.Policy != nil && *ch.Policy == nftables.ChainPolicyDrop {
			policy = ", policy drop"
		}
		texts = append(texts, fmt.Sprintf("%s %s %s (priority %d%s)", families[ch.Table.Family], ch.Table.Name, ch.Name, *ch.Priority, policy))
	}
	return texts, nil
}

// families names the families whose chains see IP packets.
var families = map[nftables.TableFamily]string{
	nftables.TableFamilyINet: "inet", nftables.TableFamilyIPv4: "ip", nftables.TableFamilyIPv6: "ip6",
}
