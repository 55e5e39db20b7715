/* Named pipes: open() waits until the other end is open, too. */
#include "../calls.h"
#include "pipe.h"

/* Until somebody has opened the other end since `ever` was counted, even if it is closed again. */
static long wait_for_other(const unsigned *now, const u64 *ever_now, struct waitq *q)
{
	u64 ever = *ever_now;
	long error = 0;

	while (!error && !*now && *ever_now == ever)
		error = sleep_on(q, FOREVER);
	return error == -EINTR ? -ERESTARTSYS : error;
}

long fifo_open(struct file *f)
{
	struct pipe *p = f->inode->data;
	u32 mode = f->flags & O_ACCMODE;
	bool may_sleep = !(f->flags & O_NONBLOCK);

	if (mode == O_WRONLY && !may_sleep && (!p || !p->readers))
		return -ENXIO;
	if (!p)
		p = f->inode->data = pipe_create();
	if (!p)
		return -ENOMEM;
	pipe_attach(f, p);
	if (!may_sleep || mode == O_RDWR)
		return 0;
	if (mode == O_RDONLY) {
		long error = wait_for_other(&p->writers, &p->writers_ever, &p->reading);

		f->position = FOREVER; /* from now on, no writer is the end */
		return error;
	}
	return wait_for_other(&p->readers, &p->readers_ever, &p->writing);
}
