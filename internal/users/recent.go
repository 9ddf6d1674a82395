package users

import "container/list"

// recent is a map of bounded size. A new key in a full map takes the place of the one that
// was put or looked up least recently.
type recent[K comparable, V any] struct {
	size  int
	order *list.List // of *slot, the most recent first
	slots map[K]*list.Element
}

type slot[K comparable, V any] struct {
	key   K
	value V
}

func newRecent[K comparable, V any](size int) *recent[K, V] {
	return &recent[K, V]{size: size, order: list.New(), slots: make(map[K]*list.Element)}
}

// get returns the value of a key, nil if there is none. It may be changed until the next
// call of a method.
func (r *recent[K, V]) get(key K) *V {
	e := r.slots[key]
	if e == nil {
		return nil
	}
	r.order.MoveToFront(e)
	return &e.Value.(*slot[K, V]).value
}

// put sets the value of a key.
func (r *recent[K, V]) put(key K, value V) {
	if v := r.get(key); v != nil {
		*v = value
		return
	}
	if len(r.slots) >= r.size {
		oldest := r.order.Back()
		delete(r.slots, oldest.Value.(*slot[K, V]).key)
		r.order.Remove(oldest)
	}
	r.slots[key] = r.order.PushFront(&slot[K, V]{key, value})
}

// remove removes a key, if it is there.
func (r *recent[K, V]) remove(key K) {
	if e := r.slots[key]; e != nil {
		delete(r.slots, key)
		r.order.Remove(e)
	}
}
