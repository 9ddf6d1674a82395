//go:build linux

package netlab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/synbond/synbond/internal/api"
)

// Program is a way to start synbond: a program, the arguments before the subcommand,
// and additions to its environment. The program is the running one, or a test binary
// that acts as synbond.
type Program struct {
	Path string
	Args []string
	Env  []string
}

// Self returns the running program.
func Self() Program { return Program{Path: "/proc/self/exe"} }

// Box is a running CPE or HAG.
type Box struct {
	Role    string
	Control string // path of its control socket
	cmd     *exec.Cmd
	ended   chan struct{}
	err     error
	log     []string // lines of standard error
}

// startTimeout is the longest time that a box may take to be ready.
const startTimeout = 15 * time.Second

// StartBox starts synbond as a box on a host and waits until it is ready. The
// control socket and what a box stores lie in dir. The caller owes it a Stop or a Kill.
func (p Program) StartBox(h *Host, dir, role string, flags ...string) (*Box, error) {
	b := &Box{Role: role, Control: filepath.Join(dir, role+".sock"), ended: make(chan struct{})}
	args := append(append([]string{}, p.Args...), role, "--control", b.Control)
	if role == "cpe" || role == "gateway" {
		args = append(args, "--state-dir", dir)
	}
	b.cmd = h.Command(p.Path, append(args, flags...)...)
	b.cmd.Env = append(os.Environ(), p.Env...)
	stderr, err := b.cmd.StderrPipe()
	if err != nil {
		return nil, err
	}
	if err := h.Start(b.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", role, err)
	}
	ready := make(chan struct{})
	go b.readLog(stderr, ready)
	select {
	case <-ready:
		return b, nil
	case <-b.ended:
		return nil, fmt.Errorf("%s did not start: %s", role, strings.Join(b.log, "; "))
	case <-time.After(startTimeout):
		return nil, errors.Join(fmt.Errorf("%s was not ready after %s", role, startTimeout), b.Kill())
	}
}

// readLog reads the box's standard error until the box ends.
func (b *Box) readLog(stderr io.Reader, ready chan<- struct{}) {
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		b.log = append(b.log, lines.Text())
		if ready != nil && strings.Contains(lines.Text(), "ready") {
			close(ready)
			ready = nil
		}
	}
	b.err = b.cmd.Wait()
	close(b.ended)
}

// Stop asks the box to end and waits for it. An exit code other than 0 is an error.
func (b *Box) Stop() error { return b.signal(syscall.SIGTERM) }

// PID returns the box's process ID.
func (b *Box) PID() int { return b.cmd.Process.Pid }

// Reload asks the box to read its policy anew.
func (b *Box) Reload() error { return b.cmd.Process.Signal(syscall.SIGHUP) }

// Kill ends the box as a crash would: it removes nothing.
func (b *Box) Kill() error {
	err := b.signal(syscall.SIGKILL)
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return nil
	}
	return err
}

func (b *Box) signal(s syscall.Signal) error {
	if err := b.cmd.Process.Signal(s); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end %s: %w", b.Role, err)
	}
	<-b.ended
	return b.err
}

// Log returns the lines of the box's standard error. It may be called once the box
// has ended.
func (b *Box) Log() []string { return b.log }

// Flows returns the flows of the box, live or ended lately.
func (b *Box) Flows(ctx context.Context) (*api.Dump, error) {
	d, err := b.client().Flows(ctx, true)
	if err != nil {
		return nil, fmt.Errorf("flows of %s: %w", b.Role, err)
	}
	return d, nil
}

// Paths returns the paths of the box.
func (b *Box) Paths(ctx context.Context) (*api.Paths, error) {
	p, err := b.client().Paths(ctx)
	if err != nil {
		return nil, fmt.Errorf("paths of %s: %w", b.Role, err)
	}
	return p, nil
}

func (b *Box) client() api.Client { return api.Client{Socket: b.Control} }

// JoinPort is the port on which the network's HAG accepts joins.
const JoinPort = 9000

// StartPair starts a HAG and a CPE that use every line of the network.
func (n *Network) StartPair(p Program, dir string, cpeFlags ...string) (cpe, hag *Box, err error) {
	if hag, err = n.StartHAG(p, dir); err != nil {
		return nil, nil, err
	}
	if cpe, err = n.StartCPE(p, dir, nil, cpeFlags...); err != nil {
		return nil, nil, errors.Join(err, hag.Stop())
	}
	return cpe, hag, nil
}

// StartHAG starts a HAG that uses every line of the network.
func (n *Network) StartHAG(p Program, dir string, more ...string) (*Box, error) {
	flags := []string{"--plain", HAGWanInterface, "--congestion-control", n.Multipath}
	for _, l := range n.Lines {
		flags = append(flags, "--path", l.Name)
	}
	for _, j := range n.joins() {
		flags = append(flags, "--join", j)
	}
	return p.StartBox(n.HAG, dir, "hag", append(flags, more...)...)
}

// StartCPE starts a CPE that uses every line of the network. options has, by line,
// additions to its --path flag, such as "mode=overflow,busy=16mbit".
func (n *Network) StartCPE(p Program, dir string, options map[string]string, flags ...string) (*Box, error) {
	all := []string{"--plain", n.CPEPlain, "--congestion-control", n.Multipath}
	for _, l := range n.Lines {
		path := l.Name
		if l == n.joinLine() {
			path += ",join=" + strings.Join(n.joins(), ",join=")
		}
		if o := options[l.Name]; o != "" {
			path += "," + o
		}
		all = append(all, "--path", path)
	}
	return p.StartBox(n.CPE, dir, "cpe", append(all, flags...)...)
}

// StartLANGateway starts a CPE that uses every line of the network, and carries connections to
// SOCKS servers, such as socks5://203.0.113.18:1080. options are those of StartCPE.
func (n *Network) StartLANGateway(p Program, dir string, upstreams []string, options map[string]string, flags ...string) (*Box, error) {
	all := []string{"--plain", n.CPEPlain, "--congestion-control", n.Multipath}
	for _, l := range n.Lines {
		path := l.Name
		if o := options[l.Name]; o != "" {
			path += "," + o
		}
		all = append(all, "--path", path)
	}
	for _, u := range upstreams {
		all = append(all, "--upstream", u)
	}
	return p.StartBox(n.CPE, dir, "cpe", append(all, flags...)...)
}

// joinLine returns the line at whose end the HAG accepts joins: the second, or the only one.
func (n *Network) joinLine() *Line { return n.Lines[min(1, len(n.Lines)-1)] }

// joins returns the addresses at which the HAG accepts joins.
func (n *Network) joins() []string {
	at := n.joinLine()
	return []string{fmt.Sprintf("[%s]:%d", at.HAG6, JoinPort), fmt.Sprintf("%s:%d", at.HAG4, JoinPort)}
}
