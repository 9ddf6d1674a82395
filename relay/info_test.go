//go:build linux

package relay

import (
	"testing"
	"unsafe"

	"golang.org/x/sys/unix"
)

// TestElementsOfAnOlderKernelFindTheirPlaces packs elements as a kernel does whose struct tcp_info is
// shorter, as that of Linux 6.12.
func TestElementsOfAnOlderKernelFindTheirPlaces(t *testing.T) {
	var whole unix.TCPInfo
	for _, kernel := range []uintptr{unsafe.Offsetof(whole.Received_ce), unsafe.Offsetof(whole.Total_rto), unsafe.Sizeof(whole), unsafe.Sizeof(whole) + 8} {
		var all [maxSubflows]unix.TCPInfo
		b := unsafe.Slice((*byte)(unsafe.Pointer(&all)), unsafe.Sizeof(all))
		stride := min(kernel, unsafe.Sizeof(whole))
		for i := range uintptr(maxSubflows) {
			ti := unix.TCPInfo{State: uint8(i + 1), Bytes_sent: uint64(1000 + i), Rcv_wnd: uint32(i)}
			copy(b[i*stride:], unsafe.Slice((*byte)(unsafe.Pointer(&ti)), stride))
		}
		spread(&all, kernel)
		for i, ti := range all {
			if ti.State != uint8(i+1) || ti.Bytes_sent != uint64(1000+i) || ti.Rcv_wnd != uint32(i) || ti.Received_ce != 0 {
				t.Errorf("%d bytes, element %d: %+v", kernel, i, ti)
			}
		}
	}
}
