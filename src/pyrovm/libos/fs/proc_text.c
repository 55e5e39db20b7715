/* Files of /proc and /sys: a text, made when it is read from the start. */
#include "proc.h"

struct text {
	size_t length;
	char bytes[];
};

static long text_of(struct file *f)
{
	const struct place *p = place_of(f->inode);
	struct text *t = f->data;
	size_t room = 1024, n;

	for (;;) { /* until it fits */
		kfree(t);
		f->data = t = kalloc(sizeof(*t) + room);
		if (!t)
			return -ENOMEM;
		n = p->fd >= 0 ? proc_show_fdinfo(p->fd, t->bytes, room) : p->file->show(t->bytes, room);
		if (n + 1 < room)
			break;
		room *= 4;
	}
	t->length = n;
	return 0;
}

static long text_read(struct file *f, struct io *io, u64 *position)
{
	struct text *t = f->data;
	size_t n;

	if (!t || *position == 0) { /* made anew when it is read from the start */
		long error = text_of(f);

		if (error)
			return error;
		t = f->data;
	}
	if (*position >= t->length)
		return 0;
	n = io_put(io, t->bytes + *position, t->length - *position);
	*position += n;
	return (long)n;
}

static long text_write(struct file *f, struct io *io, u64 *position)
{
	size_t n = io->length; /* accepted, without effect: oom_score_adj, comm and the like */

	(void)f;
	io_advance(io, n);
	*position += n;
	return (long)n;
}

static long text_truncate(struct file *f, u64 size)
{
	(void)f, (void)size;
	return 0;
}

static void text_release(struct file *f)
{
	kfree(f->data);
}

const struct file_ops proc_text_ops = {
	.kind = "proc",
	.read = text_read,
	.write = text_write,
	.seek = file_seek,
	.poll = file_poll_always,
	.truncate = text_truncate,
	.release = text_release,
	.has_position = true,
};
