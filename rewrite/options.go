package rewrite

// Options iterates over an option list (RFC 9293, section 3.1), such as the one of a
// [Segment], without allocation:
//
//	for walk, o := rewrite.WalkOptions(seg.Options), new(rewrite.Option); walk.Next(o); {
//		switch o.Type {
//		case rewrite.OptionDSS:
//			use(o.DSS)
//		}
//	}
//
// It yields every byte of the list once, in elements: options, each Nop, and End with
// all bytes behind it. The elements, appended in order, equal the list.
type Options struct {
	rest []byte
	err  error
}

// WalkOptions returns an iterator over a list. The elements are views: the caller must
// not change the list as long as it uses them.
func WalkOptions(list []byte) Options { return Options{rest: list} }

// Next reads the next element into o and reports whether there was one. It stops at
// the end of the list and at a bad option: see [Options.Err].
func (w *Options) Next(o *Option) bool {
	if len(w.rest) == 0 || w.err != nil {
		return false
	}
	raw, rest, err := cutOption(w.rest)
	if err == nil {
		err = o.Parse(raw[:len(raw):len(raw)])
	}
	if err != nil {
		w.err = err
		return false
	}
	w.rest = rest
	return true
}

// Err returns the error that ended the iteration before the end of the list: nil, or
// [BadOption] for an option that overruns the list or has a length or a value that
// its RFC does not allow.
func (w *Options) Err() error { return w.err }

// Rest returns the part of the list that Next has not yielded: after an error, the bad
// option and all bytes behind it.
func (w *Options) Rest() []byte { return w.rest }

// AppendOptions appends an option list to b, padded with End to whole words, the unit
// of TCP's data offset. The error is [NoOptionSpace] for more than 40 bytes, with b
// unchanged. AppendOptions allocates only to grow b.
func AppendOptions(b []byte, list []Option) ([]byte, error) {
	size := 0
	for i := range list {
		size += list[i].Len()
	}
	if size > maxOptionsSize {
		return b, NoOptionSpace
	}
	for i := range list {
		b = list[i].Append(b)
	}
	for ; size%4 != 0; size++ {
		b = append(b, optionEnd)
	}
	return b, nil
}
