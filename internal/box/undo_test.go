//go:build linux

package box

import (
	"errors"
	"testing"
)

func TestUndoTakesEveryStepLastFirst(t *testing.T) {
	var u undo
	var order []int
	first, third := errors.New("first"), errors.New("third")
	for i, err := range []error{first, nil, third} {
		u.add(func() error { order = append(order, i); return err })
	}
	cause := errors.New("cause")
	err := u.all(cause)
	for _, want := range []error{cause, first, third} {
		if !errors.Is(err, want) {
			t.Errorf("%v is lost in %v", want, err)
		}
	}
	if len(order) != 3 || order[0] != 2 || order[2] != 0 {
		t.Errorf("steps were taken in order %v", order)
	}
	if err := new(undo).all(nil); err != nil {
		t.Errorf("nothing to undo gives %v", err)
	}
}
