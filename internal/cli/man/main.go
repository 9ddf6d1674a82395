// Command man writes the manual pages of synbond: man FOLDER.
package main

import (
	"fmt"
	"os"

	"github.com/spf13/cobra/doc"

	"github.com/synbond/synbond/internal/cli"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "man:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) != 1 {
		return fmt.Errorf("one argument is needed, the folder to write to")
	}
	if err := os.MkdirAll(args[0], 0o755); err != nil {
		return err
	}
	root := cli.Root()
	root.DisableAutoGenTag = true // no date: the same source gives the same pages
	// SOURCE_DATE_EPOCH sets the date in the heading.
	return doc.GenManTree(root, &doc.GenManHeader{Section: "8", Source: "synbond", Manual: "System administration"}, args[0])
}
