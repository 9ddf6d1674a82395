//go:build linux

package main

import (
	"cmp"
	"slices"
)

// summary of a figure's values.
type summary struct {
	Median float64 `json:"median"`
	Min    float64 `json:"min"`
	Max    float64 `json:"max"`
}

// summarize takes at least one value.
func summarize(values []float64) summary {
	s := slices.Sorted(slices.Values(values))
	n := len(s)
	return summary{Median: (s[(n-1)/2] + s[n/2]) / 2, Min: s[0], Max: s[n-1]}
}

// quantile of sorted values by the nearest rank, 0 if there are none.
func quantile[T cmp.Ordered](sorted []T, q float64) (v T) {
	if len(sorted) == 0 {
		return v
	}
	return sorted[min(int(q*float64(len(sorted))), len(sorted)-1)]
}
