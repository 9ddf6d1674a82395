package rewrite

// FastOpen is a TCP Fast Open cookie: kind 34, in SYN and SYN+ACK (RFC 7413, section
// 4.1.1). An empty Cookie in a SYN requests a cookie. Otherwise Cookie has 4 to 16
// bytes, an even number; ParseFastOpen returns a view into the option.
type FastOpen struct{ Cookie []byte }

const (
	fastOpenHeaderSize  = 2
	fastOpenMinimumSize = 6
	fastOpenMaximumSize = 18
)

// ParseFastOpen reads one whole option. The error is [BadOption].
func ParseFastOpen(o []byte) (FastOpen, error) {
	n := len(o)
	if !isOption(o, optionFastOpen) || n%2 != 0 || n > fastOpenMaximumSize ||
		n > fastOpenHeaderSize && n < fastOpenMinimumSize {
		return FastOpen{}, BadOption
	}
	return FastOpen{o[fastOpenHeaderSize:n:n]}, nil
}

// Append appends the option to b.
func (f FastOpen) Append(b []byte) []byte {
	return append(append(b, optionFastOpen, byte(f.Len())), f.Cookie...)
}

// Len returns the size of the option in bytes: 2, or 6 to 18.
func (f FastOpen) Len() int { return fastOpenHeaderSize + len(f.Cookie) }
