package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/synbond/synbond/internal/api"
	"github.com/synbond/synbond/internal/config"
)

// view holds the flags of a command that shows the state of a running box.
type view struct {
	json, watch bool
	control     string
}

// bindView declares the flags of a view.
func bindView(cmd *cobra.Command) *view {
	v, f := &view{}, cmd.Flags()
	f.BoolVar(&v.json, "json", false, "print one JSON object")
	f.BoolVar(&v.watch, "watch", false, "repeat every second")
	bindControl(cmd, &v.control)
	return v
}

// bindControl declares the flag that names the control socket of a running box.
func bindControl(cmd *cobra.Command, path *string) {
	cmd.Flags().Var(parsed(path, "PATH", config.ParseSocket), "control", "control socket of the box (default: that of the only box under /run/synbond)")
}

// answerTimeout bounds the wait for a box's whole answer.
const answerTimeout = 10 * time.Second

// show prints the box's answer to a request, once or until the command ends.
func (v *view) show(cmd *cobra.Command, request string, pretty func(io.Writer, []byte) error) error {
	ctx := cmd.Context()
	path, err := controlPath(v.control)
	if err != nil {
		return err
	}
	for {
		answer, err := ask(ctx, path, request)
		if err != nil {
			return err
		}
		if err := v.print(cmd.OutOrStdout(), answer, pretty); err != nil || !v.watch {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(time.Second):
		}
	}
}

// ask gets the answer of the box behind a control socket.
func ask(ctx context.Context, socket, request string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, answerTimeout)
	defer cancel()
	return api.Client{Socket: socket}.Get(ctx, request)
}

func (v *view) print(w io.Writer, answer []byte, pretty func(io.Writer, []byte) error) error {
	if v.json {
		_, err := w.Write(answer)
		return err
	}
	if v.watch && interactive(w) {
		fmt.Fprint(w, "\x1b[H\x1b[2J") // home, clear
	}
	return pretty(w, answer)
}

// printed makes a printer of an answer in JSON.
func printed[T any](fn func(io.Writer, *T)) func(io.Writer, []byte) error {
	return func(w io.Writer, answer []byte) error {
		v, err := api.Decode[T](answer)
		if err != nil {
			return err
		}
		fn(w, v)
		return nil
	}
}

// controlPath returns the named control socket, or that of the only box that runs here.
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
