//go:build linux

package config

import (
	"errors"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/core"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/pcaps"
	"github.com/synbond/synbond/state"
)

// given parses flags of a box.
func given(t *testing.T, role core.Role, args ...string) *Flags {
	t.Helper()
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	f := NewFlags(set, role)
	if err := set.Parse(args); err != nil {
		t.Fatalf("%q: %v", args, err)
	}
	return f
}

func load(t *testing.T, role core.Role, file string, flags *Flags) *Settings {
	t.Helper()
	s, err := Load(role, file, flags)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestEveryKeyIsReadFromTheFile(t *testing.T) {
	for _, k := range Keys() {
		for i := range 2 {
			text := sample(t, &k, i)
			s := load(t, roleOf(&k), write(t, tomlOf(&k, text)), nil)
			if got, want := valueOf(t, s, &k), wanted(t, &k, text); !reflect.DeepEqual(got, want) {
				t.Errorf("%s: %v, want %v", k.Name, got, want)
			}
		}
	}
}

func TestEveryFlagOverridesTheFileAndTheFileTheDefault(t *testing.T) {
	flags := 0
	for _, k := range Keys() {
		if k.Flag == "" {
			continue
		}
		flags++
		for i := range 2 {
			inFlag, inFile := sample(t, &k, i), sample(t, &k, 1-i)
			file, args := write(t, tomlOf(&k, inFile)), "--"+k.Flag+"="+inFlag
			for _, c := range []struct {
				name, file string
				flags      *Flags
				want       any
			}{
				{"flag and file", file, given(t, roleOf(&k), args), wanted(t, &k, inFlag)},
				{"flag", "", given(t, roleOf(&k), args), wanted(t, &k, inFlag)},
				{"file, no flag", file, given(t, roleOf(&k)), wanted(t, &k, inFile)},
				{"neither", "", given(t, roleOf(&k)), valueOf(t, Defaults(roleOf(&k)), &k)},
			} {
				if got := valueOf(t, load(t, roleOf(&k), c.file, c.flags), &k); !reflect.DeepEqual(got, c.want) {
					t.Errorf("--%s, %s: %v, want %v", k.Flag, c.name, got, c.want)
				}
			}
		}
	}
	if flags < 14 {
		t.Errorf("the schema has %d flags only", flags)
	}
}

func TestLoadingAgainGivesTheSameSettings(t *testing.T) {
	file := write(t, "[limits]\nflows = 7\n")
	f := given(t, core.CPE, "--plain", "lan", "--path", "dsl,join=203.0.113.1:9", "--path", "lte", "--plain", "wifi,dmz")
	first, again := load(t, core.CPE, file, f), load(t, core.CPE, file, f)
	if !reflect.DeepEqual(first, again) || len(first.Plain) != 3 || len(first.Paths) != 2 {
		t.Errorf("%+v\n%+v", first, again)
	}
}

// Every default and bound in a tag can be read, and every sample is permitted.
func TestTagsOfTheSchemaAreRight(t *testing.T) {
	for _, k := range Keys() {
		if k.Default != "" {
			v := reflect.New(k.kind).Elem()
			if err := k.set(v, k.Default); err != nil {
				t.Errorf("%s: default %q: %v", k.Name, k.Default, err)
			}
		}
		for _, bound := range []string{k.min, k.max} {
			_, err := strconv.Atoi(bound)
			_, err2 := time.ParseDuration(bound)
			if bound != "" && err != nil && err2 != nil {
				t.Errorf("%s: bound %q", k.Name, bound)
			}
		}
		if k.Flag != "" && (k.Help == "" || k.Value == "" && k.kind.Kind() != reflect.Bool) {
			t.Errorf("%s: --%s has no help, or no name of its value", k.Name, k.Flag)
		}
		name := strings.TrimPrefix(strings.TrimPrefix(k.Name, "gateway."), "upstream.")
		other := map[string]string{"upstream.servers": "upstream", "upstream.down": "upstream-down"}[k.Name]
		if k.Flag != "" && k.Flag != strings.ReplaceAll(name, "_", "-") && k.Flag != other {
			t.Errorf("%s: its flag is --%s", k.Name, k.Flag)
		}
	}
}

// The lists and bounds that tags repeat are those of the packages that use them.
func TestSchemaPermitsWhatTheBoxKnows(t *testing.T) {
	for _, name := range []string{"action", "rule.action"} {
		if k, _ := keyOf(name); !slices.Equal(k.OneOf, state.Actions[:]) {
			t.Errorf("%s is one of %v", name, k.OneOf)
		}
	}
	first, _ := keyOf("first_path_down")
	for _, name := range first.OneOf {
		if _, known := box.FirstPathDownModes[name]; !known || len(first.OneOf) != len(box.FirstPathDownModes) {
			t.Errorf("first_path_down is one of %v, the box knows %v", first.OneOf, box.FirstPathDownModes)
		}
	}
	modes, _ := keyOf("path.mode")
	for _, name := range modes.OneOf {
		if _, err := paths.ParseMode(name); err != nil {
			t.Error(err)
		}
	}
	periods, _ := keyOf("path.quota_period")
	for _, name := range periods.OneOf {
		if err := (paths.Quota{Bytes: 1, Period: paths.Period(name)}).Validate(); err != nil {
			t.Error(err)
		}
	}
	if k, _ := keyOf("record_file_size"); k.min != strconv.Itoa(pcaps.LeastFileSize) {
		t.Errorf("record_file_size is at least %s, not %d", k.min, pcaps.LeastFileSize)
	}
	if got, want := Defaults(core.CPE).Table(), (state.Config{}).WithDefaults(); got.MaxFlows != want.MaxFlows ||
		got.MaxHalfOpen != want.MaxHalfOpen || got.MaxEnded != want.MaxEnded || got.Dial != want.Dial || got.HalfOpen != want.HalfOpen {
		t.Errorf("defaults %+v, those of package state are %+v", got, want)
	}
}

func TestMistakesNameTheLineAndWhatIsPermitted(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{`speed = 3`, `:4: unknown key path.speed`},
		{"[paths]", `:4: unknown key paths`},
		{"[limits]\nflow = 3", `:5: unknown key limits.flow`},
		{"limits = 3", `:4: unknown key path.limits`},
		{"[limits]\nflows = -1", `:5: flows = -1: want a whole number of at least 0`},
		{"[limits]\nflows = 1.5", `:5: flows = 1.5: want a whole number of at least 0`},
		{"[limits]\nflows = \"many\"", `:5: flows = "many": want a whole number of at least 0`},
		{"[timeouts]\ndial = \"fast\"", `:5: dial = "fast": want a time with its unit, such as 500ms, 20s or 2h`},
		{"[timeouts]\ndial = \"0s\"", `:5: dial = "0s": want a time above 0`},
		{"[timeouts]\ndial = 20", `:5: dial = 20: want a text in quotes, such as "20s"`},
		{"[probe]\nidle = \"11s\"", `:5: idle = "11s": want a time from 100ms to 10s`},
		{"[probe]\noff = 1", `:5: off = 1: want true or false`},
		{"[learn]\nprefix4 = 33", `:5: prefix4 = 33: want a whole number from 0 to 32`},
		{"[[limits]]", `:4: [[limits]]: want a table, under [limits]`},
		{"[rule]", `:4: [rule]: want tables, each under [[rule]]`},
		{"name = 3", `:4: name = 3: want a text in quotes`},
		{"name", `:4: name: `},
		{"join = \"203.0.113.1:9\"", `:4: join = "203.0.113.1:9": want a list of texts in quotes, in brackets`},
		{"join = [\"203.0.113.1\"]", `:4: join = ["203.0.113.1"]: want an address with its port`},
		{"quota = \"many\"", `:4: quota = "many": want a number and B, kB`},
		{"quota = 10", `:4: quota = 10: want a text in quotes, such as "10GB"`},
		{"quota = \"10GB\"\nquota_period = \"year\"", `:5: quota_period = "year": want one of day, week, month`},
		{"quota_period = \"day\"", `:2: path a: a quota of no bytes`},
		{"quota = \"10GB\"\nquota_period = \"week\"\nquota_start = 8", `:2: path a: quota per week that starts on day 8`},
		{"mode = \"sometimes\"", `:4: mode = "sometimes": want one of always, overflow, standby, backup`},
		{"mode = \"overflow\"", `:2: path a: mode overflow and the rate`},
		{"rate = \"fast\"", `:4: rate = "fast": want a number and bit, kbit`},
		{"[[path]]\nname = \"b\"", `:4: path 2 has no interface`},
		{"[[rule]]\nname = \"x\"", `:4: rule 1 has no action`},
		{"[[rule]]\naction = \"fly\"", `:5: action = "fly": want one of relay, pass, strip, learn, reject`},
		{"[[rule]]\naction = \"relay\"\nafter = \"a mile\"", `:6: after = "a mile": want a number`},
		{"[[rule]]\naction = \"relay\"\n[[rule]]\naction = \"relay\"\npaths = [\"b\"]", `:8: rule 2: paths: there is no path "b"`},
		{"[[rule]]\naction = \"relay\"\nports = [\"9-1\"]", `:6: ports = ["9-1"]: want a port such as`},
		{"[[rule]]\naction = \"relay\"\nports = [443]", `:6: ports = [443]: want a list of texts`},
		{"[[rule]]\naction = \"relay\"\nfrom = [\"home\"]", `:6: from = ["home"]: want a prefix such as`},
		{"[[rule]]\naction = \"relay\"\nside = \"left\"", `:6: side = "left": want one of plain, multipath`},
		{"interface = \"b\"", `:4: path.interface is there twice, first on line 3`},
		{"[learn]\nmax = 1\n[learn]", `:6: learn is there twice, first on line 4`},
	} {
		file := write(t, "plain = [\"lan\"]\n[[path]]\ninterface = \"a\"\n"+c.text+"\n")
		s, err := Load(core.CPE, file, nil)
		if err == nil {
			_, err = s.Box(core.CPE)
		}
		if err == nil || !strings.HasPrefix(err.Error(), file+c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, file+c.want)
		}
	}
}

