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

// Format is a format of capture files.
type Format uint8

// The formats.
const (
	Pcapng Format = iota // with several interfaces, directions, comments
	Pcap                 // with one link type, and times in nanoseconds
)

// FormatOf returns the format for the name of a file: [Pcap] if it ends with .pcap, or
// else [Pcapng].
func FormatOf(name string) Format {
	if strings.EqualFold(filepath.Ext(name), ".pcap") {
		return Pcap
	}
	return Pcapng
}

// Writer writes a capture file. It is not safe for concurrent use.
type Writer struct {
	// Comment is a comment on the whole file. The Writer writes it before the first
	// interface, to pcapng only.
	Comment string

	format     Format
	w          *bufio.Writer
	pcap       *pcapgo.Writer   // nil for pcapng, and before the first interface
	ng         *pcapgo.NgWriter // nil for pcap, and before the first interface
	interfaces map[Interface]int
	link       LinkType // of a pcap file
}

// NewWriter returns a Writer. It writes nothing before the first interface or frame.
func NewWriter(w io.Writer, format Format) *Writer {
	return &Writer{format: format, w: bufio.NewWriterSize(w, 64<<10), interfaces: make(map[Interface]int)}
}

// Add writes the description of an interface, if the file does not have it. A file without
// frames needs one for its header. Write adds interfaces by itself. A pcap file can have
// only one link type, and no name or description.
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
	const snapLength = 256 << 10 // the maximum of tcpdump
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

// Write writes a frame of an interface. To pcapng it also writes the direction and the
// comments of the frame, and then further comments. A comment has at most 65,535 bytes.
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

// checkComments refuses a comment longer than 65,535 bytes: the library would write its
// length modulo 65,536.
func checkComments(comments []string) error {
	for _, c := range comments {
		if len(c) > math.MaxUint16 {
			return fmt.Errorf("a comment of %d bytes: pcapng takes %d", len(c), math.MaxUint16)
		}
	}
	return nil
}

// Flush writes all buffered data to the underlying writer.
func (w *Writer) Flush() error { return w.w.Flush() }
