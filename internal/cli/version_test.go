package cli

import (
	"encoding/json"
	"runtime/debug"
	"strings"
	"testing"
)

func TestVersionOfEachKindOfBuild(t *testing.T) {
	for _, c := range []struct {
		name string
		info *debug.BuildInfo
		want string
	}{
		{"no information", nil, "unknown, "},
		{"a test", &debug.BuildInfo{GoVersion: "go1.26.0"}, "(devel), go1.26.0, "},
		{"a release", &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}}, "v1.2.3, go1.26.0, "},
		{"a modified checkout", &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.3"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"}, {Key: "vcs.time", Value: "2026-11-28T17:00:00Z"},
		}}, "v1.2.3, revision 0123456789ab, modified, go1.26.0, "},
		{"a modified checkout behind a release", &debug.BuildInfo{GoVersion: "go1.26.0", Main: debug.Module{Version: "v1.2.4-0.20261128170000-0123456789ab+dirty"}, Settings: []debug.BuildSetting{
			{Key: "vcs.revision", Value: "0123456789abcdef"}, {Key: "vcs.modified", Value: "true"},
		}}, "v1.2.4-0.20261128170000-0123456789ab+dirty, go1.26.0, "},
	} {
		if got := versionOf(c.info).String(); !strings.HasPrefix(got, c.want) {
			t.Errorf("%s: %q, want %q", c.name, got, c.want)
		}
	}
	code, out, _ := run("version", "--json")
	var v map[string]any
	if err := json.Unmarshal([]byte(out), &v); err != nil || code != 0 || v["version"] == "" || v["go"] == "" || v["modified"] == nil {
		t.Errorf("exit %d, %v: %s", code, err, out)
	}
	if code, out, _ := run("version"); code != 0 || !strings.HasPrefix(out, "synbond ") || strings.Count(out, "\n") != 1 {
		t.Errorf("exit %d: %s", code, out)
	}
}