func TestMistakesInEveryFormOfTOMLHaveTheirLine(t *testing.T) {
	for _, c := range []struct{ text, want string }{
		{"limits.flows = -1", `:1: limits.flows = -1: want a whole number`},
		{"limits = { flows = -1 }", `:1: limits = { flows = -1 }: want a whole number`},
		{"limits = { flow = 1 }", `:1: unknown key limits.flow`},
		{"path = [{interface = \"a\"},\n {interface = \"b\", mode = \"maybe\"}]", `:2: {interface = "b", mode = "maybe"}]: want one of`},
		{"path = [3]", `:1: path = [3]: want tables, each under [[path]]`},
		{"path = {interface = \"a\"}", `:1: path = {interface = "a"}: want tables`},
		{"\"queue\" = 70000", `:1: "queue" = 70000: want a whole number from 0 to 65535`},
		{"queue = 1\nqueue = 2", `:2: queue is there twice, first on line 1`},
		{"plain = [\n\"a\"", `:2: `},
		{"queue = 99999999999999999999", `:1: queue = 99999999999999999999: `},
	} {
		file := write(t, c.text)
		if _, err := Load("", file, nil); err == nil || !strings.HasPrefix(err.Error(), file+c.want) {
			t.Errorf("%s\n got %v\nwant %s", c.text, err, file+c.want)
		}
	}
}

