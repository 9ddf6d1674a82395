package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

// finding is the result of one check.
type finding struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
}

// diagnosis is the result of all checks.
type diagnosis struct {
	OK       bool      `json:"ok"` // a box can run here
	Findings []finding `json:"findings"`
}

// doctorCommand tests everything that a box needs.
func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [--json]",
		Short: "check whether a box can run on this machine, with a remedy for each obstacle",
		Args:  noArguments,
	}
	asJSON := cmd.Flags().Bool("json", false, "print one JSON object")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return runDoctor(cmd.OutOrStdout(), *asJSON) }
	return cmd
}

// runDoctor tests the kernel in a network namespace of its own, and reads the
// settings of the namespace in which it was called.
func runDoctor(w io.Writer, asJSON bool) error {
	// For an ordinary user the rest runs in a user namespace; a finding says so.
	refused := netlab.Reexec()
	d := diagnosis{OK: true}
	d.kernel()
	d.privilege(refused)
	if refused == nil {
		if err := d.probe(); err != nil {
			return err
		}
	}
	if !netlab.Reexeced() {
		d.settings()
	}
	if asJSON {
		enc := json.NewEncoder(w)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			return err
		}
	} else {
		d.print(w, interactive(w))
	}
	if !d.OK {
		return errReported
	}
	return nil
}

func (d *diagnosis) add(name, status, detail, remedy string) {
	d.Findings = append(d.Findings, finding{name, status, detail, remedy})
	d.OK = d.OK && status != "fail"
}

// judge adds a finding that is ok without an error, and a failure with one.
func (d *diagnosis) judge(name string, err error, remedy string) {
	if err == nil {
		d.add(name, "ok", "", "")
		return
	}
	d.add(name, "fail", oneLine(err), remedy)
}

// prefer adds a finding that is ok without an error, and a warning with one: a box
// runs, but slower.
func (d *diagnosis) prefer(name string, err error, remedy string) {
	if err == nil {
		d.add(name, "ok", "", "")
		return
	}
	d.add(name, "warn", oneLine(err), remedy)
}

// kernel names the kernel. Its version decides only where no test can.
func (d *diagnosis) kernel() {
	var u unix.Utsname
	_ = unix.Uname(&u) // it cannot fail
	release := unix.ByteSliceToString(u.Release[:])
	var major, minor int
	_, _ = fmt.Sscanf(release, "%d.%d", &major, &minor)
	if major < 6 || major == 6 && minor < 5 {
		d.add("kernel "+release, "warn", "flows show no subflows before Linux 6.5", "boot a newer kernel")
		return
	}
	d.add("kernel "+release, "ok", "", "")
}

func (d *diagnosis) privilege(refused error) {
	switch {
	case refused != nil:
		d.add("privilege", "fail", oneLine(refused), "run as root")
	case netlab.Reexeced():
		d.add("privilege", "warn", "tested in a user namespace: enough for `synbond lab`, not for a box on this machine",
			"run as root to see this machine's own settings")
	default:
		d.add("privilege", "ok", "", "")
	}
}

