package config

import (
	"reflect"
	"strings"

	"github.com/synbond/synbond/internal/core"
)

// Settings are all that can be configured of a box. docs/configuration.md and
// examples/reference.toml explain every key.
type Settings struct {
	Plain         []string  `toml:"plain" flag:"plain" value:"IF" format:"interface" role:"cpe hag" help:"interface that faces hosts without MPTCP (repeat for more)"`
	Paths         []Path    `toml:"path" flag:"path" value:"IF[,WORD=VALUE]..." role:"cpe hag" help:"interface of a path, with any of WORDS; new flows are routed over the first path (repeat for more)"`
	Join          []Address `toml:"join" flag:"join" value:"ADDR:PORT" role:"hag gateway" help:"address of this machine and port for further subflows, once per address family"`
	OwnSource4    bool      `toml:"own_source4" flag:"own-source4" default:"false" role:"cpe" help:"dial IPv4 from this box's own address, where a client's would need NAT"`
	Encapsulation string    `toml:"encapsulation" flag:"encapsulation" value:"E" oneof:"auto off" default:"auto" role:"cpe hag" help:"carry subflows in UDP where a path refuses them: auto or off"`
	FirstPathDown string    `toml:"first_path_down" flag:"first-path-down" value:"W" oneof:"pass own-source" default:"pass" role:"cpe" help:"what to do with new flows while the first path is down"`
	StateDir      string    `toml:"state_dir" flag:"state-dir" value:"DIR" format:"folder" default:"/var/lib/synbond" help:"folder of the file with the usage of quotas"`
	Action        string    `toml:"action" flag:"action" value:"A" oneof:"relay pass strip learn reject" default:"relay" help:"default action"`
	Control       string    `toml:"control" flag:"control" value:"PATH" format:"socket" default:"/run/synbond/ROLE.sock" help:"path of the control socket"`
	// Queue is the number of the NFQUEUE.
	Queue             int        `toml:"queue" flag:"queue" value:"N" min:"0" max:"65535" default:"91" role:"cpe hag" help:"number of the NFQUEUE"`
	Metrics           string     `toml:"metrics" flag:"metrics" value:"ADDR" format:"listener" help:"address for Prometheus metrics, such as [::1]:9100"`
	Record            string     `toml:"record" flag:"record" value:"DIR" role:"cpe hag" help:"folder in which handshakes are recorded"`
	RecordFiles       int        `toml:"record_files" min:"1" default:"10" role:"cpe hag"`
	RecordFileSize    int        `toml:"record_file_size" min:"100000" default:"10000000" role:"cpe hag"` // bytes
	CongestionControl string     `toml:"congestion_control" flag:"congestion-control" value:"C" help:"congestion control of multipath legs, such as bbr (default: the kernel's)"`
	InitialWindow     int        `toml:"initial_window" flag:"initial-window" value:"N" min:"0" max:"65535" default:"64" help:"initial window of the first subflow of a multipath leg, and of further ones until the box has learnt more, in segments; 0 for the kernel's"`
	LogLevel          Level      `toml:"log_level" flag:"log-level" value:"L" default:"info" help:"debug, info, warn or error"`
	EndToEnd          string     `toml:"end_to_end" oneof:"marked prefer" default:"marked" role:"cpe hag"`
	EndToEndDSCP      int        `toml:"end_to_end_dscp" min:"0" max:"63" default:"43" role:"cpe hag"`
	Gateway           Gateway    `toml:"gateway"`
	Upstream          Upstream   `toml:"upstream"`
	Limits            Limits     `toml:"limits"`
	Probe             Probe      `toml:"probe"`
	Learn             LearnCache `toml:"learn"`
	Timeouts          Timeouts   `toml:"timeouts"`
	Users             []User     `toml:"user"`
	Rules             []Rule     `toml:"rule"`

	origin *document // the file, nil without one
	given  []string  // keys that flags have set
}

// Path is one [[path]].
type Path struct {
	Interface   string    `toml:"interface" format:"interface" required:"true" role:"cpe hag"`
	Name        string    `toml:"name" word:"name" value:"N" role:"cpe hag"` // "" for that of the interface
	Join        []Address `toml:"join" word:"join" value:"ADDR:PORT" role:"cpe"`
	Mode        string    `toml:"mode" word:"mode" value:"M" oneof:"always overflow standby backup" default:"always" role:"cpe"`
	BusyRate    Rate      `toml:"busy_rate" word:"busy" value:"RATE" role:"cpe"`
	BusyFor     Duration  `toml:"busy_for" default:"500ms" role:"cpe"`
	IdleFor     Duration  `toml:"idle_for" default:"5s" role:"cpe"`
	Quota       Size      `toml:"quota" word:"quota" value:"SIZE/PERIOD" role:"cpe"`
	QuotaPeriod string    `toml:"quota_period" oneof:"day week month" default:"month" role:"cpe"`
	QuotaStart  int       `toml:"quota_start" min:"0" max:"28" default:"1" role:"cpe"`
	Rate        Rate      `toml:"rate" word:"rate" value:"RATE" role:"cpe"`
	Keepalive   Duration  `toml:"keepalive" word:"keepalive" value:"TIME" role:"cpe"`
	QUIC        string    `toml:"quic" word:"quic" value:"Q" oneof:"pass reject" default:"pass" role:"cpe"`
}

// Gateway has the settings for clients that ask for their destination.
type Gateway struct {
	Socks []Address `toml:"socks" flag:"socks" value:"ADDR:PORT" role:"hag gateway" help:"address of this machine and port for SOCKS clients (repeat for more)"`
	Users string    `toml:"users" flag:"users" value:"FILE" role:"hag gateway" help:"file with users and hashes of their passwords (see synbond passwd)"`
	Admit []Prefix  `toml:"admit" flag:"admit" value:"PREFIX" role:"hag gateway" help:"prefix of clients that need no user (repeat for more)"`
	Open  bool      `toml:"open" flag:"open" role:"hag gateway" help:"let everybody in without a user"`
}

