//go:build linux

package box

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

var (
	addr6 = netip.MustParseAddr("2001:db8::1")
	addr4 = netip.MustParseAddr("192.0.2.1")
)

// names is a resolver whose answers take their time.
type names struct {
	*resolver
	mu      sync.Mutex
	lookups int
	start   time.Time
}

func newNames(took6, took4 time.Duration, all6, all4 []netip.Addr) *names {
	n := &names{resolver: newResolver(), start: time.Now()}
	n.lookup = func(_ context.Context, network, _ string) ([]netip.Addr, error) {
		n.mu.Lock()
		n.lookups++
		n.mu.Unlock()
		took, all := took6, all6
		if network == "ip4" {
			took, all = took4, all4
		}
		time.Sleep(took)
		if all == nil {
			return nil, errors.New("no such host")
		}
		return slices.Clone(all), nil
	}
	return n
}

// calls returns the calls that a resolution makes, each with its time.
func (n *names) calls(name string) (all []string) {
	n.start = time.Now()
	n.resolve(name, func(addrs []netip.Addr, last bool) {
		all = append(all, fmt.Sprintf("%v %v %v", time.Since(n.start), addrs, last))
	})
	time.Sleep(20 * time.Second)
	synctest.Wait()
	return all
}

func TestAddressesComeInTheOrderOfTheirUse(t *testing.T) {
	six, four := []netip.Addr{addr6}, []netip.Addr{addr4}
	const ms = time.Millisecond
	for _, c := range []struct {
		name         string
		took6, took4 time.Duration
		all6, all4   []netip.Addr
		want         []string
	}{
		{"IPv6 first", 10 * ms, 20 * ms, six, four, []string{"10ms [2001:db8::1] false", "20ms [192.0.2.1] true"}},
		{"IPv6 a little later", 30 * ms, 10 * ms, six, four, []string{"30ms [2001:db8::1 192.0.2.1] true"}},
		{"IPv6 much later", 500 * ms, 10 * ms, six, four, []string{"60ms [192.0.2.1] false", "500ms [2001:db8::1] true"}},
		{"IPv4 only", 10 * ms, 20 * ms, nil, four, []string{"20ms [192.0.2.1] true"}},
		{"IPv4 only, and that soon", 20 * ms, 10 * ms, nil, four, []string{"20ms [192.0.2.1] true"}},
		{"IPv6 only", 20 * ms, 10 * ms, six, nil, []string{"20ms [2001:db8::1] true"}},
		{"none", 20 * ms, 10 * ms, nil, nil, []string{"20ms [] true"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				n := newNames(c.took6, c.took4, c.all6, c.all4)
				if got := n.calls("example.com"); !slices.Equal(got, c.want) {
					t.Errorf("%q, want %q", got, c.want)
				}
			})
		})
	}
}

func TestAnswersAreSharedAndRememberedForAShortTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNames(time.Second, time.Second, []netip.Addr{addr6}, nil)
		found := 0
		resolve := func() {
			n.resolve("example.com", func(_ []netip.Addr, last bool) {
				if last {
					found++
				}
			})
		}
		for range 100 {
			resolve()
		}
		time.Sleep(2 * time.Second)
		synctest.Wait()
		if n.lookups != 2 || found != 100 {
			t.Errorf("%d lookups for %d clients", n.lookups, found)
		}
		resolve()
		time.Sleep(2 * time.Second) // of IPv4 the answer, none, is remembered for a shorter time
		if n.lookups != 3 || found != 101 {
			t.Errorf("after a second: %d lookups", n.lookups)
		}
		time.Sleep(freshFor)
		resolve()
		time.Sleep(2 * time.Second)
		if n.lookups != 5 || found != 102 || len(n.asked) != 0 {
			t.Errorf("after ten seconds: %d lookups", n.lookups)
		}
	})
}

func TestRememberedNamesAreBounded(t *testing.T) {
	r := newResolver()
	for i := range 5 * mostNames {
		r.remember(question{"ip4", fmt.Sprint(i)}, nil)
	}
	if len(r.answers) > 2*mostNames {
		t.Errorf("%d answers", len(r.answers))
	}
}
