//go:build linux

package netlab_test

import (
	"bufio"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"
	"testing"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/netlab/netlabtest"
)

// roleVar makes the test binary run as a program that uses Reexec: see runRole.
const roleVar = "SYNBOND_LAB_TEST_ROLE"

func TestMain(m *testing.M) {
	if os.Getenv(roleVar) != "" {
		os.Exit(runRole())
	}
	netlabtest.Main(m)
}

// runRole re-executes, makes a host, and exits with 7, or with 9 after SIGTERM.
func runRole() int {
	if err := netlab.Reexec(); err != nil {
		fmt.Println(err)
		return 3
	}
	h, err := netlab.NewHost("a")
	if err != nil {
		fmt.Println(err)
		return 4
	}
	defer h.Close()
	if os.Getenv(roleVar) == "exit" {
		return 7
	}
	c := make(chan os.Signal, 1)
	signal.Notify(c, syscall.SIGTERM)
	fmt.Println("ready")
	select {
	case <-c:
		return 9
	case <-time.After(20 * time.Second):
		return 5
	}
}

func TestReexecPassesExitCodesAndSignals(t *testing.T) {
	netlabtest.Require(t)
	for role, want := range map[string]int{"exit": 7, "signal": 9} {
		cmd := exec.Command("/proc/self/exe")
		cmd.Env = append(os.Environ(), roleVar+"="+role)
		cmd.Stderr = os.Stderr
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		if os.Getenv("SYNBOND_LAB_REEXEC") == "" {
			// As an ordinary user. In a user namespace there is none but root.
			cmd.SysProcAttr.Credential = &syscall.Credential{Uid: 65534, Gid: 65534}
			cmd.Dir = "/"
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for lines.Scan() {
			if lines.Text() != "ready" {
				t.Error(lines.Text())
				continue
			}
			if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
				t.Error(err)
			}
		}
		err = cmd.Wait()
		var exit *exec.ExitError
		if !errors.As(err, &exit) || exit.ExitCode() != want {
			t.Errorf("%s: ended with %v, want exit status %d", role, err, want)
		}
	}
}
