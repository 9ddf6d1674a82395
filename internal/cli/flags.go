package cli

import (
	"cmp"
	"errors"
	"net"
	"slices"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
)

// flagError is the error about a mistake in a flag: it names the flag, the value
// and the permitted values.
func flagError(cmd *cobra.Command, err error) error {
	var absent *pflag.NotExistError
	var empty *pflag.ValueRequiredError
	var invalid *pflag.InvalidValueError
	switch {
	case helpAsked(cmd):
		return pflag.ErrHelp
	case errors.As(err, &absent) && roleOf(cmd) != "" && config.OwnersOfFlag(absent.GetSpecifiedName()) != "":
		owners := config.OwnersOfFlag(absent.GetSpecifiedName())
		return usagef("--%s is for a %s, not for a %s", absent.GetSpecifiedName(), owners, roleOf(cmd).Title())
	case errors.As(err, &absent) && absent.GetSpecifiedShortnames() == "":
		return usagef("there is no flag --%s", absent.GetSpecifiedName())
	case errors.As(err, &empty) && empty.GetSpecifiedShortnames() == "":
		placeholder, _ := pflag.UnquoteUsage(empty.GetFlag())
		return usagef("--%s needs a value: %s", empty.GetSpecifiedName(), cmp.Or(placeholder, "text"))
	case errors.As(err, &invalid):
		cause := invalid.Unwrap()
		if invalid.GetFlag().Value.Type() == "bool" {
			cause = errors.New("want true or false")
		}
		return usagef("--%s %q: %w", invalid.GetFlag().Name, config.WithoutPassword(invalid.GetValue()), cause)
	}
	return usageError{err}
}

// roleOf returns the role of a box that the command runs, "" without one.
func roleOf(cmd *cobra.Command) core.Role {
	if role := core.Role(cmd.Name()); slices.Contains(core.Roles, role) {
		return role
	}
	return ""
}

// helpAsked reports whether --help stood before the mistake.
func helpAsked(cmd *cobra.Command) bool {
	f := cmd.Flags().Lookup("help")
	return f != nil && f.Changed
}

// oneOf declares a flag with a few permitted values, "" for its absence.
func oneOf(cmd *cobra.Command, v *string, name, value, help string, permitted ...string) {
	cmd.Flags().Var(&choice{v, value, permitted}, name, help)
	complete(cmd, name, permitted)
}

// choice is the value of such a flag.
type choice struct {
	v         *string
	name      string // of the value, in help
	permitted []string
}

// Set implements [pflag.Value].
func (c *choice) Set(text string) error {
	for _, p := range c.permitted {
		if p == text {
			*c.v = text
			return nil
		}
	}
	return usagef("want %s", list(c.permitted))
}

// String implements [pflag.Value].
func (c *choice) String() string { return *c.v }

// Type implements [pflag.Value].
func (c *choice) Type() string { return c.name }

// parsedFlag is the value of a flag that a function reads.
type parsedFlag[T any] struct {
	v     *T
	name  string // of the value, in help
	text  string // as given
	parse func(string) (T, error)
}

// parsed returns a flag's value that parse reads into v.
func parsed[T any](v *T, name string, parse func(string) (T, error)) *parsedFlag[T] {
	return &parsedFlag[T]{v: v, name: name, parse: parse}
}

// Set implements [pflag.Value].
func (p *parsedFlag[T]) Set(text string) (err error) {
	p.text = text
	*p.v, err = p.parse(text)
	return err
}

// String implements [pflag.Value].
func (p *parsedFlag[T]) String() string { return p.text }

// Type implements [pflag.Value].
func (p *parsedFlag[T]) Type() string { return p.name }

// list writes "a, b or c".
func list(words []string) (text string) {
	for i, w := range words {
		switch {
		case i == 0:
		case i == len(words)-1:
			text += " or "
		default:
			text += ", "
		}
		text += w
	}
	return text
}

// bindRole declares the flag --role.
func bindRole(cmd *cobra.Command, role *string, help string, roles ...core.Role) {
	var names []string
	for _, r := range roles {
		names = append(names, string(r))
	}
	oneOf(cmd, role, "role", "ROLE", help, names...)
}

// bindFile declares the flag that names a configuration file.
func bindFile(f *pflag.FlagSet, file *string) {
	f.StringVar(file, "config", "", "configuration `FILE` (TOML); flags override it")
}

// complete has the shell complete the values of a flag.
func complete(cmd *cobra.Command, flag string, values []string) {
	// The flag exists, and nothing completes it yet.
	_ = cmd.RegisterFlagCompletionFunc(flag, cobra.FixedCompletions(values, cobra.ShellCompDirectiveNoFileComp))
}

// completeKeys has the shell complete the flags of the configuration.
func completeKeys(cmd *cobra.Command, flags *config.Flags) {
	for _, k := range flags.Keys() {
		switch {
		case k.OneOf != nil:
			complete(cmd, k.Flag, k.OneOf)
		case k.Flag == "plain" || k.Flag == "path":
			_ = cmd.RegisterFlagCompletionFunc(k.Flag, completeInterfaces)
		}
	}
}

// completeInterfaces lists the interfaces of this machine.
func completeInterfaces(*cobra.Command, []string, string) (names []cobra.Completion, _ cobra.ShellCompDirective) {
	all, _ := net.Interfaces() // without any there is nothing to complete
	for _, i := range all {
		names = append(names, i.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
