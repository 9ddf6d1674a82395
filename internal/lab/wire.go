package lab

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/netlab"
)

// Wire says which MPTCP options the handshakes on one link bore, to and from
// the server's port that was watched: "plain", "MP_CAPABLE", "MP_JOIN", several
// of them with commas between, or "-" where there was no handshake.
type Wire struct {
	Link   string `json:"link"`
	SYN    string `json:"syn"`
	SYNACK string `json:"syn_ack"`
}

// watched is a link with a tap on it.
type watched struct {
	link string
	tap  *netlab.Tap
}

// watch opens a tap on each link of the network, on the way from client to server.
func (n network) watch() (links []watched, err error) {
	open := func(link string, h *netlab.Host, ifname string) {
		if err != nil {
			return
		}
		var t *netlab.Tap
		if t, err = netlab.OpenTap(h, ifname); err == nil {
			links = append(links, watched{link, t})
		}
	}
	open("client – CPE", n.Client, netlab.ClientInterface)
	for _, l := range n.Lines {
		open("CPE – HAG, "+l.Name, n.CPE, l.Name)
	}
	open("HAG – server", n.Server, netlab.ServerInterface)
	return links, err
}

func closeTaps(links []watched) {
	for _, l := range links {
		l.tap.Close()
	}
}

// wires reads what the taps saw of connections to the servers, and of joins.
func wires(links []watched, servers ...netip.AddrPort) []Wire {
	out := make([]Wire, len(links))
	for i, l := range links {
		w := Wire{Link: l.link}
		for _, h := range l.tap.Handshakes() {
			if h.Option != netlab.MPJoin && !slices.Contains(servers, h.Src) && !slices.Contains(servers, h.Dst) {
				continue
			}
			if h.ACK {
				w.SYNACK = note(w.SYNACK, h.Option)
			} else {
				w.SYN = note(w.SYN, h.Option)
			}
		}
		w.SYN, w.SYNACK = note(w.SYN, ""), note(w.SYNACK, "")
		out[i] = w
	}
	return out
}

// note adds a kind to a list, once.
func note(list, kind string) string {
	switch {
	case list == "" && kind == "":
		return "-"
	case list == "":
		return kind
	case kind == "" || strings.Contains(list, kind):
		return list
	}
	return list + ", " + kind
}
