// Package cli is synbond's command line: subcommands, flags, the configuration
// file, and what is printed for people.
package cli