// probe tests the kernel in a temporary namespace.
func (d *diagnosis) probe() error {
	h, err := netlab.NewHost("doctor")
	if err != nil {
		return err
	}
	for _, f := range nfq.Features() {
		if f.Optional {
			d.prefer(f.Name, h.Do(f.Probe), "kernel option "+f.Config+"; without it the box loops them itself")
			continue
		}
		d.judge(f.Name, h.Do(f.Probe), "kernel option "+f.Config)
	}
	d.judge("NFQUEUE socket", h.Do(probeQueue), "kernel option CONFIG_NETFILTER_NETLINK_QUEUE")
	for _, family := range []struct {
		name   string
		number int
	}{{"IPv6", unix.AF_INET6}, {"IPv4", unix.AF_INET}} {
		d.judge("policy routing, "+family.name, h.Do(func() error {
			r := nfq.Routes{Family: family.number}
			return errors.Join(r.Install(), r.Remove())
		}), "kernel options CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES")
		d.judge("transparent MPTCP sockets, "+family.name, h.Do(func() error { return probeSockets(family.number) }),
			"kernel options CONFIG_MPTCP and CONFIG_MPTCP_IPV6, sysctl net.mptcp.enabled=1")
	}
	d.judge("MPTCP path manager", h.Do(probePathManager), "kernel option CONFIG_MPTCP")
	d.judge("userspace path manager (CPE)", h.Do(func() error {
		return os.WriteFile("/proc/sys/net/mptcp/pm_type", []byte("1"), 0)
	}), "Linux 5.19 or later")
	d.judge("end of TIME-WAIT on request (HAG)", h.Do(host.CanEndSockets), "kernel option CONFIG_INET_DIAG_DESTROY; without it a HAG may have to wait a minute before it can restart")
	d.prefer("initial window of subflows (BPF)", h.Do(probeWindow),
		"run as root, with kernel options CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF; without it short transfers are slower")
	return h.Close()
}

func probeWindow() error {
	w, err := mptcp.OpenWindow(config.Defaults("").InitialWindow)
	if err != nil {
		return err
	}
	return w.Close()
}

func probeQueue() error {
	q, err := nfq.Open(nfq.QueueConfig{Number: uint16(config.Defaults("").Queue), MaxLength: 1})
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(context.Background())
	err = q.Start(ctx, func(nfq.Packet) {})
	cancel()
	return errors.Join(err, q.Close())
}

func probeSockets(family int) error {
	r, err := relay.New(relay.Config{Loops: 1}, family)
	if err != nil {
		return err
	}
	return r.Close()
}

func probePathManager() error {
	pm, err := mptcp.Open()
	if err != nil {
		return err
	}
	return pm.Close()
}

// settings checks the network namespace in which a box would run.
func (d *diagnosis) settings() {
	for _, s := range []struct{ name, key string }{
		{"IPv6 forwarding", "net/ipv6/conf/all/forwarding"}, {"IPv4 forwarding", "net/ipv4/ip_forward"},
	} {
		b, err := os.ReadFile("/proc/sys/" + s.key)
		switch {
		case err != nil:
			d.add(s.name, "warn", "this machine lacks the address family", "")
		case strings.TrimSpace(string(b)) == "0":
			d.add(s.name, "warn", "off: this machine is no router", "sysctl "+strings.ReplaceAll(s.key, "/", ".")+"=1")
		default:
			d.add(s.name, "ok", "", "")
		}
	}
	drops, err := nfq.DefaultDrops()
	switch {
	case err != nil:
		d.add("firewall", "warn", err.Error(), "")
	case len(drops) > 0:
		d.add("firewall", "warn", "input is dropped by default in "+strings.Join(drops, ", ")+", relayed packets included",
			"let it accept relayed packets: "+nfq.Advice)
	default:
		d.add("firewall", "ok", "", "")
	}
}

func (d *diagnosis) print(w io.Writer, colour bool) {
	styles := map[string]string{"ok": "32", "warn": "33", "fail": "1;31"}
	for _, f := range d.Findings {
		sign := fmt.Sprintf("%-4s", f.Status)
		if colour {
			sign = "\x1b[" + styles[f.Status] + "m" + sign + "\x1b[0m"
		}
		fmt.Fprintf(w, "%s  %s", sign, f.Name)
		if f.Detail != "" {
			fmt.Fprintf(w, ": %s", f.Detail)
		}
		fmt.Fprintln(w)
		if f.Remedy != "" && f.Status != "ok" {
			fmt.Fprintf(w, "      → %s\n", f.Remedy)
		}
	}
	if d.OK {
		fmt.Fprintln(w, "\nA box can run here.")
	} else {
		fmt.Fprintln(w, "\nA box cannot run here.")
	}
}
