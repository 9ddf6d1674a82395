package cli

import (
	"encoding/json"
	"fmt"
	"runtime"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
)

// version describes the build of this program.
type version struct {
	Version  string `json:"version"`            // of the module: a tag, a pseudo-version, or (devel)
	Revision string `json:"revision,omitempty"` // of Git
	Time     string `json:"time,omitempty"`     // of the revision, RFC 3339
	Modified bool   `json:"modified"`           // since the revision
	Go       string `json:"go"`                 // such as go1.26.0
	OS       string `json:"os"`
	Arch     string `json:"arch"`
}

// versionCommand prints the build of this program.
func versionCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "version [--json]", Short: "print the version of this program", Args: noArguments}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		info, _ := debug.ReadBuildInfo() // nil without modules: then the version is unknown
		v := versionOf(info)
		if *asJSON {
			return json.NewEncoder(cmd.OutOrStdout()).Encode(v)
		}
		_, err := fmt.Fprintln(cmd.OutOrStdout(), "synbond", v)
		return err
	}
	return cmd
}

// versionOf reads the version from the build information in the program.
func versionOf(info *debug.BuildInfo) version {
	v := version{Version: "unknown", Go: runtime.Version(), OS: runtime.GOOS, Arch: runtime.GOARCH}
	if info == nil {
		return v
	}
	v.Version, v.Go = info.Main.Version, info.GoVersion
	for _, s := range info.Settings {
		switch s.Key {
		case "vcs.revision":
			v.Revision = s.Value
		case "vcs.time":
			v.Time = s.Value
		case "vcs.modified":
			v.Modified = s.Value == "true"
		}
	}
	if v.Version == "" {
		v.Version = "(devel)"
	}
	return v
}

// String implements [fmt.Stringer].
func (v version) String() string {
	text := v.Version
	// A pseudo-version has both already: v0.0.0-20261128175336-34f8443e7d83+dirty.
	if short := v.Revision[:min(len(v.Revision), 12)]; !strings.Contains(text, short) {
		text += ", revision " + short
	}
	if v.Modified && !strings.Contains(text, "+dirty") {
		text += ", modified"
	}
	return fmt.Sprintf("%s, %s, %s/%s", text, v.Go, v.OS, v.Arch)
}
