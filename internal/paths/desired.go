package paths

// DesiredState is the state in which the subflows of a path shall be.
type DesiredState uint8

const (
	Closed DesiredState = iota
	Backup              // open, for the kernel to use when no normal subflow can send
	Normal              // open
)

func (d DesiredState) String() string { return [...]string{"closed", "backup", "normal"}[d] }
