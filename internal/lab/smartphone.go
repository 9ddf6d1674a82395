//go:build linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"time"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/socks"
)

// In scenario smartphone the CPE is a phone, the lines are its radios, and a SOCKS gateway
// is in the place of the HAG.

// radios of the phone. Its connections begin on lte.
var radios = []netlab.LineConfig{
	{Name: "lte", Rate: 20 * mbit, Delay: 35 * time.Millisecond},
	{Name: "wifi", Rate: 40 * mbit, Delay: 15 * time.Millisecond},
}

// Shares of the radios' payload capacity that transfers must get.
const (
	leastBonded = 0.95
	leastAlone  = 0.7 // of lte's alone, while wifi is off
)

// startPhone starts the gateway, and has the phone use both radios.
func (x *run) startPhone(v variant) (gateway *netlab.Box, err error) {
	if gateway, err = x.n.StartGateway(x.Program, x.dir, append([]string{"--open"}, v.flags...)...); err != nil {
		return nil, err
	}
	if err := errors.Join(x.n.BePhone(), x.n.SwitchRadio(x.n.Line("wifi"), true)); err != nil {
		return nil, errors.Join(err, gateway.Stop())
	}
	return gateway, nil
}

// throughGateway returns a dialer from the phone through the gateway.
func (n network) throughGateway(to netip.AddrPort, stepByStep bool) netlab.Dialer {
	s := netlab.SOCKS{Host: n.CPE, Network: "mptcp", Gateway: n.GatewayAt(to.Addr().Is6()), StepByStep: stepByStep}
	return func(ctx context.Context) (net.Conn, error) { return s.Dial(ctx, to.String()) }
}

// fromPhone returns a dialer from the phone without the gateway.
func (n network) fromPhone(to netip.AddrPort) netlab.Dialer {
	return func(ctx context.Context) (net.Conn, error) { return n.CPE.Dial(ctx, "tcp", "", to.String()) }
}

// phoneVariant compares what the phone sees without and with the gateway.
var phoneVariant = variant{
	title: "without and with the gateway", noTimeline: true,
	steps: []step{comparePhoneConnects, comparePhoneAnswers, comparePhoneGoodput},
}

// comparePhoneConnects compares connect times: a SOCKS client that sends all of its messages
// at once needs one more round trip to the gateway, and another one two more.
func comparePhoneConnects(ctx context.Context, s *session) error {
	s.report.table = [][]string{{"connect", "directly", "SOCKS, all at once", "SOCKS, step by step"}}
	for _, f := range families {
		to := netip.AddrPortFrom(f.server, trafficPort)
		var took [3]time.Duration
		for i, dial := range []netlab.Dialer{s.n.fromPhone(to), s.n.throughGateway(to, false), s.n.throughGateway(to, true)} {
			times, err := netlab.ConnectTimes(ctx, dial, connects)
			if err != nil {
				return err
			}
			took[i] = median(times)
		}
		s.report.table = append(s.report.table, []string{f.name, ms(took[0]), ms(took[1]), ms(took[2])})
		s.r.figure("connect "+f.name+" ms", 1000*took[0].Seconds())
		s.r.figure("connect all at once "+f.name+" ms", 1000*took[1].Seconds())
		s.r.figure("connect step by step "+f.name+" ms", 1000*took[2].Seconds())
		trips := took[1].Seconds() / took[0].Seconds()
		s.check(f.name+": all messages at once take one round trip more", trips < 2.5, "%.2f of the time of a connection without the gateway", trips)
	}
	return nil
}

// comparePhoneAnswers checks what the phone hears of a refused port, of an absent host, and
// of an address of the gateway's machine; and what the server sees.
func comparePhoneAnswers(ctx context.Context, s *session) error {
	for i, f := range families {
		for _, c := range []struct {
			what string
			to   netip.AddrPort
			want error
		}{
			{"a refused port is refused", netip.AddrPortFrom(f.server, refusedPort), socks.ConnectionRefused},
			{"an absent host is unreachable", netip.AddrPortFrom(f.absent, trafficPort), socks.HostUnreachable},
			{"the gateway itself is no destination", s.n.GatewayAt(f.server.Is6()), socks.NotAllowed},
		} {
			_, err := s.n.throughGateway(c.to, false)(ctx)
			s.check(f.name+": "+c.what, errors.Is(err, c.want), "%v", err)
		}
		seen, err := netlab.PeerSeen(ctx, s.n.throughGateway(netip.AddrPortFrom(f.server, trafficPort), false))
		if err != nil {
			return err
		}
		want := []netip.Addr{netlab.HAGWan6, netlab.HAGWan4}[i]
		s.check(fmt.Sprintf("%s: the server sees the gateway, %s", f.name, want), seen.Addr().Unmap() == want, "it saw %s", seen)
	}
	return nil
}

