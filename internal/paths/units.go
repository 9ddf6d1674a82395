package paths

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Units, in lower case. Those of rates and of sizes are both powers of 1000; sizes
// may be in powers of 1024, too (IEC 80000-13).
var (
	rateUnits = map[string]float64{"bit": 1, "kbit": 1e3, "mbit": 1e6, "gbit": 1e9}
	sizeUnits = map[string]float64{
		"b": 1, "kb": 1e3, "mb": 1e6, "gb": 1e9, "tb": 1e12,
		"kib": 1 << 10, "mib": 1 << 20, "gib": 1 << 30, "tib": 1 << 40,
	}
)

// ParseRate reads a rate such as "20mbit" or "2.5Gbit" in bit/s.
func ParseRate(s string) (uint64, error) {
	n, ok := quantity(s, rateUnits)
	if !ok {
		return 0, fmt.Errorf("rate %q: want a number and bit, kbit, mbit or gbit, such as 20mbit", s)
	}
	return n, nil
}

// ParseSize reads a size such as "10GB" or "64KiB" in bytes.
func ParseSize(s string) (uint64, error) {
	n, ok := quantity(s, sizeUnits)
	if !ok {
		return 0, fmt.Errorf("size %q: want a number and B, kB, MB, GB, TB, KiB, MiB, GiB or TiB, such as 10GB", s)
	}
	return n, nil
}

// quantity reads a number, which may have decimals but no sign, and its unit.
func quantity(s string, units map[string]float64) (uint64, bool) {
	digits := strings.TrimLeft(s, "0123456789.")
	number := s[:len(s)-len(digits)]
	unit, known := units[strings.ToLower(strings.TrimSpace(digits))]
	n, err := strconv.ParseFloat(number, 64)
	if !known || err != nil || n*unit >= math.MaxInt64 {
		return 0, false
	}
	return uint64(math.Round(n * unit)), true
}
