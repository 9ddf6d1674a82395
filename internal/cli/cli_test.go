//go:build linux

package cli

import (
	"strings"
	"testing"
)

func TestBadUsageIsOneLineOnStandardError(t *testing.T) {
	for _, c := range []struct {
		args  string
		words []string
	}{
		{"bond", []string{`"bond"`, "(see `synbond --help`)"}},
		{"flow", []string{"did you mean flows?"}},
		{"help bond", []string{`"bond"`}},
		{"cpe --plan lan", []string{"there is no flag --plan", "(see `synbond cpe --help`)"}},
		{"cpe --plan --help", []string{"--plan"}},
		{"cpe -x", []string{"-x"}},
		{"cpe --plain", []string{"--plain needs a value: IF"}},
		{"cpe --config", []string{"--config needs a value: FILE"}},
		{"cpe now", []string{`unexpected argument "now"`}},
		{"cpe --path dsl", []string{"--plain"}},
		{"cpe --queue 65536", []string{`--queue "65536": want a whole number from 0 to 65535`}},
		{"cpe --own-source4=maybe", []string{`--own-source4 "maybe": want true or false`}},
		{"flows --json=7", []string{`--json "7": want true or false`}},
		{"cpe --action fly", []string{`--action "fly": want one of relay, pass, strip, learn, reject`}},
		{"cpe --path dsl,mode=maybe", []string{`--path "dsl,mode=maybe": mode "maybe": want one of always`}},
		{"cpe --path dsl,speed=9", []string{`"speed=9" is none of name=N, join=ADDR:PORT`}},
		{"cpe --path ,name=a", []string{`--path ",name=a": want an interface`}},
		{"cpe --plain lan --path dsl,mode=overflow", []string{"--path: path dsl: mode overflow"}},
		{"hag --own-source4", []string{"--own-source4"}},
		{"rules --plain lan --path dsl", []string{"--role is needed"}},
		{"rules --role hub", []string{`--role "hub": want cpe or hag`}},
		{"rules --role cpe --join 203.0.113.1:9", []string{"--join: is for a HAG or gateway"}},
		{"check", []string{"a configuration file is needed"}},
		{"completion", []string{"bash, zsh or fish"}},
		{"explain 192.0.2.7", []string{"two arguments are needed: the client's address, and the server's address with its port"}},
		{"explain home 192.0.2.7:443", []string{`client "home": want an address such as 192.0.2.7 or 2001:db8::7, with or without a port`}},
		{"explain 192.0.2.7 203.0.113.1", []string{`server "203.0.113.1": want an address with its port, such as 203.0.113.1:443 or [2001:db8::1]:443`}},
		{"explain 192.0.2.7 203.0.113.1:0", []string{`server "203.0.113.1:0"`}},
		{"explain 192.0.2.7 [2001:db8::1]:443", []string{"client 192.0.2.7 and server 2001:db8::1: want two addresses of one family"}},
		{"completion csh", []string{`"csh"`, "bash, zsh or fish"}},
		{"passwd", []string{"a user name is needed"}},
		{"passwd alice bob", []string{`unexpected argument "bob"`}},
		{"passwd a:b", []string{`user name "a:b" has the character ':'`}},
		{"version 2", []string{`"2"`}},
		{"lab --scenario none", []string{`"none"`, "--list"}},
	} {
		code, out, errs := run(strings.Fields(c.args)...)
		if code != exitUsage || out != "" || !strings.HasPrefix(errs, "synbond: ") || strings.Count(errs, "\n") != 1 {
			t.Errorf("%s: exit %d, printed %q, %q", c.args, code, out, errs)
		}
		for _, w := range c.words {
			if !strings.Contains(errs, w) {
				t.Errorf("%s: %q is not in %q", c.args, w, errs)
			}
		}
	}
	if code, out, errs := run(); code != exitUsage || !strings.Contains(out, "synbond cpe ") || strings.Count(errs, "\n") != 1 {
		t.Errorf("no arguments: exit %d, printed %q, %q", code, out, errs)
	}
}

