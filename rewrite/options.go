package rewrite

// Options walks an option list (RFC 9293, section 3.1), such as that of a
// [Segment], without allocating:
//
//	for walk, o := rewrite.WalkOptions(seg.Options), new(rewrite.Option); walk.Next(o); {
//		switch o.Type {
//		case rewrite.OptionDSS:
//			use(o.DSS)
//		}
//	}
//
// It yields every byte of the list once: Nops too, and End with what stands behind
// it. All of it appended in order is the list again.
type Options struct {
	rest []byte
	err  error
}

// WalkOptions starts a walk. The list must be left alone until the walk, and the
// use of what it yielded, has ended.
func WalkOptions(list []byte) Options { return Options{rest: list} }

// Next reads the next option into o. It returns false at the end of the list, and
// at an option that is bad: see [Options.Err].
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

// Err returns why the walk ended before the end of the list, which is [BadOption]:
// an option overruns the list, or has a shape that its RFC does not allow.
func (w *Options) Err() error { return w.err }

// Rest is what the walk has not yielded: after an error, the bad option and what
// follows it.
func (w *Options) Rest() []byte { return w.rest }

// AppendOptions appends a whole option list to b, and End until it fills whole
// words, as a TCP header needs it. The error is [NoOptionSpace], with b as it was.
// It allocates only to grow b.
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
