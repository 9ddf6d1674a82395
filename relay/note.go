//go:build linux

package relay

import (
	"slices"
	"time"
)

// What the kernel knows of a multipath leg vanishes with its socket, and when the peer resets
// the leg, before the relay hears of it. So the relay asks while the leg lives: once for the
// token, then at growing intervals. Each function is called with c.mu held, except noteSometimes.

// Intervals between two looks at the kernel's figures of a connection that carries something.
const (
	firstNote   = 250 * time.Millisecond
	longestNote = 10 * time.Second
)

// noteFirst notes the token and the first subflow of a connection that has just been paired.
func (c *Conn) noteFirst() {
	c.noteEvery = firstNote
	c.noteAt = time.Now().Add(c.noteEvery)
	if token := c.token(); token != 0 {
		local, remote := c.local, c.to() // of the onward leg
		if !c.MPTCP {
			local, remote = c.Server, c.Client
			if c.Explicit {
				local, _ = localOf(c.client.fd) // it is connected
			}
		}
		c.last = Info{MPTCP: true, Token: token, Subflows: []Subflow{{Local: local, Remote: remote}}}
	}
}

// noteSometimes notes the figures if it is time to.
func (c *Conn) noteSometimes() {
	now := time.Now()
	if now.Before(c.noteAt) {
		return
	}
	c.noteEvery = min(2*c.noteEvery, longestNote)
	c.noteAt = now.Add(c.noteEvery)
	c.mu.Lock()
	defer c.mu.Unlock()
	if info, ok := c.info(); ok {
		c.note(info)
	}
}

// note notes figures of a leg that lives. Those of one that has been reset are empty.
func (c *Conn) note(info Info) {
	if len(info.Subflows) > 0 && (info.MPTCP || !c.last.MPTCP || info.fellBack()) {
		c.last = info
	}
}

// noteEnd notes the figures when the first stream has ended and when both have. Subflows that
// have left meanwhile keep the figures that they had.
func (c *Conn) noteEnd() {
	info, ok := c.info()
	if !ok || c.last.MPTCP && !info.MPTCP && !info.fellBack() {
		return
	}
	if c.last.MPTCP && !info.MPTCP {
		info.Token = c.last.Token
		c.last = info
		return
	}
	if info.Token == 0 {
		info.Token = c.last.Token
	}
	for _, s := range c.last.Subflows {
		same := func(o Subflow) bool { return o.Local == s.Local && o.Remote == s.Remote }
		if len(info.Subflows) < maxSubflows && !slices.ContainsFunc(info.Subflows, same) {
			info.Subflows = append(info.Subflows, s)
		}
	}
	c.last = info
}

// fellBack reports whether figures of TCP are those of a leg that has fallen back. A leg of
// MPTCP that has been reset also looks like TCP, but its connection is closed.
func (i *Info) fellBack() bool {
	return !i.MPTCP && len(i.Subflows) == 1 && !i.Subflows[0].left
}
