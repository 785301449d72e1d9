package apply

// Where the same rows change again and again, a larger batch has less to do:
// a row is written once for all that happened to it. Where each change is of
// another row it only makes readers wait longer, and was measured to be slower.

// foldMaxChanges ends a batch that grows beyond batchMaxChanges because folding
// pays. batchMaxBytes holds all the same.
const foldMaxChanges = 3 * batchMaxChanges

// beside is the part of a batch that is one while others wait: what they wait for
// comes behind all of it.
const beside = 4

// full reports whether the batch, with more changes to come, is large enough.
func (a *Applier) full(b *batch, more int) bool {
	n := b.changes + more
	if beside*n <= batchMaxChanges {
		return false
	}
	if a.cfg.GiveWay() {
		n *= beside
	}
	return n > foldMaxChanges || n > batchMaxChanges && !b.folds()
}

// folds reports whether the rows are at most two thirds of the changes.
func (b *batch) folds() bool {
	if b.fold == nil {
		return false
	}
	rows := 0
	for _, t := range b.fold.tables {
		for _, o := range t.ops {
			switch {
			case o.set != nil:
				rows += len(o.set.entries)
			case o.keyRange != nil:
				rows += len(o.keyRange.Rows)
			}
		}
		if len(t.ops) > 1 {
			return false // not into one set: what cannot be merged came in between
		}
	}
	return 3*rows <= 2*b.changes
}
