package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/mptcp"
	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/paths"
	"github.com/synbond/synbond/nfq"
	"github.com/synbond/synbond/relay"
)

// finding is what one check of the doctor found.
type finding struct {
	Name   string `json:"name"`
	Status string `json:"status"` // ok, warn or fail
	Detail string `json:"detail,omitempty"`
	Mend   string `json:"mend,omitempty"`
}

// diagnosis is all of them.
type diagnosis struct {
	OK       bool      `json:"ok"` // a box can run here
	Findings []finding `json:"findings"`
}

// runDoctor tries everything that a box needs, in a network namespace of its
// own, and looks at the settings of the one that it was called in.
func runDoctor(_ context.Context, c *invocation) error {
	asJSON := c.flags.Bool("json", false, "print one JSON object")
	if err := c.parse(); err != nil {
		return err
	}
	// As an ordinary user it goes on in a user namespace, and says so below.
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
	if *asJSON {
		enc := json.NewEncoder(c.stdout)
		enc.SetIndent("", "  ")
		if err := enc.Encode(d); err != nil {
			return err
		}
	} else {
		d.print(c.stdout, interactive(c.stdout))
	}
	if !d.OK {
		return errReported
	}
	return nil
}

func (d *diagnosis) add(name, status, detail, mend string) {
	d.Findings = append(d.Findings, finding{name, status, detail, mend})
	d.OK = d.OK && status != "fail"
}

// judge adds a finding that is ok without an error.
func (d *diagnosis) judge(name string, err error, mend string) {
	if err == nil {
		d.add(name, "ok", "", "")
		return
	}
	d.add(name, "fail", oneLine(err), mend)
}

// prefer adds a finding that is ok without an error, and with one costs speed only.
func (d *diagnosis) prefer(name string, err error, mend string) {
	if err == nil {
		d.add(name, "ok", "", "")
		return
	}
	d.add(name, "warn", oneLine(err), mend)
}

// kernel says which one runs. Nothing is judged by its number but what shows no
// other way.
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
		d.add("privilege", "warn", "tried in a user namespace: enough for `synbond lab`, not for a box on this machine",
			"run as root to see this machine's own settings")
	default:
		d.add("privilege", "ok", "", "")
	}
}

// probe tries the kernel in a namespace that is thrown away.
func (d *diagnosis) probe() error {
	h, err := netlab.NewHost("doctor")
	if err != nil {
		return err
	}
	for _, f := range nfq.Features() {
		d.judge(f.Name, h.Do(f.Probe), "kernel option "+f.Config)
	}
	d.judge("NFQUEUE socket", h.Do(probeQueue), "kernel option CONFIG_NETFILTER_NETLINK_QUEUE")
	for _, family := range []struct {
		name   string
		number int
	}{{"IPv6", unix.AF_INET6}, {"IPv4", unix.AF_INET}} {
		d.judge("policy routing, "+family.name, h.Do(func() error {
			return errors.Join(nfq.InstallRoutes(family.number), nfq.RemoveRoutes(family.number))
		}), "kernel options CONFIG_IP_MULTIPLE_TABLES and CONFIG_IPV6_MULTIPLE_TABLES")
		d.judge("transparent MPTCP sockets, "+family.name, h.Do(func() error { return probeSockets(family.number) }),
			"kernel options CONFIG_MPTCP and CONFIG_MPTCP_IPV6, sysctl net.mptcp.enabled=1")
	}
	d.judge("MPTCP path manager", h.Do(probePathManager), "kernel option CONFIG_MPTCP")
	d.judge("userspace path manager (CPE)", h.Do(func() error {
		return os.WriteFile("/proc/sys/net/mptcp/pm_type", []byte("1"), 0)
	}), "Linux 5.19 or later")
	d.judge("end of TIME-WAIT on request (HAG)", h.Do(paths.ProbeDestroy), "kernel option CONFIG_INET_DIAG_DESTROY; without it a HAG may have to wait a minute before it can restart")
	d.prefer("initial window of subflows (BPF)", h.Do(probeWindow),
		"run as root, with kernel options CONFIG_CGROUP_BPF and CONFIG_DEBUG_INFO_BTF; without it short transfers are slower")
	return h.Close()
}

func probeWindow() error {
	w, err := mptcp.OpenWindow(defaultWindow)
	if err != nil {
		return err
	}
	return w.Close()
}

func probeQueue() error {
	q, err := nfq.Open(nfq.QueueConfig{Number: defaultQueue, MaxLength: 1})
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
	pm, err := paths.Open()
	if err != nil {
		return err
	}
	return pm.Close()
}

// settings looks at the network namespace in which a box would run.
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
		d.add("firewall", "warn", "input is dropped by default in "+strings.Join(drops, ", ")+": that would take relayed packets",
			fmt.Sprintf("let it accept relayed packets: meta mark %#x accept", uint32(nfq.Relay)))
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
		if f.Mend != "" && f.Status != "ok" {
			fmt.Fprintf(w, "      → %s\n", f.Mend)
		}
	}
	if d.OK {
		fmt.Fprintln(w, "\nA box can run here.")
	} else {
		fmt.Fprintln(w, "\nA box cannot run here.")
	}
}