func TestHelpGoesToStandardOutput(t *testing.T) {
	for args, want := range map[string]string{
		"--help": "synbond lab ", "-h": "synbond lab ", "help": "synbond lab ", "help cpe": "synbond cpe --plain IF", "cpe --help": "--path IF",
		"cpe --help --bogus": "--path IF", "hag -h": "--join ADDR:PORT", "version --help": "--json",
	} {
		if code, out, errs := run(strings.Fields(args)...); code != 0 || !strings.Contains(out, want) || errs != "" {
			t.Errorf("%s: exit %d, printed %q, %q", args, code, out, errs)
		}
	}
	for _, cmd := range Root().Commands() {
		if _, out, _ := run(cmd.Name(), "--help"); cmd.Short == "" || !strings.Contains(out, cmd.Short) || strings.Contains(out, "strings") {
			t.Errorf("%s has no good help: %s", cmd.Name(), out)
		}
	}
}

func TestCompletionKnowsCommandsFlagsAndValues(t *testing.T) {
	for _, shell := range []string{"bash", "zsh", "fish"} {
		if code, out, errs := run("completion", shell); code != 0 || !strings.Contains(out, "__complete") {
			t.Errorf("%s: exit %d, %s", shell, code, errs)
		}
	}
	for _, c := range []struct {
		args []string
		want string
	}{
		{[]string{"fl"}, "flows\t"}, {[]string{"cpe", "--initial"}, "--initial-window"}, {[]string{"rules", "--role", ""}, "hag\n"},
		{[]string{"cpe", "--action", "l"}, "learn\n"}, {[]string{"lab", "--scenario", ""}, "pair\n"}, {[]string{"cpe", "--plain", ""}, "lo\n"},
		{[]string{"completion", ""}, "zsh\n"},
	} {
		if code, out, _ := run(append([]string{"__complete"}, c.args...)...); code != 0 || !strings.Contains(out, c.want) {
			t.Errorf("%q: exit %d, %q", c.args, code, out)
		}
	}
}

func TestCheckSaysWhatABoxWouldSay(t *testing.T) {
	const cpe = "plain = [\"lan\"]\n[[path]]\ninterface = \"dsl\"\n"
	for _, c := range []struct {
		name, text string
		args       []string
		code       int
		out, says  string // FILE stands for the file
	}{
		{"a CPE's", cpe, nil, 0, "FILE: ok\n", ""},
		{"a CPE's by its role", cpe, []string{"--role", "cpe"}, 0, "FILE: ok\n", ""},
		{"a HAG's", "join = [\"203.0.113.1:9\"]\n" + cpe, nil, 0, "FILE: ok\n", ""},
		{"a HAG's for a CPE", "join = [\"203.0.113.1:9\"]\n" + cpe, []string{"--role=cpe"}, 1, "", "FILE:1: the key join is for a HAG or gateway, this is the file of a CPE"},
		{"a CPE's for a HAG", cpe, []string{"--role", "hag"}, 1, "", "FILE: no join address: name one per address family with --join ADDR:PORT"},
		{"a mistake", cpe + "mode = \"fast\"\n", nil, 1, "", `FILE:4: mode = "fast": want one of always, overflow, standby, backup`},
		{"parts that do not fit", "plain = [\"dsl\"]\n" + cpe[len("plain = [\"lan\"]\n"):], nil, 1, "", "FILE: interface dsl is named twice: it can be on one side only"},
		{"no TOML", "plain", nil, 1, "", "FILE:1: plain: "},
	} {
		file := write(t, "box.toml", []byte(c.text))
		code, out, errs := run(append([]string{"check", file}, c.args...)...)
		named := func(text string) string { return strings.ReplaceAll(text, "FILE", file) }
		if code != c.code || out != named(c.out) || (c.says == "") != (errs == "") || !strings.HasPrefix(errs, named(strings.TrimSuffix("synbond: "+c.says, "synbond: "))) {
			t.Errorf("%s: exit %d, printed %q, %q", c.name, code, out, errs)
		}
	}
	if code, out, errs := run("check", "/none.toml"); code != exitFailure || out != "" || !strings.Contains(errs, "/none.toml") {
		t.Errorf("no file: exit %d, printed %q, %q", code, out, errs)
	}
}
