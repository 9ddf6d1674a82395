//go:build linux

package box

import (
	"sync"

	"github.com/synbond/synbond/state"
)

// conns finds the connection of a flow by its ID. Connections that have ended are
// kept for the dump of ended flows: the last ones, as many as the table remembers.
type conns struct {
	mu    sync.Mutex
	most  int // ended ones
	byID  map[state.ID]*entry
	ended []state.ID // oldest first, from index first on
	first int
}

// entry is a connection.
type entry struct {
	connection
	token uint32 // by which the path manager tracks it, 0 if it does not
	over  bool
}

func newConns(most int) *conns { return &conns{most: most, byID: make(map[state.ID]*entry)} }

// put enters the connection of a flow, unless it is there already.
func (c *conns) put(id state.ID, conn connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e == nil || e.connection != conn {
		c.byID[id] = &entry{connection: conn}
	}
}

// forget removes the connection of a flow whose dial has failed: there is nothing to
// show of it.
func (c *conns) forget(id state.ID, conn connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil && e.connection == conn && !e.over { // else end removes it
		delete(c.byID, id)
	}
}

// get returns the connection of a flow.
func (c *conns) get(id state.ID) (connection, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil {
		return nil, false
	}
	return e.connection, true
}

// setToken remembers the token by which a connection is tracked.
func (c *conns) setToken(id state.ID, token uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		e.token = token
	}
}

// token returns the token by which a connection is tracked, 0 if it is not.
func (c *conns) token(id state.ID) uint32 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		return e.token
	}
	return 0
}

// end marks a connection as ended, and returns it if that is the first call for it.
// The connection that ended first is forgotten where there are too many.
func (c *conns) end(id state.ID) (connection, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil || e.over {
		return nil, false
	}
	e.over = true
	c.ended = append(c.ended, id)
	c.trim()
	return e.connection, true
}

// setMost bounds the number of connections that have ended.
func (c *conns) setMost(most int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.most = most
	c.trim()
}

// trim forgets the connections that ended first where there are too many.
func (c *conns) trim() {
	for len(c.ended)-c.first > c.most {
		delete(c.byID, c.ended[c.first])
		c.first++
	}
	if c.first > len(c.ended)/2 {
		c.ended = append(c.ended[:0], c.ended[c.first:]...)
		c.first = 0
	}
}
