// Package config is the configuration of a box: one schema for its file and its
// flags.
//
// The tags of [Settings] are the schema. From a field's tags come its key in the
// file, its flag, its default, its help and its limits, so that none of these can
// be forgotten elsewhere:
//
//	toml      key in the file
//	flag      flag, if there is one
//	value     placeholder of the flag's value in help
//	word      word of a --path, such as mode in --path lte,mode=backup
//	default   value if neither file nor flag gives one
//	oneof     permitted values, separated by spaces
//	format    permitted form of a text, see format.go
//	min, max  permitted range of a number or a time
//	role      roles that have the key, separated by spaces: a box of another one would
//	          ignore it, and so rejects it
//	required  true in an entry of an array of tables: it needs the key
//	help      text of the flag
//
// [Load] builds settings in one pass: the defaults, then the file, then the flags
// that were given. [Settings.Box] turns them into the configuration of a box. A
// mistake in the file is an error that names the file, the line and the permitted
// values; a mistake in a flag names the flag.
package config