// Upstream has the servers through which a CPE's connections go, where there is no HAG.
type Upstream struct {
	Servers      []Server `toml:"servers" flag:"upstream" value:"socks5://[USER@]HOST:PORT" role:"cpe" help:"SOCKS server through which connections go, in the place of a HAG (repeat for more, in the order of preference)"`
	PasswordFile string   `toml:"password_file" flag:"password-file" value:"FILE" role:"cpe" help:"file with the password of the users in --upstream, to which its owner only has rights"`
	Down         string   `toml:"down" flag:"upstream-down" value:"W" oneof:"pass reject" default:"pass" role:"cpe" help:"what to do with new flows while no upstream can be used"`
	Order        string   `toml:"order" oneof:"listed fastest" default:"listed" role:"cpe"`
}

// Limits bound the number of flows.
type Limits struct {
	Flows    int `toml:"flows" min:"0" default:"100000"`
	HalfOpen int `toml:"half_open" min:"0" default:"8192"`
	Ended    int `toml:"ended" min:"0" default:"4096"`
	// UserFlows bounds the live flows of each user; 0 for no limit.
	UserFlows int `toml:"user_flows" min:"0" role:"hag gateway"`
}

// Probe has the settings of the probes between CPE and HAG. The limits are those
// of package paths.
type Probe struct {
	Every   Duration `toml:"every" min:"10ms" max:"1s" default:"50ms" role:"cpe"`
	Idle    Duration `toml:"idle" min:"100ms" max:"10s" default:"5s" role:"cpe"`
	Silence Duration `toml:"silence" min:"20ms" max:"1m" default:"200ms" role:"cpe"`
	Hold    Duration `toml:"hold" min:"1ms" max:"1m" default:"1s" role:"cpe"`
	Secret  string   `toml:"secret" role:"cpe hag"`
	Off     bool     `toml:"off" default:"false" role:"cpe"`
}

// LearnCache bounds the destinations that action learn remembers.
type LearnCache struct {
	Prefix4 int      `toml:"prefix4" min:"0" max:"32" default:"32" role:"cpe hag"`
	Prefix6 int      `toml:"prefix6" min:"0" max:"128" default:"64" role:"cpe hag"`
	TTL     Duration `toml:"ttl" default:"1h" role:"cpe hag"`
	Max     int      `toml:"max" min:"0" default:"10000" role:"cpe hag"`
}

// Timeouts of flows.
type Timeouts struct {
	Dial      Duration `toml:"dial" default:"20s"`
	HalfOpen  Duration `toml:"half_open" default:"64s"`
	Keepalive Duration `toml:"keepalive" default:"2h4m"`
}

// User is one [[user]]: what a user of a gateway may carry.
type User struct {
	Name        string `toml:"name" required:"true" role:"hag gateway"` // or * for all who have no table of their own
	Rate        Rate   `toml:"rate" role:"hag gateway"`
	Quota       Size   `toml:"quota" role:"hag gateway"`
	QuotaPeriod string `toml:"quota_period" oneof:"day week month" default:"month" role:"hag gateway"`
	QuotaStart  int    `toml:"quota_start" min:"0" max:"28" default:"1" role:"hag gateway"`
}

// Rule is one [[rule]] of the policy. A key that is left out matches everything.
type Rule struct {
	Name      string   `toml:"name"` // "" for rule-N
	From      []Prefix `toml:"from"`
	To        []Prefix `toml:"to"`
	Ports     []Ports  `toml:"ports"`
	Side      string   `toml:"side" oneof:"plain multipath" role:"cpe hag"`
	MPCapable *bool    `toml:"mp_capable"`
	Action    string   `toml:"action" oneof:"relay pass strip learn reject" required:"true"`
	Paths     []string `toml:"paths" role:"cpe"`
	After     Size     `toml:"after" role:"cpe"`
	QUIC      string   `toml:"quic" oneof:"pass reject" role:"cpe"` // "" for that of the path
	Users     []string `toml:"users" role:"hag gateway"`
	Names     []string `toml:"names" format:"name" role:"hag gateway"`
}

// Defaults returns the settings of a box without file and flags.
func Defaults(role core.Role) *Settings {
	s := &Settings{}
	for at := range fields(s) {
		if at.key.Default != "" {
			if err := at.key.set(at.value, at.key.defaultFor(role)); err != nil {
				panic("default of " + at.key.Name + ": " + err.Error()) // a mistake in a tag
			}
		}
	}
	return s
}

// defaultFor returns the key's default for a role.
func (k *Key) defaultFor(role core.Role) string { return named(k.Default, role) }

// named returns a text with the name of a role, if there is one, for the word ROLE.
func named(text string, role core.Role) string {
	if role == "" {
		return text
	}
	return strings.ReplaceAll(text, "ROLE", string(role))
}

// complete sets the defaults of paths and users, once file and flags have been read.
func (s *Settings) complete() {
	for at := range fields(s) {
		if strings.Contains(at.path, "[") && at.key.Default != "" && at.value.IsZero() {
			_ = at.key.set(at.value, at.key.Default) // a test sets every default
		}
	}
}

// withDefaults returns the path with the defaults of the keys that it leaves out.
func (p Path) withDefaults() Path {
	s := Settings{Paths: []Path{p}}
	s.complete()
	return s.Paths[0]
}

// fieldOf returns the field of a key that is in no array of tables.
func (s *Settings) fieldOf(k *Key) reflect.Value {
	return reflect.ValueOf(s).Elem().FieldByIndex(k.index)
}
