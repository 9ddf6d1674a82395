package pcaps

import (
	"cmp"
	"fmt"
)

// protocol is an index of protocols: a header in front of an IP packet, or the packet itself.
type protocol uint8

const (
	none protocol = iota
	ipAny
	ipv4
	ipv6
	ethernet
	loopback
	cooked1
	cooked2
	firewire
	nflog
	vlan
	serviceTag
	sequenceTag
	llc
	llcLength
	pppoe
	ppp
	pppDirection
	pppDaemon
	ciscoHDLC
	mpls
	nsh
	udp
	gre
	etherIP
	vxlan
	gtpU
	geneve
	l2tp
	teredo
	lisp
	wccp
)

// layer is a row of the table of all headers.
type layer struct {
	name string
	// read reads the header at the beginning of b, the captured rest of the layer around it.
	// It returns the length of the header and the protocol behind it. The length is negative
	// if b ends too early. read narrows w.end to the end of the layer.
	read func(w *walk, b []byte) (size int, next protocol)
	// resize writes lengths and checksums of the i-th header of a frame for a packet of
	// another length; nil for a header without these.
	resize func(f *Frame, i int)
	// turn exchanges source and destination of a header; nil for a header without these.
	turn func(header []byte)
}

var protocols = [...]layer{
	ipAny:        {"", readIP(0), resizeIP, turnIP},
	ipv4:         {"", readIP(4), resizeIP, turnIP},
	ipv6:         {"", readIP(6), resizeIP, turnIP},
	ethernet:     {"Ethernet", readEthernet, nil, turnEthernet},
	loopback:     {"loopback", readLoopback, nil, nil},
	cooked1:      {"Linux cooked v1", readCooked, nil, nil},
	cooked2:      {"Linux cooked v2", readCooked2, nil, nil},
	firewire:     {"IP over IEEE 1394", readFirewire, nil, nil},
	nflog:        {"NFLOG", readNFLOG, resizeNFLOG, nil},
	vlan:         {"VLAN", readVLAN, nil, nil},
	serviceTag:   {"802.1ah", readServiceTag, nil, nil},
	sequenceTag:  {"HSR or 802.1CB", readSequenceTag, nil, nil},
	llc:          {"LLC", readLLC, nil, nil},
	llcLength:    {"LLC", readLLC, resizeLLC, nil},
	pppoe:        {"PPPoE", readPPPoE, resizePPPoE, nil},
	ppp:          {"PPP", readPPP, nil, nil},
	pppDirection: {"PPP", readPPPDirection, nil, nil},
	pppDaemon:    {"PPP", readPPPDaemon, nil, nil},
	ciscoHDLC:    {"Cisco HDLC", readCiscoHDLC, nil, nil},
	mpls:         {"MPLS", readMPLS, nil, nil},
	nsh:          {"NSH", readNSH, nil, nil},
	udp:          {"UDP", readUDP, resizeUDP, nil},
	gre:          {"GRE", readGRE, resizeGRE, nil},
	etherIP:      {"EtherIP", readEtherIP, nil, nil},
	vxlan:        {"VXLAN", readVXLAN, nil, nil},
	gtpU:         {"GTP-U", readGTPU, resizeGTPU, nil},
	geneve:       {"Geneve", readGeneve, nil, nil},
	l2tp:         {"L2TP", readL2TP, resizeL2TP, nil},
	teredo:       {"Teredo", readTeredo, nil, nil},
	lisp:         {"LISP", readLISP, nil, nil},
	wccp:         {"WCCP", readWCCP, nil, nil},
}

// maxLayers bounds the headers of a frame. More of them are not read.
const maxLayers = 16

// place is a header in a frame.
type place struct {
	protocol protocol
	at       int // offset in the frame
}

// walk is a way through the headers of a frame, from the outermost one inwards.
type walk struct {
	f        *Frame
	at, end  int // of the next header, and of the layer around it on the wire
	depth    int // number of headers before at
	fragment bool
}

// kind is a kind of frames that are not read.
type kind struct {
	name   string
	number uint16 // 0 for a kind without numbers
	cut    string // "" or the reason
}

func (k kind) String() string {
	text := k.name
	if k.number != 0 {
		text += fmt.Sprintf(" 0x%04x", k.number)
	}
	return k.cut + text
}

// Reasons in a kind.
const (
	inFragments = "fragments of "
	cutIn       = "packets cut off in "
)

// unread sets the kind of a frame with something that is not read.
func (w *walk) unread(k kind) protocol {
	if w.f.unread.name == "" {
		w.f.unread = k
	}
	return none
}

// headers reads the headers of the frame from a first one. The innermost IP packet becomes
// the packet of the frame.
func (f *Frame) headers(first protocol) {
	w := &f.walk // in the frame: a function in a table may keep a pointer
	*w = walk{f: f, end: f.Length}
	for next := first; next != none; w.depth++ {
		l := &protocols[next]
		if w.fragment && next != udp {
			w.unread(kind{name: cmp.Or(l.name, "IP in IP"), cut: inFragments})
			return
		}
		if w.depth == maxLayers {
			w.unread(kind{name: fmt.Sprintf("more than %d headers", maxLayers)})
			return
		}
		rest := f.Data[w.at:max(w.at, min(len(f.Data), w.end))]
		size, following := l.read(w, rest)
		if size < 0 || size > len(rest) {
			if l.name != "" && w.depth > 0 && len(rest) < w.end-w.at {
				w.unread(kind{name: l.name, cut: cutIn})
			}
			return
		}
		f.places[w.depth] = place{next, w.at}
		w.at, next = w.at+size, following
	}
}

// until narrows the end of the layer to an offset, unless the offset is beyond.
func (w *walk) until(end int) { w.end = min(w.end, end) }
