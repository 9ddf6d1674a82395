//go:build linux

package main

import (
	"math"
	"testing"
	"time"
)

func TestSummarizeTakesTheMedianOfAnyNumberOfValues(t *testing.T) {
	for _, c := range []struct {
		values []float64
		want   summary
	}{
		{[]float64{3}, summary{3, 3, 3}},
		{[]float64{4, 2}, summary{3, 2, 4}},
		{[]float64{9, 1, 5}, summary{5, 1, 9}},
		{[]float64{9, 1, 5, 7}, summary{6, 1, 9}},
	} {
		if got := summarize(c.values); got != c.want {
			t.Errorf("summarize(%v) = %v, want %v", c.values, got, c.want)
		}
	}
}

func TestQuantileIsOneOfTheValues(t *testing.T) {
	values := []time.Duration{1, 2, 3, 4, 5, 6, 7, 8, 9, 10}
	for _, c := range []struct {
		q    float64
		want time.Duration
	}{{0, 1}, {0.5, 6}, {0.99, 10}, {1, 10}} {
		if got := quantile(values, c.q); got != c.want {
			t.Errorf("quantile %v is %v, want %v", c.q, got, c.want)
		}
	}
	if got := quantile([]time.Duration(nil), 0.5); got != 0 {
		t.Errorf("quantile of nothing is %v", got)
	}
}

func TestNumberHasThreeDigits(t *testing.T) {
	for v, want := range map[float64]string{
		0: "0", 0.012345: "0.0123", 1.5: "1.5", 1.0049: "1", 23.456: "23.5", 99.96: "100", 123.6: "124", 13900.4: "13900",
		math.Pi: "3.14",
	} {
		if got := number(v); got != want {
			t.Errorf("number(%v) = %s, want %s", v, got, want)
		}
	}
}
