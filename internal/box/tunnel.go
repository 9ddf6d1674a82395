//go:build linux

package box

import (
	"io"
	"sync"
	"sync/atomic"

	"github.com/synbond/synbond/internal/encap"
	"github.com/synbond/synbond/internal/host"
)

// device is a TUN interface. [host.TUN] is one.
type device interface {
	io.ReadWriteCloser
	Missing() (string, error)
	Mend() error
}

// tunnel is a TUN interface of the box, and the goroutine that reads its packets.
type tunnel struct {
	device
	index  int
	config host.TUNConfig
	broken atomic.Bool // others have removed the interface
	reads  sync.WaitGroup
}

// largestPacket is the size in bytes of the largest packet that is read.
const largestPacket = 1500

// openTunnel makes an interface. Each packet that the kernel sends by it is handed to take, in a
// buffer in which it begins at [encap.HeaderSize]; the buffer is valid until take returns.
func openTunnel(c host.TUNConfig, take func(b []byte)) (*tunnel, error) {
	tun, err := host.OpenTUN(c)
	if err != nil {
		return nil, err
	}
	t := &tunnel{device: tun, index: tun.Index, config: c}
	t.reads.Go(func() { t.read(take) })
	return t, nil
}

// read reads until the interface has gone.
func (t *tunnel) read(take func(b []byte)) {
	var b [encap.HeaderSize + largestPacket]byte
	for {
		n, err := t.Read(b[encap.HeaderSize:])
		if err != nil {
			t.broken.Store(true)
			return
		}
		take(b[:encap.HeaderSize+n])
	}
}

// close removes the interface.
func (t *tunnel) close() error {
	err := t.Close()
	t.reads.Wait()
	return err
}

// missing names what others have taken from the interface, "" for nothing.
func (t *tunnel) missing() (string, error) {
	if t.broken.Load() {
		return t.config.Name + " gone", nil
	}
	return t.Missing()
}
