package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// view is how to show what a running box says about itself.
type view struct {
	json, watch bool
	control     string
}

// bindView declares the flags of a view.
func (c *invocation) bindView() *view {
	v := &view{}
	c.flags.BoolVar(&v.json, "json", false, "print one JSON object")
	c.flags.BoolVar(&v.watch, "watch", false, "show it again every second")
	c.flags.StringVar(&v.control, "control", "", "control socket of the box (default: that of the only box under /run/synbond)")
	return v
}

// show prints what the box says about something, once or until ctx ends.
func (v *view) show(ctx context.Context, c *invocation, about string, pretty func(io.Writer, []byte) error) error {
	path, err := controlPath(v.control)
	if err != nil {
		return err
	}
	for {
		raw, err := ask(ctx, path, about)
		if err != nil {
			return err
		}
		if err := v.print(c.stdout, raw, pretty); err != nil || !v.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

func (v *view) print(w io.Writer, raw []byte, pretty func(io.Writer, []byte) error) error {
	if v.json {
		_, err := w.Write(raw)
		return err
	}
	if v.watch && interactive(w) {
		fmt.Fprint(w, "\x1b[H\x1b[2J") // home, clear
	}
	return pretty(w, raw)
}

// printed makes a printer of what a box says in JSON.
func printed[T any](fn func(io.Writer, T)) func(io.Writer, []byte) error {
	return func(w io.Writer, raw []byte) error {
		var v T
		if err := json.Unmarshal(raw, &v); err != nil {
			return fmt.Errorf("the box answered what this version cannot read: %w", err)
		}
		fn(w, v)
		return nil
	}
}

// controlPath finds the one box that runs here, unless told which.
func controlPath(named string) (string, error) {
	if named != "" {
		return named, nil
	}
	sockets, _ := filepath.Glob("/run/synbond/*.sock") // the pattern is right
	var alive []string
	for _, s := range sockets {
		if c, err := net.Dial("unix", s); err == nil {
			c.Close()
			alive = append(alive, s)
		}
	}
	switch len(alive) {
	case 0:
		return "", errors.New("no box answers under /run/synbond: start one, run this as root, or name its --control socket")
	case 1:
		return alive[0], nil
	}
	return "", fmt.Errorf("several boxes run here: choose one with --control %s", strings.Join(alive, " or "))
}

// ask gets what the box behind a control socket says about something.
func ask(ctx context.Context, path, about string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		},
		DisableKeepAlives: true,
	}, Timeout: 10 * time.Second}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://box/"+about, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no box answers at %s: %w", path, errors.Unwrap(err))
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}
