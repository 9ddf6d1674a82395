//go:build !linux

package cli

import (
	"fmt"
	"runtime"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/core"
)

// getTermios is the ioctl that only a terminal answers.
const getTermios = unix.TIOCGETA

// Commands that need the kernel of Linux, or its namespaces.

func labCommand() *cobra.Command               { return onlyOnLinux("lab") }
func boxCommand(role core.Role) *cobra.Command { return onlyOnLinux(string(role)) }
func rulesCommand() *cobra.Command             { return onlyOnLinux("rules") }
func checkCommand() *cobra.Command             { return onlyOnLinux("check") }
func reportCommand() *cobra.Command            { return onlyOnLinux("report") }
func doctorCommand() *cobra.Command            { return onlyOnLinux("doctor") }

// onlyOnLinux returns a command that says that it cannot run here, whatever its flags.
func onlyOnLinux(name string) *cobra.Command {
	return &cobra.Command{
		Use:                name,
		Short:              "(on Linux only)",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			for _, a := range args {
				if a == "--help" || a == "-h" {
					return cmd.Help()
				}
			}
			return fmt.Errorf("%s needs Linux, and this program has been built for %s", cmd.CommandPath(), runtime.GOOS)
		},
	}
}
