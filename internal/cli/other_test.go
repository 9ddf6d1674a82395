//go:build !linux

package cli

import (
	"strings"
	"testing"
)

func TestCommandsOfLinuxSaySo(t *testing.T) {
	for _, name := range []string{"lab", "cpe", "hag", "rules", "check", "doctor", "report"} {
		if code, out, errs := run(name, "--flag"); code != exitFailure || out != "" || !strings.HasPrefix(errs, "synbond: synbond "+name+" needs Linux") {
			t.Errorf("%s: exit %d, printed %q, %q", name, code, out, errs)
		}
	}
}
