//go:build linux

package cli

import (
	"strings"
	"testing"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// wrongValues has, for each flag that does not take every text, a wrong value and the
// permitted ones as the error names them. A flag of several commands means the same in all.
var wrongValues = map[string]struct{ value, want string }{
	"plain":           {"lan 0", "want an interface: a name without spaces, / and : of at most 15 characters"},
	"join":            {"203.0.113.1", "want an address with its port, such as 203.0.113.1:9000 or [2001:db8::1]:9000"},
	"encapsulation":   {"always", "want one of auto, off"},
	"first-path-down": {"wait", "want one of pass, own-source"},
	"state-dir":       {"", "want the path of a folder"},
	"action":          {"fly", "want one of relay, pass, strip, learn, reject"},
	"control":         {strings.Repeat("x", 108), "want the path of a socket, at most 107 characters"},
	"queue":           {"-1", "want a whole number from 0 to 65535"},
	"metrics":         {"9100", "want an address with its port, such as 127.0.0.1:9100 or [::1]:9100"},
	"initial-window":  {"ten", "want a whole number from 0 to 65535"},
	"log-level":       {"loud", "want debug, info, warn or error"},
	"role":            {"hub", "want cpe"},
	"socks":           {"203.0.113.1", "want an address with its port, such as 203.0.113.1:9000"},
	"upstream":        {"gw.example:1080", "want a SOCKS server such as socks5://alice@gw.example:1080"},
	"upstream-down":   {"wait", "want one of pass, reject"},
	"admit":           {"home", "want a prefix such as 192.0.2.0/24 or 2001:db8::/32, or an address"},
	"scenario":        {"none", "--list"},
	"client":          {"home", "want a prefix such as 192.0.2.0/24 or 2001:db8::/32, or an address"},
	"server":          {"192.0.2.0/33", "want a prefix such as 192.0.2.0/24 or 2001:db8::/32, or an address"},
	"in":              {"a/b", "want an interface: a name without spaces, / and : of at most 15 characters"},
	"port":            {"0", "want a port from 1 to 65535"},
	"reason":          {"bad-luck", "want truncated, bad-ip-header, fragment"},
	"state":           {"open", "want dialing, released, learning, relaying, passed, rejected, closed, abandoned, refused, unreachable, timed-out or failed"},
}

// anyText are the flags that take every text: names of files and of what only the kernel knows.
var anyText = []string{"config", "record", "congestion-control", "out", "expect", "svg", "users", "user", "password-file"}

// pathValues are wrong values of --path by command.
var pathValues = map[string][]struct{ value, want string }{
	"cpe": {
		{"", "want an interface: a name without spaces, / and : of at most 15 characters; then any of name=N, join=ADDR:PORT, mode=M"},
		{"dsl/0", "want an interface"}, {"dsl,mode=fast", `mode "fast": want one of always, overflow, standby, backup`},
		{"dsl,speed=3", `"speed=3" is none of name=N, join=ADDR:PORT, mode=M, busy=RATE, quota=SIZE/PERIOD, rate=RATE, keepalive=TIME, quic=Q, backup`},
		{"dsl,join=203.0.113.1", `join "203.0.113.1": want an address with its port, such as 203.0.113.1:9000`},
		{"dsl,rate=fast", `rate "fast": want a number and bit, kbit, mbit or gbit, such as 20mbit`},
		{"dsl,busy=fast", `busy "fast": want a number and bit, kbit, mbit or gbit`},
		{"dsl,quota=much/day", `quota "much": want a number and B, kB, MB, GB`}, {"dsl,quota=1GB/year", `period "year": want one of day, week, month`},
	},
	"hag": {
		{"", "want an interface: a name without spaces, / and : of at most 15 characters; then any of name=N"},
		{"dsl,mode=always", `"mode=always" is for a CPE, not for a HAG: want any of name=N`},
		{"dsl,backup", `"mode=backup" is for a CPE, not for a HAG`}, {"dsl,join=203.0.113.1:9", "is for a CPE, not for a HAG"},
	},
	"rules":  {{"dsl,mode=fast", `mode "fast": want one of always`}},
	"replay": {},
}

// The error about a flag names the flag, the value and the permitted values, in one line, and
// the exit code is that of bad usage.
func TestWrongValueOfEveryFlagNamesThePermittedOnes(t *testing.T) {
	tried := map[string]bool{}
	for _, cmd := range Root().Commands() {
		cmd.Flags().VisitAll(func(f *pflag.Flag) {
			for _, c := range wrongOf(t, cmd, f) {
				tried[f.Name] = true
				args := append([]string{cmd.Name()}, argumentsOf(cmd)...)
				code, out, errs := run(append(args, "--"+f.Name+"="+c.value)...)
				if code != exitUsage || out != "" || strings.Count(errs, "\n") != 1 ||
					!strings.HasPrefix(errs, "synbond: --"+f.Name+" \""+c.value+"\": ") || !strings.Contains(errs, c.want) {
					t.Errorf("%s --%s=%q: exit %d, %q, want %q", cmd.Name(), f.Name, c.value, code, errs, c.want)
				}
			}
		})
	}
	for name := range wrongValues {
		if !tried[name] {
			t.Errorf("no command has the flag --%s", name)
		}
	}
}

// wrongOf returns wrong values of a flag.
func wrongOf(t *testing.T, cmd *cobra.Command, f *pflag.Flag) []struct{ value, want string } {
	t.Helper()
	known, ok := wrongValues[f.Name]
	switch {
	case f.Value.Type() == "bool":
		return []struct{ value, want string }{{"maybe", "want true or false"}}
	case f.Name == "path":
		values, ok := pathValues[cmd.Name()]
		if !ok {
			t.Errorf("%s --path has no wrong value", cmd.Name())
		}
		return values
	case ok:
		return []struct{ value, want string }{known}
	}
	for _, name := range anyText {
		if f.Name == name {
			return nil
		}
	}
	t.Errorf("%s --%s has no wrong value", cmd.Name(), f.Name)
	return nil
}

// argumentsOf returns arguments that a command needs beside its flags.
func argumentsOf(cmd *cobra.Command) []string {
	switch cmd.Name() {
	case "replay", "check":
		return []string{"/none"}
	}
	return nil
}

func TestFlagOfTheOtherRoleSaysSo(t *testing.T) {
	for args, want := range map[string]string{
		"cpe --join 203.0.113.1:9": "synbond: --join is for a HAG or gateway, not for a CPE (see `synbond cpe --help`)\n",
		"hag --own-source4":        "synbond: --own-source4 is for a CPE, not for a HAG (see `synbond hag --help`)\n",
		"gateway --queue 1":        "synbond: --queue is for a CPE or HAG, not for a gateway (see `synbond gateway --help`)\n",
		"flows --join 1":           "synbond: there is no flag --join (see `synbond flows --help`)\n",
	} {
		if code, _, errs := run(strings.Fields(args)...); code != exitUsage || errs != want {
			t.Errorf("%s: exit %d, %q, want %q", args, code, errs, want)
		}
	}
}
