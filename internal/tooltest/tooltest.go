package tooltest

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Need ends a test on a machine that lacks one of the programs. Subject is what
// the test checks: "the rules as nft lists them".
func Need(t testing.TB, subject string, programs ...string) {
	t.Helper()
	var missing []string
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			missing = append(missing, p)
		}
	}
	if len(missing) > 0 {
		Missing(t, subject, strings.Join(missing, ", ")+" not installed")
	}
}

// Missing ends a test that cannot run here, for that reason: as a failure with
// CI=true in the environment, as a skip otherwise.
func Missing(t testing.TB, subject, reason string) {
	t.Helper()
	end := t.Skipf
	if os.Getenv("CI") == "true" {
		end = t.Fatalf
	}
	end("could not check %s: %s", subject, reason)
}
