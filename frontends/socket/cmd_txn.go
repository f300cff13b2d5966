// SPDX-License-Identifier: AGPL-3.0-only

package socket

func (q *request) transaction() error {
	switch q.cmd.verb {
	case verbBegin:
		if err := q.sess.Begin(q.ctx); err != nil {
			return err
		}
	case verbCommit:
		version, err := q.sess.Commit(q.ctx)
		if err != nil {
			return err
		}
		if version != 0 {
			b := q.c.out.begin()
			b = appendCount(b, q.tag, "VERSION:", version)
			q.end(appendOK(b, q.tag))
			return nil
		}
	case verbRollback:
		if err := q.sess.Rollback(); err != nil {
			return err
		}
	}
	q.ok()
	return nil
}
