package queue

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/agogsaas/holdfast/internal/change"
)

// Shrink writes the whole log anew, in a folder beside the old one, and renames
// it when it is complete and on the disk: that is the moment from which it
// counts. A crash before leaves the old log, a crash after the new one. What is
// left of the other is removed when the queue is opened.

const (
	logPrefix  = "log-"
	unfinished = ".new"
	// shrinkBatchBytes is how much is written with one fsync.
	shrinkBatchBytes = 8 << 20
)

// logDir returns the folder of the log that counts, and its number: the queue's
// own, number 0, until it was shrunk for the first time.
func logDir(dir string) (string, uint64, error) {
	list, err := os.ReadDir(dir)
	if err != nil {
		return "", 0, err
	}
	var newest uint64
	for _, e := range list {
		n, err := strconv.ParseUint(strings.TrimPrefix(e.Name(), logPrefix), 10, 64)
		if err == nil && strings.HasPrefix(e.Name(), logPrefix) && e.IsDir() {
			newest = max(newest, n)
		}
	}
	return logPath(dir, newest), newest, nil
}

func logPath(dir string, n uint64) string {
	if n == 0 {
		return dir
	}
	return filepath.Join(dir, logPrefix+strconv.FormatUint(n, 10))
}

// sweepLogs removes what a shrinking has left of logs other than number n.
func sweepLogs(dir string, n uint64) error {
	list, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range list {
		old := strings.HasPrefix(e.Name(), logPrefix) && e.IsDir() && filepath.Join(dir, e.Name()) != logPath(dir, n)
		if n > 0 && !e.IsDir() {
			old = old || strings.HasSuffix(e.Name(), segmentSuffix) || strings.HasPrefix(e.Name(), "segments.")
		}
		if old {
			if err := os.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}

// Unshrunk counts the bytes that were appended since the last Shrink.
func (q *Queue) Unshrunk() int64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.ix.total.bytes - max(q.shrunk, q.ix.ackSums.bytes)
}

// Shrink replaces each frame with what thin makes of it, which must keep its
// numbers, and returns how many bytes fewer wait then. Cursors go on where they
// are. Nothing can be appended or acknowledged meanwhile. On error the queue is
// as it was; when even that cannot be made sure of, it takes nothing until it is
// opened anew.
func (q *Queue) Shrink(thin func(change.Sealed) (change.Sealed, error)) (freed int64, err error) {
	q.appendMu.Lock()
	defer q.appendMu.Unlock()
	if q.closed {
		return 0, ErrClosed
	}
	if q.broken {
		if err := q.reopen(); err != nil {
			return 0, fmt.Errorf("reopen the log: %w", err)
		}
	}
	q.mu.Lock()
	first, last, before := q.ix.first, q.ix.last, q.ix.waiting().bytes
	q.mu.Unlock()
	if last < first || last == 0 {
		return 0, nil
	}
	path := logPath(q.o.Dir, q.number+1)
	if err := q.rewrite(path+unfinished, first, last, thin); err != nil {
		return 0, errors.Join(fmt.Errorf("write the queue anew: %w", err), os.RemoveAll(path+unfinished))
	}
	err = q.o.ShrinkFault.Do(func() error {
		if err := os.Rename(path+unfinished, path); err != nil {
			return err
		}
		return syncDir(q.o.Dir)
	})
	if err != nil {
		err = fmt.Errorf("put the new log in its place: %w", err)
		_, n, lerr := logDir(q.o.Dir)
		switch {
		case lerr == nil && n == q.number: // it does not count
			return 0, errors.Join(err, os.RemoveAll(path+unfinished))
		case lerr != nil || syncDir(q.o.Dir) != nil:
			return 0, q.unusable(errors.Join(err, lerr))
		}
	}
	return q.swap(path, last, before)
}

// rewrite makes a log of the entries first to last in a folder of its own.
func (q *Queue) rewrite(dir string, first, last uint64, thin func(change.Sealed) (change.Sealed, error)) (err error) {
	if err := os.RemoveAll(dir); err != nil {
		return err
	}
	if err := os.Mkdir(dir, 0o700); err != nil {
		return err
	}
	o := q.o
	o.Dir = dir
	log, err := openLog(o, newFiles(dir, q.o.WriteFault, q.o.SyncFault))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, log.close()) }()
	var batch [][]byte
	at, size := first, 0
	for i := first; i <= last; i++ {
		raw, err := q.log.get(i)
		if err != nil {
			raw = []byte("lost") // as unreadable as it is now
		} else if f, err := change.Parse(raw); err == nil {
			if f, err = thin(f); err == nil {
				raw = f.Bytes
			}
		}
		batch, size = append(batch, raw), size+len(raw)
		if size < shrinkBatchBytes && i < last {
			continue
		}
		if err := log.append(at, batch); err != nil {
			return err
		}
		at, batch, size = i+1, nil, 0
	}
	return syncDir(dir)
}

// swap goes over to the new log. appendMu is held.
func (q *Queue) swap(dir string, last uint64, before int64) (freed int64, err error) {
	o := q.o
	o.Dir = dir
	files := newFiles(dir, q.o.WriteFault, q.o.SyncFault)
	log, err := openLog(o, files)
	if err != nil {
		return 0, q.takeBack(dir, fmt.Errorf("open the new log: %w", err))
	}
	var ix index
	ix.visit = q.ix.visit
	if err := ix.scan(log, dir); err != nil || ix.last != last {
		return 0, q.takeBack(dir, errors.Join(fmt.Errorf("%w: the new log ends at entry %d, not %d", errDamaged, ix.last, last), err, log.close()))
	}
	q.walMu.Lock()
	q.mu.Lock()
	old := q.log
	q.log, q.files, q.ix, q.shrunk = log, files, ix, ix.total.bytes
	q.number++
	acked := q.acked
	q.mu.Unlock()
	q.walMu.Unlock()
	q.moveAck(acked)
	err = errors.Join(old.close(), sweepLogs(q.o.Dir, q.number))
	if err != nil {
		q.o.Log.Warn("the log before the shrinking is left on disk", "part", "queue", "err", err)
	}
	q.mu.Lock()
	freed = before - q.ix.waiting().bytes
	q.mu.Unlock()
	return freed, nil
}

// takeBack makes the log before the shrinking count again.
func (q *Queue) takeBack(dir string, err error) error {
	if rerr := errors.Join(os.Rename(dir, dir+unfinished), syncDir(q.o.Dir)); rerr != nil {
		return q.unusable(errors.Join(err, rerr))
	}
	return errors.Join(err, os.RemoveAll(dir+unfinished))
}

// unusable closes the queue to appends: the log on disk is not the one that is
// open. What waits can still be read.
func (q *Queue) unusable(err error) error {
	q.closed = true
	return err
}
