package state

import (
	"testing"

	"github.com/synbond/synbond/rewrite"
)

func TestEveryReasonHasANameOfItsOwnAndAMeaning(t *testing.T) {
	seen := make(map[string]Reason)
	for r := None + 1; r < NumReasons; r++ {
		name := r.String()
		if other, twice := seen[name]; twice || name == "" {
			t.Errorf("reason %d is named %q, like %d", r, name, other)
		}
		seen[name] = r
		if r.Meaning() == "" {
			t.Errorf("reason %v has no meaning", r)
		}
	}
	if None.String() != "" || NumReasons.String() != "invalid" {
		t.Errorf("no reason is named %q, one out of range %q", None, NumReasons)
	}
}

func TestErrorsOfRewriteAreReasons(t *testing.T) {
	for r := rewrite.Reason(1); r < rewrite.NumReasons; r++ {
		if got := Because(r); got.String() != r.Error() {
			t.Errorf("%v is because of %v", r, got)
		}
	}
	if Because(nil) != None {
		t.Errorf("no error is because of %v", Because(nil))
	}
}
