/* Open files, and what is the same for all kinds of them. */
#include "../socket.h"
#include "fs.h"

struct file *file_create(const struct file_ops *ops, u32 flags, void *data)
{
	struct file *f = kalloc(sizeof(*f));

	if (!f)
		return NULL;
	f->ops = ops;
	f->flags = flags & ~(u32)(O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_CLOEXEC);
	f->data = data;
	f->references = 1;
	list_init(&f->watches);
	return f;
}

static const struct inode_ops anonymous_inode_ops = { 0 };

struct file *file_anonymous(const struct file_ops *ops, u32 flags, void *data)
{
	static struct inode *shared; /* as Linux, which has one inode for all of them */
	struct file *f = file_create(ops, flags, data);

	if (f && !shared)
		shared = inode_create(&anonymous_inode_ops, 0600, DEVICE_ANON);
	if (!f || !shared) {
		kfree(f);
		return NULL;
	}
	inode_get(shared);
	f->inode = shared;
	return f;
}

void file_get(struct file *f)
{
	f->references++;
}

void file_put(struct file *f)
{
	if (--f->references)
		return;
	epoll_forget(f);
	locks_of_file_end(f);
	if (f->ops->release)
		f->ops->release(f);
	if (f->inode)
		inode_put(f->inode);
	dentry_put(f->entry);
	kfree(f->path);
	kfree(f);
}

long file_install(struct file *f, bool close_on_exec)
{
	long fd = fd_install(f, 0, close_on_exec);

	if (fd < 0)
		file_put(f);
	return fd;
}

const char *file_path(struct file *f)
{
	char *text;

	if (f->path && !f->entry)
		return f->path;
	text = kalloc(PATH_MAX_LENGTH);
	if (!text)
		return "?";
	if (f->entry)
		dentry_path(f->entry, text, PATH_MAX_LENGTH);
	else if (f->inode && f->inode->device == DEVICE_PIPE)
		format(text, PATH_MAX_LENGTH, "%s:[%lu]", f->ops->kind, f->inode->number);
	else
		format(text, PATH_MAX_LENGTH, "anon_inode:[%s]", f->ops->kind ? f->ops->kind : "file");
	kfree(f->path);
	f->path = kstrdup(text);
	kfree(text);
	return f->path ? f->path : "?";
}

u64 file_size(struct file *f)
{
	return f->inode ? f->inode->size : 0;
}

long file_read_at(struct file *f, void *to, size_t n, u64 offset)
{
	struct iovec piece = { to, n };
	struct io io;

	if (!f->ops->read)
		return -EINVAL;
	io_init(&io, &piece, 1);
	return f->ops->read(f, &io, &offset);
}

struct file *file_open(const char *path, u32 flags, u32 mode, long *error)
{
	struct file *f = NULL;

	*error = open_at(AT_FDCWD, path, flags, mode, 0, &f);
	return f;
}

u32 file_poll_always(struct file *f, struct waiter *w, u32 wanted)
{
	(void)f, (void)w;
	return wanted & (POLLIN | POLLOUT | POLLRDNORM | POLLWRNORM);
}

long file_seek(struct file *f, s64 offset, int whence)
{
	s64 size = (s64)file_size(f), to;

	switch (whence) {
	case SEEK_SET:
		to = offset;
		break;
	case SEEK_CUR:
		if (__builtin_add_overflow((s64)f->position, offset, &to))
			return -EOVERFLOW;
		break;
	case SEEK_END:
		if (__builtin_add_overflow(size, offset, &to))
			return -EOVERFLOW;
		break;
	case SEEK_DATA: /* all of a file counts as data */
	case SEEK_HOLE:
		if (offset < 0 || offset >= size)
			return -ENXIO;
		to = whence == SEEK_DATA ? offset : size;
		break;
	default:
		return -EINVAL;
	}
	if (to < 0)
		return -EINVAL;
	f->position = (u64)to;
	return to;
}

/* What O_PATH opens: a place, nothing to be done with its contents. */
const struct file_ops path_only_ops = { .kind = "path" };

/* ------------------------------------------------------------------------------- sleeping */

void poll_table_init(struct poll_table *t)
{
	waitq_init(&t->queue);
	t->woken = false;
}

static void poll_wake(struct waiter *waiter)
{
	struct poll_table *t = container_of(waiter, struct poll_waiter, waiter)->table;

	t->woken = true;
	waitq_wake(&t->queue, 1);
}

void poll_waiter_init(struct poll_waiter *w, struct poll_table *t)
{
	*w = (struct poll_waiter){ .waiter = { .wake = poll_wake }, .table = t };
	list_init(&w->waiter.link);
}

void poll_waiter_deinit(struct poll_waiter *w)
{
	list_remove(&w->waiter.link);
}

void poll_add(struct waitq *q, struct waiter *w)
{
	if (w)
		waitq_add(q, w);
}

long poll_sleep(struct poll_table *t, u64 deadline)
{
	/* Asking the last of several files may have told what happened to the first. */
	long error = t->woken ? 0 : sleep_on(&t->queue, deadline);

	t->woken = false;
	return error;
}

long file_wait(struct file *f, u32 events, u64 deadline)
{
	struct poll_table table;
	struct poll_waiter waiter;
	long error = 0;

	if (!f->ops->poll)
		return -EAGAIN;
	poll_table_init(&table);
	poll_waiter_init(&waiter, &table);
	if (!f->ops->poll(f, &waiter.waiter, events))
		error = poll_sleep(&table, deadline);
	poll_waiter_deinit(&waiter);
	return error;
}

/* Until when a call on f sleeps: sockets may have a time-out. */
static u64 patience(struct file *f, bool write)
{
	const struct socket *s = f->data;

	if (!f->ops->socket)
		return FOREVER;
	return socket_deadline(write ? s->send_timeout : s->receive_timeout);
}

/* Sleep until reading or writing may go on: 0, or what the call returns. */
static long sleep_for(struct file *f, bool write, u64 deadline)
{
	long error = file_wait(f, write ? POLLOUT : POLLIN, deadline);

	if (error == -EINTR && deadline == FOREVER)
		return -ERESTARTSYS;
	return error == -ETIMEDOUT ? -EAGAIN : error;
}

long file_read(struct file *f, struct io *io, u64 *position)
{
	u64 deadline = patience(f, false);

	for (;;) {
		long n = io_check(io, true);

		if (!n)
			n = f->ops->read ? f->ops->read(f, io, position) : -EINVAL;
		if (n != -EAGAIN || f->flags & O_NONBLOCK)
			return n;
		n = sleep_for(f, false, deadline);
		if (n)
			return n;
	}
}

long file_write(struct file *f, struct io *io, u64 *position)
{
	u64 deadline = patience(f, true);
	long done = 0, n;

	do {
		n = io_check(io, false);
		if (!n)
			n = f->ops->write ? f->ops->write(f, io, position) : -EINVAL;
		if (n > 0)
			done += n;
		if (n == -EAGAIN && !(f->flags & O_NONBLOCK)) {
			n = sleep_for(f, true, deadline);
		} else if (n == 0) {
			break;
		}
	} while (n >= 0 && io->length > 0);
	return done ? done : n;
}
