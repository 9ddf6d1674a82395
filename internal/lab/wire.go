//go:build linux

package lab

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/netlab"
)

// Wire lists the MPTCP options of the handshakes on one link, to and from the
// server's port: "plain", "MP_CAPABLE", "MP_JOIN", several of them with commas
// between, or "-" without a handshake.
type Wire struct {
	Link   string `json:"link"`
	SYN    string `json:"syn"`
	SYNACK string `json:"syn_ack"`
}

// tappedLink is a link with a tap on it.
type tappedLink struct {
	link string
	tap  *netlab.Tap
}

// openTaps opens a tap on each link from client to server.
func (n network) openTaps() (links []tappedLink, err error) {
	open := func(link string, h *netlab.Host, ifname string) {
		if err != nil {
			return
		}
		var t *netlab.Tap
		if t, err = netlab.OpenTap(h, ifname); err == nil {
			links = append(links, tappedLink{link, t})
		}
	}
	open("client – CPE", n.Client, netlab.ClientInterface)
	for _, l := range n.Lines {
		open("CPE – HAG, "+l.Name, n.CPE, l.Name)
	}
	open("HAG – server", n.Server, netlab.ServerInterface)
	return links, err
}

func closeTaps(links []tappedLink) {
	for _, l := range links {
		l.tap.Close()
	}
}

// wiresOf lists the options of connections to the servers, and of joins, on each link.
func wiresOf(links []tappedLink, servers ...netip.AddrPort) []Wire {
	out := make([]Wire, len(links))
	for i, l := range links {
		w := Wire{Link: l.link}
		for _, h := range l.tap.Handshakes() {
			if h.Option != netlab.MPJoin && !slices.Contains(servers, h.Src) && !slices.Contains(servers, h.Dst) {
				continue
			}
			if h.ACK {
				w.SYNACK = appendKind(w.SYNACK, h.Option)
			} else {
				w.SYN = appendKind(w.SYN, h.Option)
			}
		}
		w.SYN, w.SYNACK = appendKind(w.SYN, ""), appendKind(w.SYNACK, "")
		out[i] = w
	}
	return out
}

// appendKind adds a kind to a list, once. An empty list becomes "-" with the kind "".
func appendKind(list, kind string) string {
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
