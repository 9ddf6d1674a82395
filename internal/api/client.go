package api

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
)

// Resources of a control socket.
const (
	FlowsResource = "/flows"
	PathsResource = "/paths"
	// FindingsResource has the obstacles that the box knows of.
	FindingsResource = "/findings"
	// AllQuery asks [FlowsResource] also for flows that have ended lately.
	AllQuery = "all"
)

// Client asks the box behind a control socket.
type Client struct {
	Socket string // path of the unix socket
}

// Flows returns the live flows of the box, and with all also those that ended
// lately and the learnt destinations.
func (c Client) Flows(ctx context.Context, all bool) (*Dump, error) {
	return get[Dump](ctx, c, FlowsRequest(all))
}

// Paths returns the paths of the box.
func (c Client) Paths(ctx context.Context) (*Paths, error) { return get[Paths](ctx, c, PathsResource) }

// Findings returns the obstacles that the box knows of.
func (c Client) Findings(ctx context.Context) (*Findings, error) {
	return get[Findings](ctx, c, FindingsResource)
}

// FlowsRequest returns the request for the flows of a box, see [Client.Get].
func FlowsRequest(all bool) string { return FlowFilter{All: all}.Request() }

func get[T any](ctx context.Context, c Client, request string) (*T, error) {
	b, err := c.Get(ctx, request)
	if err != nil {
		return nil, err
	}
	return Decode[T](b)
}

// Decode decodes the answer to a request. Keys of a newer box are skipped.
func Decode[T any](answer []byte) (*T, error) {
	v := new(T)
	if err := json.Unmarshal(answer, v); err != nil {
		return nil, fmt.Errorf("the box's answer cannot be read by this version of synbond: %w", err)
	}
	return v, nil
}

// Get returns the answer to a request, a resource with its query, as the box has
// written it. An answer with a status other than 200 is an [*Error].
func (c Client) Get(ctx context.Context, request string) ([]byte, error) {
	client := http.Client{Transport: &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", c.Socket)
		},
		DisableKeepAlives: true,
	}}
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://box"+request, nil)
	if err != nil {
		return nil, err
	}
	resp, err := client.Do(req)
	if err != nil {
		return nil, fmt.Errorf("no box answers at %s: %w", c.Socket, withoutURL(err))
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the box at %s: %w", c.Socket, readError(resp))
	}
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, fmt.Errorf("the answer of the box at %s is incomplete: %w", c.Socket, err)
	}
	return b, nil
}

// withoutURL takes the URL out of an error of [http.Client.Do]: its host is not one.
func withoutURL(err error) error {
	if u, ok := err.(*url.Error); ok {
		return u.Err
	}
	return err
}
