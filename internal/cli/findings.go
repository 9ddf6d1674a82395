package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/synbond/synbond/internal/api"
)

// printFindings prints a line per finding, and one for its remedy.
func printFindings(w io.Writer, all []api.Finding) {
	for _, f := range all {
		on := ""
		if f.Path != "" {
			on = "path " + f.Path + ": "
		}
		fmt.Fprintf(w, "%s (%s) for %s: %s%s: %s\n      → %s\n", f.Severity, f.ID, ago(f.SinceMS), on, f.Obstacle, f.Consequence, f.Remedy)
	}
}

// printCount names the findings, and the command that explains them.
func printCount(w io.Writer, byID map[string]int) {
	if len(byID) > 0 {
		fmt.Fprintf(w, "in the way: %s (see `synbond doctor`)\n", strings.Join(slices.Sorted(maps.Keys(byID)), ", "))
	}
}
