package rewrite

// Reason says why a packet, or an option in it, was not understood. It is the
// error of this package and the label under which a box counts such packets.
// The zero Reason means that nothing was wrong and is never returned as an error.
type Reason uint8

const (
	// Truncated: fewer bytes were given than the IP header announces.
	Truncated Reason = iota + 1
	// BadIPHeader: neither IPv4 nor IPv6, a jumbogram, or an IP header, IP
	// option or extension header that contradicts itself.
	BadIPHeader
	// Fragment: more fragments follow, or the offset is not zero. An atomic
	// fragment (RFC 6946) is none.
	Fragment
	// UnknownExtensionHeader: an IPv6 header that may hide a TCP header, or a
	// routing header that does not tell the final destination.
	UnknownExtensionHeader
	// NotTCP: another upper-layer protocol, or one hidden by ESP.
	NotTCP
	// BadTCPHeader: the IP payload has no room for the TCP header, or the data
	// offset is below five words.
	BadTCPHeader
	// BadOption: a TCP option overruns the option list, or an MPTCP option has a
	// length or a place that neither RFC 6824 nor RFC 8684 allows.
	BadOption
	// BadChecksum: the checksum does not match the bytes. [Segment.Parse] does
	// not verify it: see [Segment.ChecksumOK].
	BadChecksum
	// NotSYN: [Segment.Add] edits a SYN, [Segment.Strip] a SYN or a SYN+ACK.
	NotSYN
	// SourceRouted: the packet has hops of a source route before it.
	SourceRouted
	// Authenticated: a signature covers what an edit would change: AH (RFC 4302),
	// the TCP options MD5 (RFC 2385) and TCP-AO (RFC 5925).
	Authenticated
	// AlreadyMPTCP: an MPTCP option is there and leaves no place for another.
	AlreadyMPTCP
	// NoOptionSpace: the option does not fit into the 40 bytes of an option list.
	NoOptionSpace
	// TooLong: the packet would be longer than the IP header can say.
	TooLong

	// NumReasons is one more than the largest Reason: the length of an array of
	// counters that is indexed by Reason.
	NumReasons
)

var reasonNames = [NumReasons]string{
	0:                      "none",
	Truncated:              "truncated",
	BadIPHeader:            "bad-ip-header",
	Fragment:               "fragment",
	UnknownExtensionHeader: "unknown-extension-header",
	NotTCP:                 "not-tcp",
	BadTCPHeader:           "bad-tcp-header",
	BadOption:              "bad-option",
	BadChecksum:            "bad-checksum",
	NotSYN:                 "not-syn",
	SourceRouted:           "source-routed",
	Authenticated:          "authenticated",
	AlreadyMPTCP:           "already-mptcp",
	NoOptionSpace:          "no-option-space",
	TooLong:                "too-long",
}

// String returns a short lower-case word that fits as a metric label.
func (r Reason) String() string {
	if r >= NumReasons {
		return "invalid"
	}
	return reasonNames[r]
}

// Error returns the same word as String.
func (r Reason) Error() string { return r.String() }
