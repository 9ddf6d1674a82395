package rewrite

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// fields are the values that tshark should print for an option, by the names of
// tshark's fields.
type fields map[string]string

// option sets one of tcp.options.
func (m fields) option(name string, value any) { m["tcp.options."+name] = fmt.Sprint(value) }

// mptcp sets one of tcp.options.mptcp.
func (m fields) mptcp(name string, value any) { m.option("mptcp."+name, value) }

// bit sets a flag: tshark prints 0 or 1.
func (m fields) bit(name string, on bool) {
	m.mptcp(name+".flag", map[bool]int{true: 1}[on])
}

// tsharkFields are all fields in the request to tshark.
var tsharkFields = func() map[string]bool {
	all := map[string]bool{"tcp.option_len": true, "mptcp.rm_addr.count": true,
		"mptcp.expected_token": true, "mptcp.expected_idsn": true}
	for name := range strings.FieldsSeq(`mss_val wscale.shift sack_le sack_re timestamp.tsval timestamp.tsecr tfo.cookie
		mptcp.subtype mptcp.version mptcp.flags mptcp.reserved mptcp.backup.flag mptcp.checksumreq.flags
		mptcp.extensibility.flag mptcp.nomoresubflows.flag mptcp.sha1.flag mptcp.sha256.flag mptcp.sendkey mptcp.recvkey
		mptcp.datalvllen mptcp.checksum mptcp.addrid mptcp.recvtok mptcp.sendrand mptcp.sendtrunchmac mptcp.sendhmac
		mptcp.datafin.flag mptcp.dseqn8.flag mptcp.dseqnpresent.flag mptcp.dataack8.flag mptcp.dataackpresent.flag
		mptcp.rawdataack mptcp.rawdataseqno mptcp.subflowseqno mptcp.ipver mptcp.echo mptcp.ipv4 mptcp.ipv6 mptcp.port
		mptcp.addaddrtrunchmac mptcp.flag_U.flag mptcp.flag_V.flag mptcp.flag_W.flag mptcp.flag_T.flag mptcp.rst_reason`) {
		all["tcp.options."+name] = true
	}
	return all
}()

func fieldsOf(o *Option) fields {
	m := fields{"tcp.option_len": fmt.Sprint(o.Len())}
	switch o.Type {
	case OptionMSS:
		m.option("mss_val", o.MSS)
	case OptionWindowScale:
		m.option("wscale.shift", o.WindowScale)
	case OptionSACK:
		var left, right []string
		for _, b := range o.SACK.Blocks[:o.SACK.Count] {
			left, right = append(left, fmt.Sprint(b.Left)), append(right, fmt.Sprint(b.Right))
		}
		m.option("sack_le", strings.Join(left, ","))
		m.option("sack_re", strings.Join(right, ","))
	case OptionTimestamps:
		m.option("timestamp.tsval", o.Timestamps.Value)
		m.option("timestamp.tsecr", o.Timestamps.Echo)
	case OptionFastOpen:
		if len(o.FastOpen.Cookie) > 0 {
			m.option("tfo.cookie", fmt.Sprintf("%x", o.FastOpen.Cookie))
		}
	case OptionDSS:
		m.dss(&o.DSS)
	case OptionAddAddr:
		m.addAddr(&o.AddAddr)
	case OptionMPCapable:
		m.capable(&o.MPCapable)
	case OptionMPJoinSYN, OptionMPJoinSYNACK, OptionMPJoinACK:
		m.join(o)
	default:
		m.signal(o)
	}
	return m
}

func (m fields) capable(c *MPCapable) {
	m.mptcp("subtype", 0)
	m.mptcp("version", c.Version)
	m.mptcp("flags", c.Flags)
	m.mptcp("checksumreq.flags", c.Flags>>7)
	m.bit("extensibility", c.Flags&CapableExtended != 0)
	if c.Version == 1 {
		m.bit("nomoresubflows", c.Flags&CapableNoAddress != 0)
		m.bit("sha256", c.Flags&CapableHMACSHA != 0)
	} else {
		m.bit("sha1", c.Flags&CapableHMACSHA != 0)
	}
	if c.Form >= CapableKey {
		m.mptcp("sendkey", c.SenderKey)
		m["mptcp.expected_token"] = fmt.Sprint(Token(c.SenderKey, c.Version))
		m["mptcp.expected_idsn"] = fmt.Sprint(IDSN(c.SenderKey, c.Version))
	}
	if c.Form >= CapableKeys {
		m.mptcp("recvkey", c.ReceiverKey)
	}
	if c.Form >= CapableData {
		m.mptcp("datalvllen", c.DataLength)
	}
	if c.Form >= CapableDataChecksum {
		m.mptcp("checksum", c.Checksum)
	}
}

