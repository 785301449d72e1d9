package queue

import "fmt"

// Remark notes durably that a new epoch's stream begins at lsn of the WAL.
// Unlike Mark it may go back: the database may be another one now, or an older
// state of it, whose WAL counts from somewhere else.
func (q *Queue) Remark(lsn uint64) error {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return ErrClosed
	}
	q.mu.Lock()
	n := q.noteNow()
	n.Mark = lsn
	q.mu.Unlock()
	if err := q.note.save(n); err != nil {
		return fmt.Errorf("mark the queue: %w", err)
	}
	q.mu.Lock()
	q.marked = lsn
	q.mu.Unlock()
	return nil
}
