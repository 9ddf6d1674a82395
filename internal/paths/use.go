package paths

// Use is what a path is wanted for.
type Use uint8

const (
	Closed Use = iota
	Backup
	Normal
)

func (u Use) String() string { return [...]string{"closed", "backup", "normal"}[u] }
