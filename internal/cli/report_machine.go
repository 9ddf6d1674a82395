//go:build linux

package cli

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/core"
)

// reportTimeout bounds each command of a report.
const reportTimeout = 15 * time.Second

// machineCommands show the state of the machine; those that it lacks are noted.
var machineCommands = []struct{ name, command string }{
	{"ip-address.txt", "ip -d -s address"},
	{"ip-link.txt", "ip -d link"},
	{"ip-rule.txt", "ip rule"},
	{"ip-rule-6.txt", "ip -6 rule"},
	{"ip-route.txt", "ip route show table all"},
	{"ip-route-6.txt", "ip -6 route show table all"},
	{"ip-neighbour.txt", "ip neighbour"},
	{"ip-mptcp.txt", "ip mptcp endpoint"},
	{"ip-mptcp-limits.txt", "ip mptcp limits"},
	{"tc.txt", "tc -s qdisc"},
	{"nft.txt", "nft -a list ruleset"},
	{"iptables.txt", "iptables-save"},
	{"ip6tables.txt", "ip6tables-save"},
	{"sockets.txt", "ss -s"},
	{"nstat.txt", "nstat -asz"},
}

// commands adds what commands print: those of the machine, and synbond's own.
func (r *reporter) commands(ctx context.Context) error {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail
	text := fmt.Sprintf("%s %s %s\n", unix.ByteSliceToString(u.Release[:]), unix.ByteSliceToString(u.Version[:]), unix.ByteSliceToString(u.Machine[:]))
	if err := r.add("kernel.txt", []byte(text)); err != nil { // without the name of the machine
		return err
	}
	doctor := []string{"doctor", "--json"}
	if r.file != "" {
		doctor = append(doctor, "--config", r.file)
	}
	if err := r.command(ctx, "version.txt", r.program, "version"); err != nil {
		return err
	}
	if err := r.command(ctx, "doctor.json", r.program, doctor...); err != nil {
		return err
	}
	if r.file != "" {
		if err := r.rules(ctx); err != nil {
			return err
		}
	}
	for _, c := range machineCommands {
		words := strings.Fields(c.command)
		if err := r.command(ctx, c.name, words[0], words[1:]...); err != nil {
			return err
		}
	}
	return nil
}

// rules adds the rules that a box with the file would install.
func (r *reporter) rules(ctx context.Context) error {
	role, err := config.GuessRole(r.file)
	if err != nil {
		r.notef("rules.txt: %s\n", err)
		return nil
	}
	if role == core.Gateway {
		return nil // it installs none
	}
	return r.command(ctx, "rules.txt", r.program, "rules", "--role", string(role), "--config", r.file)
}

// command adds what a program prints. What it says about errors goes to the notes.
func (r *reporter) command(ctx context.Context, name, program string, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, reportTimeout)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if err != nil {
		r.notef("%s: %s %s: %s %s\n", name, filepath.Base(program), strings.Join(args, " "), err, strings.Join(strings.Fields(stderr.String()), " "))
	}
	if stdout.Len() == 0 && err != nil {
		return nil
	}
	return r.add(name, stdout.Bytes())
}

// sysctlPatterns name the settings that matter to a box, below /proc/sys.
var sysctlPatterns = []string{
	"net/mptcp/*", "net/ipv4/ip_*", "net/ipv4/tcp_*", "net/ipv4/conf/*/rp_filter", "net/ipv4/conf/*/src_valid_mark", "net/ipv4/conf/*/accept_local",
	"net/ipv4/conf/*/forwarding", "net/ipv6/conf/*/forwarding", "net/ipv6/conf/*/disable_ipv6", "net/bridge/*", "net/netfilter/nf_conntrack_*", "net/core/*mem_*",
	"net/core/somaxconn", "net/core/default_qdisc",
}

// secretSysctls hold keys.
var secretSysctls = []string{"tcp_fastopen_key"}

// sysctls adds the settings that matter to a box.
func (r *reporter) sysctls(context.Context) error {
	var text bytes.Buffer
	for _, pattern := range sysctlPatterns {
		files, _ := filepath.Glob("/proc/sys/" + pattern) // the patterns are right
		for _, file := range files {
			if slices.Contains(secretSysctls, filepath.Base(file)) {
				continue
			}
			if b, err := os.ReadFile(file); err == nil {
				fmt.Fprintf(&text, "%s = %s\n", strings.TrimPrefix(file, "/proc/sys/"), bytes.TrimSpace(b))
			}
		}
	}
	return r.add("sysctl.txt", text.Bytes())
}

// log adds the lines of the box's log that this machine has kept.
func (r *reporter) log(ctx context.Context) error {
	for _, c := range [][]string{
		{"journalctl", "--no-pager", "-n", "5000", "-o", "cat", "-u", "synbond*"}, // cat: without the name of the machine
		{"logread", "-e", "synbond"},
	} {
		if _, err := exec.LookPath(c[0]); err == nil {
			return r.command(ctx, "log.txt", c[0], c[1:]...)
		}
	}
	r.notef("log.txt: this machine has neither journalctl nor logread\n")
	return nil
}
