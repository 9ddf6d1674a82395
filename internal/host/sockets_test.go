//go:build linux

package host

import (
	"io"
	"net/netip"
	"testing"

	"github.com/synbond/synbond/internal/nl"
)

func TestForgetClosedWithoutSocketsFindsNone(t *testing.T) {
	n := build(t)
	if err := n.HAG.Do(CanEndSockets); err != nil {
		t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", err)
	}
	check(t, n.HAG.Do(func() error {
		found, err := ForgetClosed(at(n.Lines[0].HAG4, 7100))
		if found {
			t.Error("a socket that never was has been ended")
		}
		return err
	}))
}

func TestSocketsHaveTheirEndsAndStates(t *testing.T) {
	n := build(t)
	l, err := n.HAG.Listen("tcp", at(n.Lines[0].HAG6, 0).String())
	check(t, err)
	defer l.Close()
	c, err := n.CPE.Dial(t.Context(), "tcp", "", l.Addr().String())
	check(t, err)
	defer c.Close()
	local, remote := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
	check(t, n.CPE.Do(func() error {
		all, err := Sockets(SubflowStates)
		if err != nil || len(all) != 1 {
			t.Fatalf("%d sockets, %v", len(all), err)
		}
		if s := all[0]; s.Local != local || s.Remote != remote || !s.CanSend || s.Token != 0 || s.Joined || s.Backup {
			t.Errorf("socket %+v, want %v to %v", s, local, remote)
		}
		d, err := OpenDiag()
		if err != nil {
			return err
		}
		defer d.Close()
		for to, want := range map[netip.AddrPort]bool{remote: true, at(remote.Addr(), remote.Port()^1): false} {
			if got, err := d.Connected(local, to); got != want || err != nil {
				t.Errorf("connected to %v is %v, %v", to, got, err)
			}
		}
		return nil
	}))
}

func TestEndClosedEndsClosedConnectionsOnly(t *testing.T) {
	n := build(t)
	if err := n.CPE.Do(CanEndSockets); err != nil {
		t.Skip("kernel without CONFIG_INET_DIAG_DESTROY: ", err)
	}
	l, err := n.HAG.Listen("tcp", at(n.Lines[0].HAG6, 0).String())
	check(t, err)
	defer l.Close()
	c, err := n.CPE.Dial(t.Context(), "tcp", "", l.Addr().String())
	check(t, err)
	defer c.Close()
	served, err := l.Accept()
	check(t, err)
	local, remote := netip.MustParseAddrPort(c.LocalAddr().String()), netip.MustParseAddrPort(c.RemoteAddr().String())
	// ends asks for the end of the client's socket, and reports whether it is still there.
	ends := func() (there bool) {
		check(t, n.CPE.Do(func() error {
			d, err := OpenDiag()
			if err != nil {
				return err
			}
			defer d.Close()
			if err := d.EndClosed(local, remote); err != nil {
				return err
			}
			there, err = d.Connected(local, remote)
			return err
		}))
		return there
	}
	if !ends() {
		t.Error("a live connection has been ended")
	}
	c.Close()
	served.Close()
	if _, err := io.ReadAll(served); err == nil {
		t.Error("the server's end is open")
	}
	if ends() {
		t.Error("a closed connection is still there")
	}
	check(t, n.HAG.Do(func() error { // only a listener is there
		d, err := OpenDiag()
		if err != nil {
			return err
		}
		defer d.Close()
		return d.EndClosed(remote, at(local.Addr(), local.Port()^1))
	}))
	again, err := n.CPE.Dial(t.Context(), "tcp", "", l.Addr().String())
	check(t, err)
	again.Close()
}

func FuzzSocket(f *testing.F) {
	f.Add(make([]byte, diagMessageSize))
	token := nl.AppendUint32(nil, subflowToken, 7)
	ulp := nl.AppendBytes(nil, diagULP, nl.AppendBytes(nil, diagULPMPTCP, token))
	f.Add(append(make([]byte, diagMessageSize), ulp...))
	f.Fuzz(func(t *testing.T, b []byte) {
		if s, ok := parseSocket(b); ok != (len(b) >= diagMessageSize) {
			t.Errorf("%d bytes: %+v", len(b), s)
		}
	})
}
