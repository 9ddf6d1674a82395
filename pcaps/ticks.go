package pcaps

import "math/bits"

// secondsOf converts a number of ticks to whole seconds and nanoseconds. The resolution is
// that of if_tsresol: a negative power of 10, or of 2 with the highest bit set.
func secondsOf(ticks uint64, resolution byte) (seconds, nanoseconds uint64) {
	const billion = 1_000_000_000
	exponent := uint(resolution & 0x7f)
	if resolution&0x80 != 0 {
		if exponent >= 64 {
			high, _ := bits.Mul64(ticks, billion)
			return 0, high >> (exponent - 64)
		}
		high, low := bits.Mul64(ticks&(1<<exponent-1), billion)
		return ticks >> exponent, high<<(64-exponent) | low>>exponent
	}
	const digits = 19 // of the largest power of 10 in 64 bits
	if exponent > digits {
		if exponent-9 > digits {
			return 0, 0
		}
		return 0, ticks / power10(exponent-9)
	}
	second := power10(exponent)
	high, low := bits.Mul64(ticks%second, billion)
	nanoseconds, _ = bits.Div64(high, low, second)
	return ticks / second, nanoseconds
}

func power10(exponent uint) uint64 {
	n := uint64(1)
	for range exponent {
		n *= 10
	}
	return n
}
