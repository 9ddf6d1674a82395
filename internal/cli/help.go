package cli

import (
	"fmt"

	"github.com/spf13/cobra"
)

// printHelp prints the help of a command.
func printHelp(cmd *cobra.Command, _ []string) {
	w := cmd.OutOrStdout()
	if cmd.HasParent() {
		fmt.Fprintf(w, "%s\n\n%s\n\n%s", cmd.UseLine(), cmd.Short, cmd.LocalFlags().FlagUsages())
		return
	}
	fmt.Fprintf(w, "%s\n\n", cmd.Short)
	for _, c := range cmd.Commands() {
		if c.IsAvailableCommand() {
			fmt.Fprintf(w, "  synbond %-10s %s\n", c.Name(), c.Short)
		}
	}
	fmt.Fprint(w, "\n`synbond COMMAND --help` shows the flags of a command.\n")
}

// helpCommand prints the help of another command.
func helpCommand() *cobra.Command {
	return &cobra.Command{
		Use: "help [COMMAND]", Short: "show the help of a command", Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			found, rest, err := cmd.Root().Find(args)
			if err != nil || len(rest) > 0 {
				return unknownCommand(cmd.Root(), rest[0])
			}
			return found.Help()
		},
	}
}

// completionCommand prints a script that completes commands in a shell.
func completionCommand() *cobra.Command {
	shells := []string{"bash", "zsh", "fish"}
	return &cobra.Command{
		Use:       "completion " + "bash|zsh|fish",
		Short:     "print a script with which a shell completes synbond's commands and flags",
		Example:   "  synbond completion bash > /etc/bash_completion.d/synbond",
		ValidArgs: shells,
		Args:      oneArgument("a shell, " + list(shells) + ","),
		RunE: func(cmd *cobra.Command, args []string) error {
			root, w := cmd.Root(), cmd.OutOrStdout()
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(w, true)
			case "zsh":
				return root.GenZshCompletion(w)
			case "fish":
				return root.GenFishCompletion(w, true)
			}
			return usagef("shell %q: want %s", args[0], list(shells))
		},
	}
}
