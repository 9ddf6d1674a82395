package paths

import "testing"

func TestRatesAndSizesAreRead(t *testing.T) {
	for s, want := range map[string]uint64{
		"20mbit": 20e6, "2.5Gbit": 2.5e9, "800 kbit": 800e3, "9600bit": 9600, "0bit": 0, "0.1kbit": 100,
	} {
		if got, err := ParseRate(s); got != want || err != nil {
			t.Errorf("rate %q is %d, %v, want %d", s, got, err, want)
		}
	}
	for s, want := range map[string]uint64{
		"10GB": 10e9, "64KiB": 64 << 10, "1.5MiB": 3 << 19, "7B": 7, "2 tb": 2e12, "8000000TB": 8e18,
	} {
		if got, err := ParseSize(s); got != want || err != nil {
			t.Errorf("size %q is %d, %v, want %d", s, got, err, want)
		}
	}
}

func TestInvalidQuantitiesAreErrors(t *testing.T) {
	for _, s := range []string{
		"", "mbit", "20", "20mb it", "-20mbit", "+20mbit", "1e3mbit", "NaNmbit", "infmbit", "1.2.3mbit", ".mbit", "20GB", "99999999999gbit", "20mbit/s/s",
	} {
		if n, err := ParseRate(s); err == nil {
			t.Errorf("rate %q is %d", s, n)
		}
	}
	for _, s := range []string{"", "GB", "10", "10Gb it", "-1GB", "0x10GB", "10mbit", "9300000000GB", "10 G B"} {
		if n, err := ParseSize(s); err == nil {
			t.Errorf("size %q is %d", s, n)
		}
	}
}
