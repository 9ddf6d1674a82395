//go:build linux

package main

import (
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

	"github.com/synbond/synbond/internal/netlab"
)

// haproxyConfig is the configuration on one router. A server without address and
// port stands for the client's destination (transparent), and `usesrc client` dials
// from the client's own address and port.
//
// These settings had the best results here: with two threads, buffers of 16 and
// 64 KiB, with and without splicing (which copies from MPTCP sockets), had half the
// goodput.
const haproxyConfig = `global
	nbthread 2
	maxconn %d
	tune.bufsize %d

defaults
	mode tcp
	timeout connect 10s
	timeout client 1h
	timeout server 1h

frontend in
	bind :::%d v6only transparent
	default_backend out

backend out
	source [::] usesrc client
	server any *
`

// haproxyBuffer is its tune.bufsize.
const haproxyBuffer = 256 << 10

// haproxySettings returns the configuration for this machine.
func haproxySettings() string {
	flows := (fileLimit() - reserve/2) / 2
	return fmt.Sprintf(haproxyConfig, flows, haproxyBuffer, port)
}

// haproxyRules deliver packets to HAProxy: SYNs that enter by the interfaces %[1]s,
// and all packets for sockets with a foreign address.
const haproxyRules = `table inet bench {
	chain deliver {
		type filter hook prerouting priority mangle; policy accept;
		meta l4proto tcp socket transparent 1 meta mark set 1 accept
		iifname { %[1]s } tcp dport %[2]d tproxy ip6 to :%[2]d meta mark set 1 accept
	}
}
`

// haproxyRouting hands marked packets to this machine.
var haproxyRouting = []string{
	"ip -6 rule add fwmark 1 lookup 90 priority 90",
	"ip -6 route add local ::/0 dev lo table 90",
	"ip mptcp limits set subflow 2 add_addr_accepted 2",
}

// undoHAProxy removes the rules, routes and endpoints of startProxy.
var undoHAProxy = []string{
	"nft delete table inet bench",
	"ip -6 rule del priority 90",
	"ip -6 route flush table 90",
	"ip mptcp endpoint flush",
}

// startHAProxy starts HAProxy on both routers. The kernel's path manager opens a
// subflow from the CPE's address on each further line.
func startHAProxy(ctx context.Context, n *network) (*boxes, error) {
	lines := make([]string, len(n.Lines))
	for i, l := range n.Lines {
		lines[i] = l.Name
	}
	var endpoints []string
	for _, l := range n.Lines[1:] {
		endpoints = append(endpoints, fmt.Sprintf("ip mptcp endpoint add %s dev %s subflow", l.CPE6, l.Name))
	}
	hag, err := n.startProxy(ctx, n.HAG, lines, nil)
	if err != nil {
		return nil, err
	}
	cpe, err := n.startProxy(ctx, n.CPE, []string{netlab.CPELanInterface}, endpoints)
	if err != nil {
		return nil, errors.Join(err, hag.stop())
	}
	return &boxes{
		pids: []int{cpe.cmd.Process.Pid, hag.cmd.Process.Pid},
		stop: func() error { return errors.Join(cpe.stop(), hag.stop()) },
	}, nil
}

// proxy is HAProxy on one router.
type proxy struct {
	host *netlab.Host
	cmd  *exec.Cmd
}

func (n *network) startProxy(ctx context.Context, h *netlab.Host, from, more []string) (*proxy, error) {
	file := filepath.Join(n.dir, h.Name+".cfg")
	if err := os.WriteFile(file, []byte(haproxySettings()), 0o600); err != nil {
		return nil, err
	}
	p := &proxy{host: h, cmd: h.Command("mptcpize", "run", "haproxy", "-db", "-f", file)}
	var said strings.Builder
	p.cmd.Stderr = &said
	if err := h.Start(p.cmd); err != nil {
		return nil, fmt.Errorf("start haproxy on %s: %w", h.Name, err)
	}
	rules := fmt.Sprintf(haproxyRules, strings.Join(from, ", "), port)
	err := errors.Join(
		run(h, strings.NewReader(rules), "nft -f -"),
		runAll(h, append(haproxyRouting, more...)),
		waitListening(ctx, h),
	)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("start haproxy on %s: %w: %s", h.Name, err, said.String()), p.stop())
	}
	return p, nil
}

func (p *proxy) stop() error {
	err := p.cmd.Process.Signal(syscall.SIGKILL)
	p.cmd.Wait() //nolint:errcheck // it was killed
	return errors.Join(err, runAll(p.host, undoHAProxy))
}

// run runs a command line on a host.
func run(h *netlab.Host, stdin io.Reader, line string) error {
	words := strings.Fields(line)
	cmd := h.Command(words[0], words[1:]...)
	cmd.Stdin = stdin
	var said strings.Builder
	cmd.Stderr = &said
	if err := h.Run(cmd); err != nil {
		return fmt.Errorf("%s: %w: %s", line, err, said.String())
	}
	return nil
}

func runAll(h *netlab.Host, lines []string) error {
	var errs []error
	for _, l := range lines {
		errs = append(errs, run(h, nil, l))
	}
	return errors.Join(errs...)
}

// waitListening waits until somebody listens on the port.
func waitListening(ctx context.Context, h *netlab.Host) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for ; ; time.Sleep(10 * time.Millisecond) {
		table, err := readNet(h, "tcp6")
		if err != nil {
			return err
		}
		// The local address, the remote one, and the state LISTEN.
		if strings.Contains(table, fmt.Sprintf(":%04X %032X:0000 0A", port, 0)) {
			return nil
		}
		if ctx.Err() != nil {
			return fmt.Errorf("nobody listens on port %d: %w", port, context.Cause(ctx))
		}
	}
}
