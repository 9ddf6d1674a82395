//go:build linux

package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/box"
	"github.com/synbond/synbond/internal/config"
	"github.com/synbond/synbond/internal/host"
	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

// line is the outcome of one check, as doctor prints it.
type line struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, note, warn or fail
	Detail string `json:"detail,omitempty"`
	Remedy string `json:"remedy,omitempty"`
	ID     string `json:"id,omitempty"`   // of a finding
	Path   string `json:"path,omitempty"` // the only path that it concerns
	Source string `json:"source,omitempty"`
}

// sourceBox is the source of findings of a running box; others have none.
const sourceBox = "running box"

// diagnosis is the outcome of all checks.
type diagnosis struct {
	OK       bool   `json:"ok"` // a box can run here
	Findings []line `json:"findings"`
}

// doctorFlags are the flags of doctor.
type doctorFlags struct {
	json          bool
	file, control string
}

// doctorCommand tests everything that a box needs.
func doctorCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "doctor [--config FILE] [--json]",
		Short: "check whether a box can run on this machine, with a remedy for each obstacle",
		Args:  noArguments,
	}
	var with doctorFlags
	f := cmd.Flags()
	f.BoolVar(&with.json, "json", false, "print one JSON object")
	f.StringVar(&with.file, "config", "", "configuration `FILE` (TOML) of the box whose interfaces and paths are checked")
	bindControl(cmd, &with.control)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error { return with.run(cmd.Context(), cmd.OutOrStdout()) }
	return cmd
}

// run tests the kernel in a network namespace of its own, and looks at the namespace in
// which it was called.
func (with doctorFlags) run(ctx context.Context, w io.Writer) error {
	cfg, err := with.configuration()
	if err != nil {
		return err
	}
	if cfg != nil && cfg.Role == box.Gateway {
		return with.runForGateway(ctx, w, cfg)
	}
	survey := host.Survey{Surroundings: host.NewHere()}
	if cfg != nil {
		survey = cfg.Survey()
	}
	// For an ordinary user the rest runs in a user namespace; a line says so.
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
		d.machine(survey)
		if cfg != nil {
			d.gateway(&cfg.Gateway)
		}
		if err := d.box(ctx, with.control); err != nil {
			return err
		}
	}
	return with.end(w, d)
}

// end prints the diagnosis. It returns an error if a box cannot run.
func (with doctorFlags) end(w io.Writer, d diagnosis) error {
	if err := with.print(w, d); err != nil {
		return err
	}
	if !d.OK {
		return errReported
	}
	return nil
}

func (with doctorFlags) print(w io.Writer, d diagnosis) error {
	if !with.json {
		d.print(w, interactive(w))
		return nil
	}
	enc := json.NewEncoder(w)
	enc.SetIndent("", "  ")
	return enc.Encode(d)
}

// configuration returns that of the box whose file is named, nil without one.
func (with doctorFlags) configuration() (*box.Config, error) {
	if with.file == "" {
		return nil, nil
	}
	role, err := config.GuessRole(with.file)
	if err != nil {
		return nil, err
	}
	from := source{file: with.file}
	_, cfg, err := from.load(role)
	return &cfg, err
}

func (d *diagnosis) add(name, status, detail, remedy string) {
	d.put(line{Name: name, Status: status, Detail: detail, Remedy: remedy})
}

func (d *diagnosis) put(l line) {
	d.Findings = append(d.Findings, l)
	d.OK = d.OK && l.Status != string(host.Failure)
}

// judge adds a line that is ok without an error, and a failure with one.
func (d *diagnosis) judge(name string, err error, remedy string) { d.weigh("fail", name, err, remedy) }

// prefer adds a line that is ok without an error, and a warning with one: a box runs, but
// slower.
func (d *diagnosis) prefer(name string, err error, remedy string) { d.weigh("warn", name, err, remedy) }

func (d *diagnosis) weigh(status, name string, err error, remedy string) {
	if err == nil {
		d.add(name, "ok", "", "")
		return
	}
	d.add(name, status, oneLine(err), remedy)
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
	d.prefer("client's MSS on MPTCP sockets", h.Do(probeSegments),
		"boot Linux 6.18 or later, or run as root, with kernel options CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF; without it an MSS clamp does not apply to relayed connections")
	return h.Close()
}

// probeSegments tries both ways in which a box can set the MSS of an MPTCP socket.
func probeSegments() error {
	refused := mptcp.TakesSegmentSize()
	if refused == nil {
		return nil
	}
	s, err := mptcp.OpenSegments()
	if err != nil {
		return fmt.Errorf("%w; %w", refused, err)
	}
	return s.Close()
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

// machine runs the checks of a running box in the network namespace of the caller.
func (d *diagnosis) machine(survey host.Survey) {
	for _, r := range survey.Check(host.Everything) {
		switch {
		case r.Err != nil:
			d.add(r.Name, "warn", "not checked: "+oneLine(r.Err), "")
		case len(r.Findings) == 0:
			d.add(r.Name, "ok", "", "")
		}
		for _, f := range r.Findings {
			d.put(line{Name: r.Name, Status: string(f.Severity), Detail: f.Detail(), Remedy: f.Remedy, ID: f.ID, Path: f.Path})
		}
	}
}

// box adds the findings of a running box, as far as they are new. That no box runs is an
// error only if its control socket is named.
func (d *diagnosis) box(ctx context.Context, control string) error {
	path, err := controlPath(control)
	if err != nil {
		return nil
	}
	answer, err := ask(ctx, path, api.FindingsResource)
	var known *api.Findings
	if err == nil {
		known, err = api.Decode[api.Findings](answer)
	}
	if err != nil {
		if control == "" {
			d.add("running box", "warn", oneLine(err), "")
			return nil
		}
		return err
	}
	for _, f := range known.Findings {
		l := line{
			Name: known.Role, Status: f.Severity, Detail: host.Finding{Obstacle: f.Obstacle, Consequence: f.Consequence}.Detail(),
			Remedy: f.Remedy, ID: f.ID, Path: f.Path, Source: sourceBox,
		}
		if !slices.ContainsFunc(d.Findings, func(o line) bool { return o.ID == l.ID && o.Path == l.Path && o.Detail == l.Detail }) {
			d.put(l)
		}
	}
	return nil
}

func (d *diagnosis) print(w io.Writer, colour bool) {
	styles := map[string]string{"ok": "32", "note": "36", "warn": "33", "fail": "1;31"}
	for _, f := range d.Findings {
		sign := fmt.Sprintf("%-4s", f.Status)
		if colour {
			sign = "\x1b[" + styles[f.Status] + "m" + sign + "\x1b[0m"
		}
		fmt.Fprintf(w, "%s  %s", sign, f.Name)
		if f.Path != "" {
			fmt.Fprintf(w, ", path %s", f.Path)
		}
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
