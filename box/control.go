package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// listen opens the control socket and, if there is to be one, the metrics
// listener. What it returns serves both until its context ends.
func (b *Box) listen(undo *undo) (serve func(context.Context) error, err error) {
	control, err := listenControl(b.cfg.Control)
	if err != nil {
		return nil, err
	}
	undo.add(closer(control))
	servers := map[net.Listener]http.Handler{control: b.controlHandler()}
	if b.cfg.Metrics != "" {
		l, err := net.Listen("tcp", b.cfg.Metrics)
		if err != nil {
			return nil, fmt.Errorf("metrics listener: %w; choose another address with --metrics", err)
		}
		undo.add(closer(l))
		servers[l] = b.metricsHandler()
	}
	return func(ctx context.Context) error {
		g, ctx := errgroup.WithContext(ctx)
		for l, handler := range servers {
			s := &http.Server{Handler: handler, ReadHeaderTimeout: 5 * time.Second}
			context.AfterFunc(ctx, func() { _ = s.Close() })
			g.Go(func() error {
				if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
					return err
				}
				return nil
			})
		}
		return g.Wait()
	}, nil
}

// closer closes a listener that may have been closed by its server already.
func closer(l net.Listener) func() error {
	return func() error {
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			return err
		}
		return nil
	}
}

// listenControl opens the unix socket at path. A socket that nobody answers on
// is the leftover of a crashed box.
func listenControl(path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, fmt.Errorf("control socket: %w; choose another with --control", err)
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return nil, fmt.Errorf("control socket %s is in use: stop the box that runs there, or choose another with --control", path)
	} else if errors.Is(err, unix.ECONNREFUSED) {
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w", err)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w; choose another with --control", err)
	}
	return l, os.Chmod(path, 0o600)
}

func (b *Box) controlHandler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /flows", func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		// A client that left early is no error of ours.
		_ = json.NewEncoder(w).Encode(b.dump(r.URL.Query().Has("all")))
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return mux
}
