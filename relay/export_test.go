package relay

// Room is what a leg is given, by the state of its subflows.
var Room = room

// InWindow is how much more fits into a peer's window.
var InWindow = inWindow

// Left counts what a relay still holds: connections that wait for their client,
// and places in its loops beside those of its listeners and wake-ups.
func (r *Relay) Left() (waiting, slots int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, l := range r.loops {
		l.mu.Lock()
		slots += len(l.slots) - len(l.free) - 1 - len(r.listeners)
		l.mu.Unlock()
	}
	return len(r.waiting), slots
}
