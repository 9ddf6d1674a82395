//go:build linux

package cli

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
)

// checkCommand checks a configuration file. It needs no privilege.
func checkCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:     "check FILE… [--role cpe|hag|gateway]",
		Short:   "check configuration files as a box would, without starting one",
		Example: "  synbond check /etc/synbond/cpe.toml",
		Args:    someArguments("a configuration file"),
	}
	var role string
	bindRole(cmd, &role, "role of the box (default: gateway if the file has the table gateway, hag if it has the key join, else cpe)", core.Roles...)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		for _, file := range args {
			if err := checkFile(file, box.Role(role)); err != nil {
				return err
			}
			if _, err := fmt.Fprintf(cmd.OutOrStdout(), "%s: ok\n", file); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

// checkFile returns the first mistake in a file for a box of that role.
func checkFile(file string, role box.Role) (err error) {
	if role == "" {
		if role, err = config.GuessRole(file); err != nil {
			return err
		}
	}
	from := source{file: file}
	_, _, err = from.load(role)
	var mistake usageError
	if errors.As(err, &mistake) { // of the file here, not of the command line
		return fmt.Errorf("%s: %w", file, mistake.error)
	}
	return err
}
