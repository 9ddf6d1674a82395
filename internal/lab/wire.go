package lab

import (
	"net/netip"
	"slices"
	"strings"

	"github.com/synbond/synbond/rewrite"
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
	tap  *Tap
}

// watch opens a tap on each link of the network, on the way from client to server.
func (n *Network) watch() (links []watched, err error) {
	open := func(link string, h *Host, ifname string) {
		if err != nil {
			return
		}
		var t *Tap
		if t, err = OpenTap(h, ifname); err == nil {
			links = append(links, watched{link, t})
		}
	}
	open("client – CPE", n.Client, ClientInterface)
	for _, l := range n.Lines {
		open("CPE – HAG, "+l.Name, n.CPE, l.Name)
	}
	open("HAG – server", n.Server, ServerInterface)
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
			var seg rewrite.Segment
			if seg.Parse(h.Packet) != nil {
				continue
			}
			kind := kindOf(&seg)
			if kind != join && !slices.Contains(servers, seg.Src) && !slices.Contains(servers, seg.Dst) {
				continue
			}
			if seg.IsSYN() {
				w.SYN = note(w.SYN, kind)
			} else {
				w.SYNACK = note(w.SYNACK, kind)
			}
		}
		w.SYN, w.SYNACK = note(w.SYN, ""), note(w.SYNACK, "")
		out[i] = w
	}
	return out
}

const (
	plain   = "plain"
	capable = "MP_CAPABLE"
	join    = "MP_JOIN"
)

func kindOf(seg *rewrite.Segment) string {
	m, err := seg.MPTCP()
	switch {
	case err != nil:
		return err.Error()
	case m.Capable:
		return capable
	case m.Join:
		return join
	}
	return plain
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