func TestKeysAndFlagsOfTheOtherRoleAreMistakes(t *testing.T) {
	for _, k := range Keys() {
		file := write(t, tomlOf(&k, sample(t, &k, 0)))
		for _, role := range []core.Role{core.CPE, core.HAG, core.Gateway, ""} {
			_, err := Load(role, file, nil)
			if permitted := k.Roles == nil || role == "" || slices.Contains(k.Roles, role); permitted != (err == nil) {
				t.Errorf("%s in the file of role %q: error %v", k.Name, role, err)
			}
			table, _, _ := cutLast(k.Name)
			if err != nil && !strings.Contains(err.Error(), ": the key "+k.Name+" is for a ") && !strings.Contains(err.Error(), ": the key "+table+" is for a ") {
				t.Errorf("%s in the file of role %q: error %v", k.Name, role, err)
			}
		}
	}
	_, err := Load(core.CPE, "", given(t, "", "--join", "203.0.113.1:9"))
	var flag *FlagError
	if !errors.As(err, &flag) || flag.Flag != "join" {
		t.Errorf("--join of a CPE: error %v", err)
	}
	set := pflag.NewFlagSet("", pflag.ContinueOnError)
	NewFlags(set, core.HAG)
	if set.Lookup("own-source4") != nil || set.Lookup("join") == nil {
		t.Error("a HAG has the flags of a CPE")
	}
}

