package rewrite

// Reason is the reason why this package could not read or edit a packet. Every error
// of the package is a Reason, which also serves as the label of a counter. The zero
// Reason means success and is never returned as an error.
type Reason uint8

// The reasons.
const (
	// Truncated: the packet has fewer bytes than its IP header announces.
	Truncated Reason = iota + 1
	// BadIPHeader: neither IPv4 nor IPv6, a jumbogram, or an inconsistent IP header, IP
	// option or extension header.
	BadIPHeader
	// Fragment: the packet is a fragment of a larger one. An atomic fragment (RFC 6946)
	// is not.
	Fragment
	// UnknownExtensionHeader: an IPv6 header of an unknown kind that may precede a TCP
	// header, or one that replaces an address in TCP's pseudo-header: an unknown routing
	// header with segments left, a Home Address option (RFC 6275, section 6.3).
	UnknownExtensionHeader
	// NotTCP: the upper-layer protocol is not TCP, or is encrypted by ESP.
	NotTCP
	// BadTCPHeader: the TCP header does not fit into the IP payload, or the data offset
	// is less than five words.
	BadTCPHeader
	// BadOption: a TCP option overruns the option list, or an MPTCP option has a length
	// or a place that neither RFC 6824 nor RFC 8684 allows.
	BadOption
	// BadChecksum: the checksum of the TCP or the IPv4 header does not match the packet.
	// [Segment.Parse] does not verify it: see [Segment.ChecksumOK].
	BadChecksum
	// NotSYN: the segment is neither a SYN nor, for [Segment.Strip], a SYN+ACK.
	NotSYN
	// SourceRouted: a source route of the packet has hops left.
	SourceRouted
	// Authenticated: a signature covers the segment: AH (RFC 4302), or the TCP options
	// MD5 (RFC 2385) and TCP-AO (RFC 5925).
	Authenticated
	// AlreadyMPTCP: the segment already has an MPTCP option.
	AlreadyMPTCP
	// NoOptionSpace: the option does not fit into the 40 bytes of an option list.
	NoOptionSpace
	// TooLong: the length of the packet would not fit into the IP header.
	TooLong

	// NumReasons is the length of an array with an element for each Reason, such as an
	// array of counters.
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

// String returns the reason in lower case with hyphens, such as "bad-option", for use
// as a metric label.
func (r Reason) String() string {
	if r >= NumReasons {
		return "invalid"
	}
	return reasonNames[r]
}

// Error returns the same string as String.
func (r Reason) Error() string { return r.String() }
