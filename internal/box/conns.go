//go:build linux

package box

import (
	"sync"
	"time"

	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/state"
)

// conns finds the connection of a flow by its ID. Connections that have ended are
// kept for the dump of ended flows: the last ones, as many as the table remembers.
type conns struct {
	mu    sync.Mutex
	most  int   // ended ones
	rest  *rest // of the task that looks at all connections
	alive int   // those that have not ended
	byID  map[state.ID]*entry
	ended []state.ID // oldest first, from index first on
	first int
}

// entry is a connection.
type entry struct {
	connection
	token uint32 // by which the path manager tracks it, 0 if it does not
	paths uint8  // that it may use, a bit each
	// instance is the run of the HAG that answered when the connection was tracked.
	instance uint64
	tracked  time.Time
	over     bool
}

func newConns(most int) *conns {
	return &conns{most: most, rest: newRest(), byID: make(map[state.ID]*entry)}
}

// put enters the connection of a flow, unless it is there already.
func (c *conns) put(id state.ID, conn connection) {
	defer c.rest.end()
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e == nil || e.connection != conn {
		if e == nil || e.over {
			c.alive++
		}
		c.byID[id] = &entry{connection: conn, paths: ^uint8(0)}
	}
}

// forget removes the connection of a flow whose dial has failed: there is nothing to
// show of it.
func (c *conns) forget(id state.ID, conn connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil && e.connection == conn && !e.over { // else end removes it
		delete(c.byID, id)
		c.alive--
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

// track remembers the token by which a connection is tracked, the paths that it may use
// (0 is all of them), and the run of the HAG.
func (c *conns) track(id state.ID, token uint32, may uint8, instance uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.byID[id]; e != nil {
		e.token, e.instance, e.tracked = token, instance, time.Now()
		if may != 0 {
			e.paths = may
		}
	}
}

// some reports whether there are connections that have not ended.
func (c *conns) some() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.alive > 0
}

// live appends the flows whose connections have not ended to ids.
func (c *conns) live(ids []state.ID) []state.ID {
	c.mu.Lock()
	defer c.mu.Unlock()
	for id, e := range c.byID {
		if !e.over {
			ids = append(ids, id)
		}
	}
	return ids
}

// carried returns the connection of a flow, if it has not ended, and the paths that it may use.
func (c *conns) carried(id state.ID) (conn connection, may uint8, live bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.byID[id]
	if e == nil || e.over {
		return nil, 0, false
	}
	return e.connection, e.paths, true
}

// of returns the connections, by their tokens, that a run of the HAG which is over has
// carried, and those that began after its last answer: they may belong to the next run.
func (c *conns) of(d paths.Departed) (its, late map[uint32]connection) {
	c.mu.Lock()
	defer c.mu.Unlock()
	its, late = make(map[uint32]connection), make(map[uint32]connection)
	for _, e := range c.byID {
		switch {
		case e.over || e.token == 0 || e.instance != d.Instance:
		case e.tracked.Before(d.Heard):
			its[e.token] = e.connection
		default:
			late[e.token] = e.connection
		}
	}
	return its, late
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
	c.alive--
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
