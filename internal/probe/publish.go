//go:build linux

package probe

import (
	"time"

	"github.com/synbond/synbond/internal/paths"
)

// publish makes the present statuses available, and reports whether they differ from
// the last ones in more than figures.
func (m *Monitor) publish(now time.Time) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, p := range m.paths {
		s, before := p.status(), m.statuses[i]
		m.statuses[i] = s
		if m.published && s.Alike(before) {
			continue
		}
		changed = true
		m.logPath(p.Name, s, before)
	}
	m.published = true
	before := m.hag
	hag := paths.HAGStatus{Since: before.Since, Instance: m.instance}
	if hag.State, hag.Reason = paths.JudgeHAG(m.healths()); hag.State != before.State {
		hag.Since = now
	}
	m.hag = hag
	if hag != before {
		changed = true
		m.logHAG(hag, before)
	}
	return changed
}

func (m *Monitor) healths() []*paths.Health {
	all := make([]*paths.Health, len(m.paths))
	for i, p := range m.paths {
		all[i] = p.health
	}
	return all
}

func (m *Monitor) logPath(name string, s, before paths.Status) {
	switch {
	case s.Up && !before.Up && m.published:
		m.log.Info("path is up", "path", name)
	case !s.Up && (before.Up || !m.published):
		m.log.Warn("path is down", "path", name, "reason", s.Reason)
	case s.Up && s.ByTCP:
		if !before.ByTCP {
			m.log.Warn("path is watched by TCP", "path", name, "reason", s.Reason)
		}
	case s.Up && s.Reason != before.Reason && s.Reason != "":
		m.log.Warn("path is judged by its link only", "path", name, "reason", s.Reason)
	}
	if now := s.FamilyReason(); s.Up && now != "" && (now != before.FamilyReason() || !before.Up) {
		log := m.log.Info // as it is where a line has one family only
		if s.Obstructed() {
			log = m.log.Warn
		}
		log("path cannot carry subflows of each address family", "path", name, "reason", now)
	}
}

func (m *Monitor) logHAG(s, before paths.HAGStatus) {
	switch {
	case s.State != before.State:
		log := m.log.Info
		if s.State == paths.HAGDown {
			log = m.log.Warn
		}
		log("HAG is "+s.State.String(), "reason", s.Reason)
	case before.Instance != 0 && s.Instance != before.Instance:
		m.log.Info("HAG has restarted")
	}
}
