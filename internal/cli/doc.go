// Package cli is synbond's command line: subcommands, flags, the configuration
// file, and output for people and scripts.
package cli
