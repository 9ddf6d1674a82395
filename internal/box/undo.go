//go:build linux

package box

import "errors"

// undo is the list of steps that a box takes when it stops, the last one first.
type undo struct{ steps []func() error }

func (u *undo) add(step func() error) { u.steps = append(u.steps, step) }

// all takes every step, also after one has failed, and joins the errors to err.
func (u *undo) all(err error) error {
	for i := len(u.steps) - 1; i >= 0; i-- {
		err = errors.Join(err, u.steps[i]())
	}
	return err
}
