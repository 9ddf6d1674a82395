package state

// slot is the number of a record.
type slot uint32

// The first slots are the roots of the queues: of one for each live state, and of
// one for all flows that have ended.
const (
	none      slot = 0 // no record
	firstFlow      = slot(NumStates) + 1
)

// root returns the root of the queue for flows in state s.
func root(s State) slot {
	if !s.Live() {
		s = Closed
	}
	return slot(s) + 1
}

// record is a flow, and its place in a queue, in two cache lines.
type record struct {
	Flow
	queue      slot // by its root; none: the record is free
	prev, next slot
	_          [4]byte
}

// page is how many records are allocated at once, and how many [Table.All] copies
// in one turn of the lock: some 10 µs.
const page = 256

// slab is all records. They never move, and link to each other by number, so that
// the garbage collector has no links to follow.
type slab struct {
	pages []*[page]record
	taken slot // how many slots were ever taken
	free  slot // the first one that is free again; next leads on
}

func newSlab() *slab {
	s := new(slab)
	for n := range firstFlow {
		s.take()
		s.at(n).prev, s.at(n).next = n, n
	}
	return s
}

func (s *slab) at(n slot) *record { return &s.pages[n/page][n%page] }

// take returns a slot that is free.
func (s *slab) take() slot {
	if n := s.free; n != none {
		s.free = s.at(n).next
		return n
	}
	if s.taken%page == 0 {
		s.pages = append(s.pages, new([page]record))
	}
	s.taken++
	return s.taken - 1
}

// give frees a slot.
func (s *slab) give(n slot) {
	*s.at(n) = record{next: s.free}
	s.free = n
}

// oldest returns the first of the queue with that root; the root if there is none.
func (s *slab) oldest(root slot) slot { return s.at(root).next }

// push makes n the newest of its queue.
func (s *slab) push(n slot) {
	r := s.at(n)
	root := s.at(r.queue)
	r.prev, r.next = root.prev, r.queue
	s.at(r.prev).next, root.prev = n, n
}

// unlink takes n out of its queue.
func (s *slab) unlink(n slot) {
	r := s.at(n)
	s.at(r.prev).next, s.at(r.next).prev = r.next, r.prev
}
