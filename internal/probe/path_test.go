//go:build linux

package probe

import (
	"testing"
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// A path with something to confirm is probed at the full rate, so that nothing may stay
// unconfirmed for good.
func TestFamiliesOfNoUseHaveNothingToConfirm(t *testing.T) {
	confirmed := prober{confirmed: true}
	for _, c := range []struct {
		name  string
		other prober
		want  bool
	}{
		{"not yet confirmed", prober{}, true},
		{"confirmed", confirmed, false},
		{"silent", prober{unanswered: paths.SilenceProbes}, false},
		{"port unreachable", prober{refused: time.Unix(1000, 0)}, false},
	} {
		p := path{probers: [2]*prober{&c.other, &confirmed}}
		if got := p.unconfirmed(); got != c.want {
			t.Errorf("%s: unconfirmed %v, want %v", c.name, got, c.want)
		}
	}
}