func TestGuessRole(t *testing.T) {
	for text, want := range map[string]core.Role{
		"join = [\"203.0.113.1:9\"]": core.HAG, "[[path]]\ninterface = \"a\"\njoin = [\"203.0.113.1:9\"]": core.CPE, "": core.CPE,
		"[gateway]\nopen = true": core.Gateway, "gateway.open = true": core.Gateway, "join = [\"203.0.113.1:9\"]\ngateway = { open = true }": core.Gateway,
	} {
		if got, err := GuessRole(write(t, text)); got != want || err != nil {
			t.Errorf("%q is the file of a %q, error %v", text, got, err)
		}
	}
	if _, err := GuessRole("/none.toml"); err == nil {
		t.Error("a file that is not there has a role")
	}
}

func FuzzLoad(f *testing.F) {
	for _, text := range []string{
		"plain = [\"lan\"]\n[[path]]\ninterface = \"a\"\njoin = [\"203.0.113.1:9\"]\n[limits]\nflows = 1\n[[rule]]\naction = \"pass\"\nports = [\"1-2\"]\n",
		"path = [{interface = \"a\", quota = \"1GB\"}]\nlimits = { flows = -1 }\nprobe.secret = '''x\n'''\n",
		"[[rule.x]]\n[rule.x.y]\na.b.\"c d\" = [[{}]]\n", "\"\\u0061\" = 1", "[\"\"]\n'' = ''", "path = [[", "a = 1979-05-27T07:32:00Z",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		file := write(t, text)
		s, err := Load("", file, nil)
		if err == nil {
			_, err = s.Box(core.CPE)
		}
		if err != nil && !strings.Contains(err.Error(), file) {
			t.Errorf("%q: error %v does not name the file", text, err)
		}
	})
}

func TestUsersThatAreWrong(t *testing.T) {
	for text, says := range map[string]string{
		"[[user]]\nname = \"alice\"\n":                                                           `:1: user "alice": neither rate nor quota`,
		"[[user]]\nname = \"alice\"\nquota_period = \"day\"\nrate = \"1mbit\"\n":                 `:1: user "alice": a quota of no bytes`,
		"[[user]]\nname = \"alice\"\nrate = \"fast\"\n":                                          ":3: ",
		"[[user]]\nrate = \"1mbit\"\n":                                                           ":1: user 1 has no name",
		"\n[[user]]\nname = \"a\"\nrate = \"1mbit\"\n[[user]]\nname = \"a\"\nrate = \"2mbit\"\n": `:5: user "a": there are two`,
	} {
		s, err := Load(core.Gateway, write(t, text), nil)
		if err == nil {
			_, err = s.Box(core.Gateway)
		}
		if err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s%v, want %s", text, err, says)
		}
	}
}
