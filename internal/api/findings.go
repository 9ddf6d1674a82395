package api

// Findings are the obstacles that a running box knows of, the worst first.
type Findings struct {
	Role     string    `json:"role"` // cpe or hag
	Findings []Finding `json:"findings"`
}

// Finding is an obstacle on a box's machine or in its network. docs/findings.md has all IDs.
type Finding struct {
	ID          string `json:"id"`
	Severity    string `json:"severity"`       // note, warn or fail
	Path        string `json:"path,omitempty"` // the only path that it concerns
	Obstacle    string `json:"obstacle"`
	Consequence string `json:"consequence"`
	Remedy      string `json:"remedy"`
	SinceMS     int64  `json:"since_ms"` // how long ago the box found it
}
