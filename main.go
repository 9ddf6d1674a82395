// Command synbond turns two routers into a hybrid access network: it carries
// the TCP connections of hosts without Multipath TCP over several access lines
// at once. See the README and `synbond --help`.
package main

import (
	"os"

	"github.com/synbond/synbond/internal/cli"
)

func main() { os.Exit(cli.Main(os.Args[1:], os.Stdout, os.Stderr)) }
