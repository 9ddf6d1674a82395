package core

import "strings"

// Role is the preset of a box. CPE and HAG differ in who opens further subflows; a gateway is
// not on the path of connections, its clients ask it for them.
type Role string

const (
	CPE     Role = "cpe"     // customer premises equipment: opens subflows
	HAG     Role = "hag"     // hybrid aggregation gateway: takes them
	Gateway Role = "gateway" // of clients that ask by SOCKS: takes them, too
)

// Roles are all roles.
var Roles = []Role{CPE, HAG, Gateway}

// Title returns the role as sentences have it: CPE, HAG, gateway.
func (r Role) Title() string {
	if r == Gateway {
		return string(r)
	}
	return strings.ToUpper(string(r))
}
