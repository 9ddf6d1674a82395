package core

// Something on a path may take MP_CAPABLE out of SYNs, or of their answers. A connection then
// runs as TCP over the first path, which looks like a server without MPTCP. Where another box
// takes every connection, one answer without the option is an accident of that box, and several
// in a row are the path's doing.

// enoughUnbonded dials in a row are no accident.
const enoughUnbonded = 3

// unbonded counts, by path, the dials in a row that offered MPTCP and were answered without.
type unbonded map[uint8]int

// note takes a dial over a path that was answered.
func (u unbonded) note(path uint8, mptcp bool) {
	if mptcp {
		delete(u, path)
		return
	}
	u[path]++
}

// Unbonded returns the paths over which the last dials with MP_CAPABLE were answered without
// it, one bit each.
func (c *Core) Unbonded() (all PathSet) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for path, n := range c.unbonded {
		if n >= enoughUnbonded && path != plainSide {
			all |= 1 << path
		}
	}
	return all
}
