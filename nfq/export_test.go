//go:build linux

package nfq

import "github.com/google/nftables/expr"

// Expressions returns the rules as the kernel gets them, by the names of their chains.
func (r Rules) Expressions() map[string][][]expr.Any {
	all := make(map[string][][]expr.Any)
	for _, t := range r.tables() {
		for _, c := range t.chains {
			for _, rule := range c.rules {
				all[c.name] = append(all[c.name], rule.exprs())
			}
		}
	}
	return all
}
