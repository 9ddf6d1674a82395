package socks

// MaxPending is the largest number of bytes that a machine keeps: more than the largest
// message (513 bytes, RFC 1929), and than a login and a request together (775).
const MaxPending = 2048

// buffer has the bytes that were received and not yet used. Its memory is overwritten
// when it is left, as it may have a password.
type buffer struct {
	bytes []byte
}

// room returns the number of bytes that the buffer takes.
func (b *buffer) room() int { return MaxPending - len(b.bytes) }

// take moves bytes to the end of the buffer, and clears their origin. It reports whether
// they fit.
func (b *buffer) take(from []byte) bool {
	defer clear(from)
	if len(from) > b.room() {
		return false
	}
	if need := len(b.bytes) + len(from); need > cap(b.bytes) {
		grown := make([]byte, len(b.bytes), min(max(need, 2*cap(b.bytes), 64), MaxPending))
		copy(grown, b.bytes)
		clear(b.bytes)
		b.bytes = grown
	}
	b.bytes = append(b.bytes, from...)
	return true
}

// next returns the message at the beginning of the buffer, nil if there is no whole one.
func (b *buffer) next(length frame) ([]byte, error) {
	n, err := length(b.bytes)
	if err != nil || n == 0 || len(b.bytes) < n {
		return nil, err
	}
	return b.bytes[:n], nil
}

// drop removes a message, and clears it.
func (b *buffer) drop(message []byte) {
	clear(message)
	b.bytes = b.bytes[len(message):]
}

// wipe removes all bytes.
func (b *buffer) wipe() {
	clear(b.bytes)
	b.bytes = nil
}

// rest hands over what is in the buffer.
func (b *buffer) rest() []byte {
	rest := b.bytes
	b.bytes = nil
	return rest
}
