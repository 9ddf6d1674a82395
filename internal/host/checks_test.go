//go:build linux

package host

import (
	"os"
	"slices"
	"testing"
)

// double is a machine of these settings and chains.
type double struct {
	sysctls map[string]string
	drops   []string
}

func (d double) Sysctl(key string) (string, error) {
	if v, ok := d.sysctls[key]; ok {
		return v, nil
	}
	return "", os.ErrNotExist
}

func (d double) InputDrops() ([]string, error) { return d.drops, nil }

// router has nothing in a box's way.
func router() double {
	return double{sysctls: map[string]string{"net/ipv6/conf/all/forwarding": "1", "net/ipv4/ip_forward": "1"}}
}

func TestChecksFindEachObstacle(t *testing.T) {
	for _, c := range []struct {
		name   string
		change func(*double)
		want   []string
	}{
		{"a router", func(*double) {}, nil},
		{"no IPv4", func(d *double) { delete(d.sysctls, "net/ipv4/ip_forward") }, []string{"no-family IPv4"}},
		{"no router", func(d *double) {
			d.sysctls["net/ipv4/ip_forward"], d.sysctls["net/ipv6/conf/all/forwarding"] = "0", "0"
		},
			[]string{"not-forwarding IPv6", "not-forwarding IPv4"}},
		{"a closed firewall", func(d *double) { d.drops = []string{"inet fw"} }, []string{"input-drops inet fw"}},
	} {
		d, got := router(), []string(nil)
		c.change(&d)
		for _, r := range (Survey{Surroundings: d}).Check() {
			check(t, r.Err)
			for _, f := range r.Findings {
				got = append(got, f.ID+" "+f.Subject)
				if f.Obstacle == "" || f.Consequence == "" || f.Remedy == "" || f.Severity == "" {
					t.Errorf("%s: %+v is not complete", c.name, f)
				}
			}
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
}
