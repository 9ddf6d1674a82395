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

// printKept prints a line per thing that others have changed.
func printKept(w io.Writer, all []api.Kept) {
	for _, k := range all {
		by := ""
		if k.By != "" {
			by = " by " + k.By
		}
		fmt.Fprintf(w, "%s: changed %d times, last %s ago%s (%s); ", k.Thing, k.Changes, ago(k.AgoMS), by, k.Last)
		if k.AgainInMS > 0 {
			fmt.Fprintf(w, "left as it is for %s\n", ago(k.AgainInMS))
		} else {
			fmt.Fprintln(w, "put back")
		}
	}
}