func (m fields) join(o *Option) {
	m.mptcp("subtype", 1)
	opening := func(backup bool, reserved, id uint8, nonce uint32) {
		m.mptcp("flags", 0x10|backupNibble(backup, reserved)) // includes the subtype
		m.bit("backup", backup)
		m.mptcp("addrid", id)
		m.mptcp("sendrand", nonce)
	}
	switch o.Type {
	case OptionMPJoinSYN:
		j := &o.MPJoinSYN
		opening(j.Backup, j.Reserved, j.AddressID, j.Nonce)
		m.mptcp("recvtok", j.Token)
	case OptionMPJoinSYNACK:
		j := &o.MPJoinSYNACK
		opening(j.Backup, j.Reserved, j.AddressID, j.Nonce)
		m.mptcp("sendtrunchmac", j.HMAC)
	case OptionMPJoinACK:
		m.mptcp("reserved", o.MPJoinACK.Reserved)
		m.mptcp("sendhmac", fmt.Sprintf("%x", o.MPJoinACK.HMAC))
	}
}

func (m fields) dss(d *DSS) {
	m.mptcp("subtype", 2)
	m.mptcp("flags", d.Append(nil)[3])
	m.bit("dataackpresent", d.HasAck)
	m.bit("dataack8", d.WideAck)
	m.bit("dseqnpresent", d.HasMap)
	m.bit("dseqn8", d.WideDSN)
	m.bit("datafin", d.DataFIN)
	if d.HasAck {
		m.mptcp("rawdataack", d.Ack)
	}
	if d.HasMap {
		m.mptcp("rawdataseqno", d.DSN)
		m.mptcp("subflowseqno", d.SubflowSeq)
		m.mptcp("datalvllen", d.DataLength)
	}
	if d.HasChecksum {
		m.mptcp("checksum", d.Checksum)
	}
}

func (m fields) addAddr(a *AddAddr) {
	m.mptcp("subtype", 3)
	m.mptcp("addrid", a.AddressID)
	if n := a.nibble(); n == 4 || n == 6 { // tshark takes these reserved bits for an IP version
		m.mptcp("ipver", n)
	} else {
		m.mptcp("echo", a.nibble()&1)
	}
	if a.Address.Is4() {
		m.mptcp("ipv4", a.Address)
	} else {
		m.mptcp("ipv6", a.Address)
	}
	if a.HasPort {
		m.mptcp("port", a.Port)
	}
	if a.hasHMAC() {
		m.mptcp("addaddrtrunchmac", a.HMAC)
	}
}

func (m fields) signal(o *Option) {
	switch o.Type {
	case OptionRemoveAddr:
		m.mptcp("subtype", 4)
		m["mptcp.rm_addr.count"] = fmt.Sprint(len(o.RemoveAddr.IDs))
		m.mptcp("addrid", strings.Trim(strings.ReplaceAll(fmt.Sprint(o.RemoveAddr.IDs), " ", ","), "[]"))
	case OptionMPPrio:
		m.mptcp("subtype", 5)
		m.mptcp("flags", 0x50|backupNibble(o.MPPrio.Backup, o.MPPrio.Reserved)) // includes the subtype
		m.bit("backup", o.MPPrio.Backup)
		if o.MPPrio.HasAddressID {
			m.mptcp("addrid", o.MPPrio.AddressID)
		}
	case OptionMPFail:
		m.mptcp("subtype", 6)
		m.mptcp("reserved", o.MPFail.Reserved)
		m.mptcp("rawdataseqno", o.MPFail.DSN)
	case OptionMPFastclose:
		m.mptcp("subtype", 7)
		m.mptcp("reserved", o.MPFastclose.Reserved)
		m.mptcp("recvkey", o.MPFastclose.ReceiverKey)
	case OptionMPTCPRST:
		m.mptcp("subtype", 8)
		r := &o.MPTCPRST
		m.mptcp("flags", o.Append(nil)[2]) // includes the subtype
		m.bit("flag_U", r.Reserved&4 != 0)
		m.bit("flag_V", r.Reserved&2 != 0)
		m.bit("flag_W", r.Reserved&1 != 0)
		m.bit("flag_T", r.Transient)
		m.mptcp("rst_reason", uint8(r.Reason))
	case OptionMPExperimental:
		m.mptcp("subtype", 15)
	}
}

// randomOption returns an option of a random type with random fields.
func randomOption(rng *rand.Rand, all []element) Option {
	for {
		o := all[rng.IntN(len(all))].value
		if o.Type == OptionEnd || o.Type == OptionNop || o.Type == OptionUnknown {
			continue // without fields in tshark
		}
		// The first bytes select the layout; the others may have any value.
		wire := o.Append(nil)
		keep := 2
		switch {
		case o.Type == OptionDSS:
			keep = 4
		case o.Type.IsMPTCP():
			keep = 3
		}
		copy(wire[keep:], randomBytes(rng, len(wire)-keep))
		if err := o.Parse(wire); err != nil {
			panic(err)
		}
		return o
	}
}
