//go:build linux

package host

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/synbond/synbond/internal/netlab"
	"github.com/synbond/synbond/internal/tooltest"
)

// testTUN is the interface of the tests.
var testTUN = TUNConfig{Name: "tuntest", MTU: 1400, Local: netip.MustParseAddr("240.91.0.7"), Remote: netip.MustParsePrefix("240.91.255.1/32")}

// inOwnNetwork runs a test in a network namespace of its own that can have TUN interfaces.
func inOwnNetwork(t *testing.T, test func() error) {
	t.Helper()
	if err := CanOpenTUN(); err != nil {
		tooltest.Missing(t, "TUN interfaces", err.Error())
	}
	h, err := netlab.NewHost("tun")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(h.Do(test), h.Close()); err != nil {
		t.Fatal(err)
	}
}

func TestTUNHandsPacketsOver(t *testing.T) {
	inOwnNetwork(t, func() error {
		tun, err := OpenTUN(testTUN)
		if err != nil {
			return err
		}
		if _, err := OpenTUN(testTUN); err == nil {
			t.Error("the interface can be made twice")
		}
		c, err := net.Dial("udp", "240.91.255.1:5")
		if err != nil {
			return err
		}
		defer c.Close()
		if _, err := c.Write([]byte("hello")); err != nil {
			return err
		}
		var b [2048]byte
		n, err := tun.Read(b[:])
		if err != nil || b[0]>>4 != 4 || !bytes.HasSuffix(b[:n], []byte("hello")) {
			t.Errorf("read % x, %v", b[:n], err)
		}
		read := make(chan error, 1)
		go func() {
			_, err := tun.Read(b[:])
			read <- err
		}()
		time.Sleep(20 * time.Millisecond) // the read waits
		if err := tun.Close(); err != nil {
			return err
		}
		if err := <-read; !errors.Is(err, os.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		if _, err := netlink.LinkByName(testTUN.Name); err == nil {
			t.Error("the interface is still there")
		}
		return nil
	})
}

func TestTUNSeesWhatOthersTake(t *testing.T) {
	hub := TUNConfig{Name: "tunhub", MTU: 1500, Remote: netip.MustParsePrefix("240.91.0.0/16")}
	inOwnNetwork(t, func() error {
		for _, cfg := range []TUNConfig{testTUN, hub} {
			tun, err := OpenTUN(cfg)
			if err != nil {
				return err
			}
			dev, err := netlink.LinkByName(cfg.Name)
			if err != nil {
				return err
			}
			damages := map[string]func() error{" set down": func() error { return netlink.LinkSetDown(dev) }}
			if cfg.Local.IsValid() {
				damages[" without its address"] = func() error {
					all, err := netlink.AddrList(dev, syscall.AF_INET)
					if err != nil {
						return err
					}
					return netlink.AddrDel(dev, &all[0])
				}
			} else {
				damages[" without its route"] = func() error {
					_, dst, _ := net.ParseCIDR(cfg.Remote.String())
					return netlink.RouteDel(&netlink.Route{LinkIndex: tun.Index, Dst: dst, Scope: netlink.SCOPE_LINK})
				}
			}
			for want, damage := range damages {
				if err := damage(); err != nil {
					return err
				}
				if got, err := tun.Missing(); got != cfg.Name+want || err != nil {
					t.Errorf("%q, %v; want %q", got, err, cfg.Name+want)
				}
				if err := tun.Mend(); err != nil {
					t.Errorf("mend %s%s: %v", cfg.Name, want, err)
				}
				if got, err := tun.Missing(); got != "" || err != nil {
					t.Errorf("mended: %q, %v", got, err)
				}
			}
			if err := netlink.LinkDel(dev); err != nil {
				return err
			}
			if got, err := tun.Missing(); got != cfg.Name+" gone" || err != nil {
				t.Errorf("%q, %v after the interface was removed", got, err)
			}
			if _, err := tun.Read(make([]byte, 9)); err == nil {
				t.Error("an interface that is gone can be read")
			}
			tun.Close()
		}
		return nil
	})
}
