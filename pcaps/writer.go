package pcaps

import (
	"bufio"
	"fmt"
	"io"
	"math"
	"path/filepath"
	"strings"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
	"github.com/gopacket/gopacket/pcapgo"
)

// Format is a kind of capture file.
type Format uint8

const (
	Pcapng Format = iota // several interfaces, directions, comments
	Pcap                 // one link type; times in nanoseconds
)

// FormatOf returns the format that the name of a file asks for: [Pcap] if it ends
// with .pcap, else [Pcapng].
func FormatOf(name string) Format {
	if strings.EqualFold(filepath.Ext(name), ".pcap") {
		return Pcap
	}
	return Pcapng
}

// Writer writes a capture file. It is not safe for concurrent use.
type Writer struct {
	// Comment is about the whole file. It is written with the first interface,
	// to pcapng only.
	Comment string

	format     Format
	w          *bufio.Writer
	pcap       *pcapgo.Writer   // of the two one is nil,
	ng         *pcapgo.NgWriter // and both before the first interface
	interfaces map[Interface]int
	link       LinkType // of pcap
}

// NewWriter returns a Writer. Nothing is written before the first interface.
func NewWriter(w io.Writer, format Format) *Writer {
	return &Writer{format: format, w: bufio.NewWriterSize(w, 64<<10), interfaces: make(map[Interface]int)}
}

// Add describes an interface ahead of its first frame, if that has not been done:
// a file with an interface and no frame is a whole one. A pcap file can have one
// link type only, and keeps nothing else of an interface.
func (w *Writer) Add(in Interface) error {
	_, err := w.add(in)
	return err
}

func (w *Writer) add(in Interface) (index int, err error) {
	index, known := w.interfaces[in]
	if known {
		return index, nil
	}
	if w.format == Pcap {
		err = w.addPcap(in)
	} else {
		index, err = w.addNg(in)
	}
	if err == nil {
		w.interfaces[in] = index
	}
	return index, err
}

func (w *Writer) addPcap(in Interface) error {
	if w.pcap != nil {
		if in.LinkType != w.link {
			return fmt.Errorf("a pcap file has one link type, and these frames have two: %v, %v; pcapng takes both", w.link, in.LinkType)
		}
		return nil
	}
	const snapLength = 256 << 10 // the most that tcpdump captures
	w.pcap, w.link = pcapgo.NewWriterNanos(w.w), in.LinkType
	return w.pcap.WriteFileHeader(snapLength, layers.LinkType(in.LinkType))
}

func (w *Writer) addNg(in Interface) (index int, err error) {
	ng := pcapgo.NgInterface{Name: in.Name, Description: in.Description, LinkType: layers.LinkType(in.LinkType)}
	if w.ng != nil {
		return w.ng.AddInterface(ng)
	}
	if err := checkComments([]string{w.Comment}); err != nil {
		return 0, err
	}
	w.ng, err = pcapgo.NewNgWriterInterface(w.w, ng, pcapgo.NgWriterOptions{
		SectionInfo: pcapgo.NgSectionInfo{Application: "synbond", Comment: w.Comment},
	})
	return 0, err
}

// Write writes a frame that was captured at an interface. To pcapng it writes the
// frame's direction and comments too, and then further comments; one comment has
// up to 65,535 bytes.
func (w *Writer) Write(f *Frame, in Interface, comments ...string) error {
	index, err := w.add(in)
	if err != nil {
		return err
	}
	info := gopacket.CaptureInfo{
		Timestamp: f.Time, CaptureLength: len(f.Data), Length: f.Length, InterfaceIndex: index,
	}
	if w.format == Pcap {
		return w.pcap.WritePacket(info, f.Data)
	}
	var options pcapgo.NgPacketOptions
	if f.Direction != Unknown {
		options.Flags = &pcapgo.NgEpbFlags{Direction: pcapgo.NgEpbFlag(f.Direction)}
	}
	options.Comments = append(options.Comments, f.Comments...)
	options.Comments = append(options.Comments, comments...)
	if err := checkComments(options.Comments); err != nil {
		return err
	}
	return w.ng.WritePacketWithOptions(info, f.Data, options)
}

// checkComments refuses those whose length the library would write modulo 65,536.
func checkComments(comments []string) error {
	for _, c := range comments {
		if len(c) > math.MaxUint16 {
			return fmt.Errorf("a comment of %d bytes: pcapng takes %d", len(c), math.MaxUint16)
		}
	}
	return nil
}

// Flush hands all frames to the underlying writer. Nothing is written before the
// first interface or frame.
func (w *Writer) Flush() error { return w.w.Flush() }
