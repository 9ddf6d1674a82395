//go:build linux

package box

import (
	"bufio"
	"fmt"
	"net/http"
	"os"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/synbond/synbond/internal/api"
)

// queueTotals reads /proc/net/netfilter/nfnetlink_queue (kernel: nfnetlink_queue.c, seq_show).
func (b *Box) queueTotals() api.QueueTotals {
	if b.queue == nil { // of a gateway
		return api.QueueTotals{}
	}
	q := api.QueueTotals{Errors: b.queue.Errors(), Stray: b.stray.Load()}
	f, err := os.Open("/proc/self/net/netfilter/nfnetlink_queue")
	if err != nil {
		return q
	}
	defer f.Close()
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var number, port, mode, copyRange uint64
		_, err := fmt.Sscan(lines.Text(), &number, &port, &q.Waiting, &mode, &copyRange, &q.Dropped, &q.UserDropped)
		if err == nil && number == uint64(b.cfg.Queue) {
			return q
		}
	}
	q.Waiting, q.Dropped, q.UserDropped = 0, 0, 0
	return q
}

func (b *Box) metricsHandler() http.Handler {
	reg := prometheus.NewRegistry()
	reg.MustRegister(collector{b})
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	return mux
}

// collector exports the totals of a box at each scrape.
type collector struct{ b *Box }

var (
	flowsDesc      = desc("flows", "Live flows by state.", "state")
	enteredDesc    = desc("flows_total", "Flows that came into a state.", "state")
	reasonsDesc    = desc("reasons_total", "Flows that passed or ended, and packets let through, by reason.", "reason")
	bytesDesc      = desc("closed_bytes_total", "Bytes carried by flows that have closed.", "direction")
	subflowsDesc   = desc("subflows_total", "Subflows that the box asked for.", "result")
	queueDesc      = desc("queue_total", "Packets dropped and errors at the NFQUEUE.", "kind")
	waitingDesc    = desc("queue_waiting", "Packets without a verdict.")
	translatedDesc = desc("translated_total", "SYNs that passed because the machine has changed their destination.")
	findingDesc    = desc("finding", "Obstacles on the machine or in the network that the box knows of: 1.", "id")
	keptDesc       = desc("kept_changes_total", "Changes by others of what the box has installed or set.", "thing")
	leftDesc       = desc("kept_left", "Things that others have changed too often, and that are left to them: 1.", "thing")
	prefacesDesc   = desc("prefaces_total", "Clients of a gateway that have left before they were connected, by reason.", "reason")
	loginsDesc     = desc("logins_total", "Checks of users and passwords at a gateway.", "result")
	userFlowsDesc  = desc("user_closed_flows_total", "Flows of a gateway's user that have closed.", "user")
	userBytesDesc  = desc("user_closed_bytes_total", "Bytes carried by the flows of a gateway's user that have closed.", "user", "direction")
	userMovedDesc  = desc("user_bytes_total", "Bytes carried by all flows of a gateway's user.", "user", "direction")
	userQuotaDesc  = desc("user_quota_bytes", "Bytes that a gateway's user may carry in a period.", "user")
	userUsedDesc   = desc("user_quota_used_bytes", "Bytes that a gateway's user has carried in this period.", "user")
	recordDesc     = desc("recorded_packets_total", "Packets of handshakes for the recording.", "result")
)

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc("synbond_"+name, help, labels, nil)
}

// Describe implements [prometheus.Collector].
func (c collector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{flowsDesc, enteredDesc, reasonsDesc, bytesDesc, subflowsDesc, queueDesc, waitingDesc, translatedDesc, findingDesc, keptDesc, leftDesc, recordDesc, prefacesDesc, loginsDesc, userFlowsDesc, userBytesDesc, userMovedDesc, userQuotaDesc, userUsedDesc} {
		ch <- d
	}
	for _, d := range pathDescs {
		ch <- d
	}
}

// Collect implements [prometheus.Collector].
func (c collector) Collect(ch chan<- prometheus.Metric) {
	t := c.b.totals()
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	count := func(d *prometheus.Desc, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	for s, n := range t.Live {
		gauge(flowsDesc, float64(n), s)
	}
	for s, n := range t.Entered {
		count(enteredDesc, n, s)
	}
	for r, n := range t.Reasons {
		count(reasonsDesc, n, r)
	}
	count(bytesDesc, t.BytesUp, "up")
	count(bytesDesc, t.BytesDown, "down")
	count(subflowsDesc, t.Subflows.Opened, "opened")
	count(subflowsDesc, t.Subflows.Failed, "failed")
	count(subflowsDesc, t.Subflows.Lost, "lost")
	count(subflowsDesc, t.Subflows.Closed, "closed")
	count(queueDesc, t.Queue.Dropped, "dropped")
	count(queueDesc, t.Queue.UserDropped, "user-dropped")
	count(queueDesc, t.Queue.Errors, "errors")
	count(queueDesc, t.Queue.Stray, "stray")
	gauge(waitingDesc, float64(t.Queue.Waiting))
	ch <- prometheus.MustNewConstMetric(translatedDesc, prometheus.CounterValue, float64(t.Translated))
	for id := range t.Findings {
		gauge(findingDesc, 1, id)
	}
	if t.Recording != nil {
		count(recordDesc, t.Recording.Packets, "written")
		count(recordDesc, t.Recording.Dropped, "dropped")
	}
	if g := t.Gateway; g != nil {
		for reason, n := range g.Prefaces {
			count(prefacesDesc, n, reason)
		}
		for result, n := range g.Logins {
			count(loginsDesc, n, result)
		}
		for user, of := range g.Users {
			count(userFlowsDesc, of.Flows, user)
			count(userBytesDesc, of.BytesUp, user, "up")
			count(userBytesDesc, of.BytesDown, user, "down")
			up, down := c.b.gateway.accounts.moved(user)
			count(userMovedDesc, up, user, "up")
			count(userMovedDesc, down, user, "down")
			if of.Quota != nil {
				gauge(userQuotaDesc, float64(of.Quota.Limit), user)
				gauge(userUsedDesc, float64(of.Quota.Used), user)
			}
		}
	}
	for _, k := range c.b.kept() {
		count(keptDesc, k.Changes, k.Thing)
		gauge(leftDesc, truth(k.State == "left"), k.Thing)
	}
	c.b.collectPaths(ch)
}
