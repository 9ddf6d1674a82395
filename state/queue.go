package state

// queue is a list of flows, oldest first, linked through the flows themselves.
type queue struct {
	root Flow // sentinel
	len  int
}

func (q *queue) init() { q.root.prev, q.root.next = &q.root, &q.root }

func (q *queue) oldest() *Flow { return q.root.next }

func (q *queue) push(f *Flow) {
	f.prev, f.next = q.root.prev, &q.root
	f.prev.next, q.root.prev = f, f
	q.len++
}

func (q *queue) remove(f *Flow) {
	f.prev.next, f.next.prev = f.next, f.prev
	f.prev, f.next = nil, nil
	q.len--
}