// comparePhoneGoodput compares long transfers over lte alone and over both radios.
func comparePhoneGoodput(ctx context.Context, s *session) error {
	to := netip.AddrPortFrom(netlab.Server6, trafficPort)
	can := payloadRate(radios)
	for _, d := range []netlab.Direction{netlab.Down, netlab.Up} {
		s.Say(s.report.Title + ": moving bytes " + d.String())
		var got [2]float64
		for i, dial := range []netlab.Dialer{s.n.fromPhone(to), s.n.throughGateway(to, false)} {
			long := netlab.Request{Direction: d, Duration: phoneTransfer, Warmup: phoneTransfer / 2}
			r, err := long.Run(ctx, dial)
			if err != nil {
				return err
			}
			got[i] = r.Goodput / mbit
		}
		s.note("goodput %s: %.1f Mbit/s without the gateway, %.1f with it, %.3f of the %.1f that both radios can carry", d, got[0], got[1], got[1]/can, can)
		s.r.figure("goodput "+d.String()+" Mbit/s", got[1])
		s.r.figure("goodput "+d.String()+" ratio", got[1]/can)
		s.check(fmt.Sprintf("%s: %.2f of what both radios can carry", d, leastBonded), got[1] >= leastBonded*can, "%.3f", got[1]/can)
	}
	return nil
}

// phoneTransfer is the duration of a long transfer.
const phoneTransfer = 8 * time.Second

// handover returns a variant in which wifi is switched off and on during a transfer.
func handover(d netlab.Direction) variant {
	const name = "the transfer"
	off, on := moment{"wifi is switched off", 700 * time.Millisecond}, moment{"wifi is switched on", 0}
	end := moment{name + " ends", 0}
	stall := checkStall(name, "lte")
	if d == netlab.Up {
		stall = noteStall(name)
	}
	return variant{
		title: "hand-over, " + d.String(),
		steps: []step{
			measureRoundTrip("lte", idle),
			record(d),
			beginTransfer(name, trafficPort, netlab.Request{Direction: d, Duration: 9 * time.Second}),
			pause(2500 * time.Millisecond),
			measureRoundTrip("lte", loaded),
			switchWiFi(false),
			pause(2500 * time.Millisecond),
			switchWiFi(true),
			finishTransfer(name),
			stopRecording,
			stall,
			checkRate("lte carries everything meanwhile", "lte", off, on, leastAlone*float64(radios[0].Rate)/mbit, float64(radios[0].Rate)/mbit*1.1),
			checkRate("wifi carries its part at the end", "wifi", moment{end.name, -time.Second}, end, 0.3*float64(radios[1].Rate)/mbit, float64(radios[1].Rate)/mbit*1.1),
		},
	}
}

// noteStall notes the longest time in which nothing arrived of what the phone sends. The
// phone's kernel, and no box, decides how much it queues on a radio.
func noteStall(transfer string) step {
	return func(_ context.Context, s *session) error {
		stall := s.transfers[transfer].result.Stall
		s.r.figure(s.report.Title+" stall ms", 1000*stall.Seconds())
		s.note("longest stall %s: the phone's kernel sends again what was queued on wifi, behind what it has queued on lte", ms(stall))
		return nil
	}
}

// switchWiFi switches the phone's Wi-Fi: the carrier goes, and the phone gives the radio up.
func switchWiFi(on bool) step {
	return func(_ context.Context, s *session) error {
		s.mark("wifi is switched " + map[bool]string{false: "off", true: "on"}[on])
		wifi := s.n.Line("wifi")
		return errors.Join(wifi.Carrier(on), s.n.SwitchRadio(wifi, on))
	}
}
