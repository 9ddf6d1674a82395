package paths

import "time"

// HAGState is the state of the HAG as a CPE sees it.
type HAGState uint8

const (
	HAGUnknown HAGState = iota // it has not answered, or no path can be used
	HAGUp                      // it answers over at least one path
	HAGDown                    // it answers over no path, although the links of some work
)

func (s HAGState) String() string {
	switch s {
	case HAGUp:
		return "up"
	case HAGDown:
		return "down"
	}
	return "unknown"
}

// MarshalText makes the state a word in JSON.
func (s HAGState) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// HAGStatus is the status of the HAG as a CPE sees it.
type HAGStatus struct {
	State    HAGState
	Reason   string // of a state other than up
	Since    time.Time
	Instance uint64 // another one after each restart of the HAG; 0 if it never answered
}

// JudgeHAG decides the state of the HAG from the health of all paths. A refusal on
// one path counts for all; silence must be on all paths whose links work.
func JudgeHAG(all []*Health) (HAGState, string) {
	var usable, silent, refusing int
	off, tcp := false, false
	for _, h := range all {
		off = off || h.cfg.Off
		switch {
		case h.fault != "":
			continue
		case h.silent:
			silent++
		case h.outcome == answered, h.outcome == denied:
			return HAGUp, ""
		case h.outcome == refused:
			refusing++
		case h.outcome == byTCP:
			tcp = true
		}
		usable++
	}
	switch {
	case off:
		return HAGUnknown, "not probed"
	case usable == 0:
		return HAGUnknown, "no path can be used"
	case refusing > 0:
		return HAGDown, reasonRefused
	case silent == usable:
		return HAGDown, "silent on all paths"
	}
	if tcp {
		return HAGUnknown, reasonByTCP
	}
	return HAGUnknown, "no answer to probes yet"
}
