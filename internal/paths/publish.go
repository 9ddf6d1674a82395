package paths

import "time"

// publish makes known how the paths and the HAG are, and reports whether that is
// another than before.
func (m *Monitor) publish(now time.Time) (changed bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, w := range m.paths {
		s, before := w.status(), m.statuses[i]
		m.statuses[i] = s
		if m.published && s.alike(before) {
			continue
		}
		changed = true
		m.report(w.Name, s, before)
	}
	m.published = true
	hag := m.judgeHAG()
	before := m.hag
	if hag.State == before.State {
		hag.Since = before.Since
	} else {
		hag.Since = now
	}
	m.hag = hag
	if hag != before {
		changed = true
		m.reportHAG(hag, before)
	}
	return changed
}

func (m *Monitor) report(path string, s, before Status) {
	switch {
	case s.Up && !before.Up && m.published:
		m.log.Info("path is up", "path", path)
	case !s.Up && (before.Up || !m.published):
		m.log.Warn("path is down", "path", path, "reason", s.Reason)
	case s.Up && s.Reason != before.Reason && s.Reason != "":
		m.log.Warn("path is judged by its link only", "path", path, "reason", s.Reason)
	}
}

func (m *Monitor) reportHAG(s, before HAGStatus) {
	switch {
	case s.State != before.State:
		log := m.log.Info
		if s.State == HAGDown {
			log = m.log.Warn
		}
		log("HAG is "+s.State.String(), "reason", s.Reason)
	case before.Instance != 0 && s.Instance != before.Instance:
		m.log.Info("HAG has restarted")
	}
}

// judgeHAG concludes from the paths how the HAG is. That one path is refused goes
// for all; silence must be on all whose links are well.
func (m *Monitor) judgeHAG() HAGStatus {
	var fit, silent, turned int
	for _, w := range m.paths {
		switch h := w.health; {
		case h.fault != "":
			continue
		case h.silent:
			silent++
		case h.outcome == answered, h.outcome == denied:
			return HAGStatus{State: HAGUp, Instance: m.instance}
		case h.outcome == refused:
			turned++
		}
		fit++
	}
	s := HAGStatus{Instance: m.instance}
	switch {
	case m.cfg.Off:
		s.Reason = "not probed"
	case fit == 0:
		s.Reason = "no path can be used"
	case turned > 0:
		s.State, s.Reason = HAGDown, reasonRefused
	case silent == fit:
		s.State, s.Reason = HAGDown, "silent on all paths"
	default:
		s.Reason = "no answer to probes yet"
	}
	return s
}
