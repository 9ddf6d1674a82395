//go:build linux

package box

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/synbond/synbond/internal/paths"
)

// Figures of a CPE's paths.
var (
	hagUpDesc        = desc("hag_up", "Whether the HAG answers.")
	pathUpDesc       = desc("path_up", "Whether a path can be used.", "path")
	pathNormalDesc   = desc("path_normal", "Whether a path is used for more than a backup.", "path")
	pathSubflowsDesc = desc("path_subflows", "Open subflows.", "path")
	pathRTTDesc      = desc("path_rtt_seconds", "Round trip time of probes.", "path")
	pathLossDesc     = desc("path_loss_ratio", "Share of the last 64 probes that had no answer.", "path")
	pathBytesDesc    = desc("path_bytes_total", "Bytes that a path's interface has carried.", "path", "direction")
	pathQuotaDesc    = desc("path_quota_bytes", "Bytes that a path may carry in a period.", "path")
	pathBlockedDesc  = desc("path_mptcp_blocked", "Whether a path as a whole lets no MPTCP through for an address family.", "path", "family")
	pathUsedDesc     = desc("path_quota_used_bytes", "Bytes that a path has carried in this period.", "path")

	pathDescs = []*prometheus.Desc{
		hagUpDesc, pathUpDesc, pathNormalDesc, pathSubflowsDesc, pathRTTDesc, pathLossDesc, pathBytesDesc, pathQuotaDesc, pathUsedDesc, pathBlockedDesc,
	}
)

// collectPaths exports the state of a CPE's paths.
func (b *Box) collectPaths(ch chan<- prometheus.Metric) {
	if b.steering == nil {
		return
	}
	send := func(d *prometheus.Desc, kind prometheus.ValueType, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(d, kind, v, labels...)
	}
	v, counters := b.steering.view.Load(), b.steering.kernel.manager.CountersByPath()
	blocked := b.blockedFamilies()
	send(hagUpDesc, prometheus.GaugeValue, truth(v.hag.State == paths.HAGUp))
	for i, s := range v.statuses {
		p := b.set.Paths[i]
		gauge := func(d *prometheus.Desc, v float64) { send(d, prometheus.GaugeValue, v, p.Name) }
		gauge(pathUpDesc, truth(s.Up))
		gauge(pathNormalDesc, truth(v.desired[i] == paths.Normal))
		for _, family := range []string{"IPv4", "IPv6"} {
			send(pathBlockedDesc, prometheus.GaugeValue, truth(slices.Contains(blocked[i], family)), p.Name, family)
		}
		gauge(pathSubflowsDesc, float64(counters[i].Open))
		if s.Probed {
			gauge(pathRTTDesc, s.RTT.Seconds())
			gauge(pathLossDesc, s.Loss)
		}
		send(pathBytesDesc, prometheus.CounterValue, float64(s.BytesSent), p.Name, "up")
		send(pathBytesDesc, prometheus.CounterValue, float64(s.BytesReceived), p.Name, "down")
		if p.Quota.Bytes > 0 {
			gauge(pathQuotaDesc, float64(p.Quota.Bytes))
			gauge(pathUsedDesc, float64(b.steering.usage.Used(p.Name)))
		}
	}
}

func truth(v bool) float64 {
	if v {
		return 1
	}
	return 0
}
