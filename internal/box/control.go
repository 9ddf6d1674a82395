//go:build linux

package box

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/pprof"
	"os"
	"path/filepath"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/synbond/synbond/internal/api"
)

// listen opens the control socket and, if there is to be one, the metrics
// listener. The returned function serves both until its context ends.
func (b *Box) listen(undo *undo) (serve func(context.Context) error, err error) {
	lock, err := claim()
	if err != nil {
		return nil, err
	}
	undo.add(closer(lock))
	control, err := listenControl(b.cfg.Control, undo)
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

// listenControl opens the unix socket at path. A socket without a listener is left
// over from a crashed box.
func listenControl(path string, undo *undo) (net.Listener, error) {
	hint := "choose another with --control"
	if len(path) >= len(unix.RawSockaddrUnix{}.Path) {
		return nil, fmt.Errorf("control socket %s: the path is longer than a socket's may be; %s", path, hint)
	}
	at, err := os.Lstat(path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		dir := filepath.Dir(path)
		err := os.Mkdir(dir, 0o755)
		if err != nil && !errors.Is(err, os.ErrExist) {
			return nil, fmt.Errorf("control socket: %w; %s", err, hint)
		}
		if err == nil || filepath.Base(dir) == "synbond" { // made by a box: the last one removes it
			undo.add(func() error { _ = os.Remove(dir); return nil }) // it stays while others have files there
		}
	case err != nil:
		return nil, fmt.Errorf("control socket: %w; %s", err, hint)
	case at.Mode().Type() != os.ModeSocket:
		return nil, fmt.Errorf("control socket %s: there is a file of that name; %s", path, hint)
	default:
		if c, err := net.Dial("unix", path); err == nil {
			c.Close()
			return nil, fmt.Errorf("control socket %s is in use: stop the box that runs there, or %s", path, hint)
		}
		if err := os.Remove(path); err != nil {
			return nil, fmt.Errorf("control socket: %w; %s", err, hint)
		}
	}
	l, err := net.Listen("unix", path)
	if err != nil {
		return nil, fmt.Errorf("control socket: %w; %s", err, hint)
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(fmt.Errorf("control socket: %w", err), l.Close())
	}
	return l, nil
}

// claim makes this the only box of its network namespace: its rules, its routes
// and the path manager can serve one. Abstract socket names belong to
// the namespace and vanish with their process (unix(7)).
func claim() (net.Listener, error) {
	l, err := net.Listen("unix", "@synbond")
	if errors.Is(err, unix.EADDRINUSE) {
		return nil, errors.New("another box runs in this network namespace: stop it first (`synbond flows` shows it)")
	}
	return l, err
}

func (b *Box) controlHandler() http.Handler {
	mux := http.NewServeMux()
	answer := func(resource string, write func(w io.Writer, r *http.Request) error) {
		mux.HandleFunc("GET "+resource, func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			err := write(w, r)
			var refused *api.Error // nothing has been written
			switch {
			case errors.As(err, &refused):
				refused.Write(w)
			case err != nil:
				panic(http.ErrAbortHandler) // no client must take half an answer for a whole one
			}
		})
	}
	answer(api.FlowsResource, func(w io.Writer, r *http.Request) error {
		filter, err := newFlowFilter(r.URL.Query())
		if err != nil {
			return err
		}
		return b.writeDump(w, filter)
	})
	answer(api.ExplainResource, func(w io.Writer, r *http.Request) error {
		e, err := b.explain(r.URL.Query())
		if err != nil {
			return err
		}
		return json.NewEncoder(w).Encode(e)
	})
	answer(api.PathsResource, func(w io.Writer, _ *http.Request) error { return json.NewEncoder(w).Encode(b.paths()) })
	answer(api.FindingsResource, func(w io.Writer, _ *http.Request) error {
		return json.NewEncoder(w).Encode(api.Findings{Role: string(b.cfg.Role), Findings: b.knownFindings()})
	})
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		(&api.Error{Status: http.StatusNotFound, Message: fmt.Sprintf("this box has no %s %s", r.Method, r.URL.Path)}).Write(w)
	})
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	return mux
}
