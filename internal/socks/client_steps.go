package socks

import (
	"bytes"
	"slices"

	"github.com/things-go/go-socks5/statute"
)

// advance goes on as far as the received bytes go.
func (c *Client) advance(out []byte) ([]byte, Want) {
	for c.step != Over {
		read := clientSteps[c.step]
		if b := c.pending.bytes; len(b) > 0 {
			if err := read.early(b); err != nil {
				return out, c.fail(err)
			}
		}
		message, err := c.pending.next(read.frame)
		switch {
		case err != nil:
			return out, c.fail(err)
		case message == nil && c.ended:
			return out, c.fail(Truncated)
		case message == nil:
			return out, WantBytes
		}
		out, err = read.take(c, out, message)
		c.pending.drop(message)
		if err != nil {
			return out, c.fail(err)
		}
	}
	if c.err != nil {
		return out, Failed
	}
	return out, Done
}

// clientStep is a step in which a message of the server is awaited.
type clientStep struct {
	frame frame
	// early returns the error that the first bytes of a message show, at least one.
	early func(b []byte) error
	// take takes a whole message, appends the next one, and sets the next step.
	take func(c *Client, out, message []byte) ([]byte, error)
}

var clientSteps = [...]clientStep{
	Greeting:       {frameChoice, isSOCKS, (*Client).chosen},
	Authentication: {frameChoice, anyVersion, (*Client).checked},
	Request:        {frameRequest, isSuccess, (*Client).replied},
}

func isSOCKS(b []byte) error {
	if b[0] != statute.VersionSocks5 {
		return NotSOCKS
	}
	return nil
}

// anyVersion accepts what servers put before the status of authentication: some repeat
// the version of SOCKS. Curl looks at the status only, too.
func anyVersion([]byte) error { return nil }

// isSuccess looks at a reply's version and code: some servers close right behind the code
// of a failure.
func isSuccess(b []byte) error {
	switch {
	case b[0] != statute.VersionSocks5:
		return BadVersion
	case len(b) > 1 && Reply(b[1]) != Succeeded:
		return Reply(b[1])
	}
	return nil
}

// chosen takes the choice of a method.
func (c *Client) chosen(out, message []byte) ([]byte, error) {
	m, err := statute.ParseMethodReply(bytes.NewReader(message))
	switch {
	case err != nil:
		return out, NotSOCKS
	case m.Method == statute.MethodNoAcceptable:
		return out, NoMethod
	case !slices.Contains(c.methods(), m.Method):
		return out, OtherMethod
	case m.Method == statute.MethodUserPassAuth:
		c.step = Authentication
		if !c.early {
			out = appendLogin(out, c.login)
		}
		return out, nil
	}
	return c.ask(out), nil
}

// ask sends the request, unless it was sent early.
func (c *Client) ask(out []byte) []byte {
	c.step = Request
	if c.early {
		return out
	}
	return c.appendRequest(out)
}

// checked takes the answer to user and password.
func (c *Client) checked(out, message []byte) ([]byte, error) {
	r, err := statute.ParseUserPassReply(bytes.NewReader(message))
	if err != nil || r.Status != statute.AuthSuccess {
		return out, WrongLogin
	}
	return c.ask(out), nil
}

// replied takes the reply to the request.
func (c *Client) replied(out, message []byte) (_ []byte, err error) {
	if c.bound, err = parseReply(message); err != nil {
		return out, err
	}
	c.step = Over
	return out, nil
}

// fail ends the preface.
func (c *Client) fail(err error) Want {
	if c.step != Over {
		c.step, c.err = Over, err
		c.pending.wipe()
	}
	_, want := c.advance(nil)
	return want
}
