/* inotify: accepted, and silent.  Programs that watch files here see no changes but their own. */
#include <asm/ioctls.h>
#include <linux/inotify.h>

#include "calls.h"
#include "fs.h"

struct watches {
	int last;
	struct waitq waiters; /* nobody wakes them */
};

static long inotify_read(struct file *f, struct io *io, u64 *position)
{
	(void)f, (void)position;
	return io->length < sizeof(struct inotify_event) ? -EINVAL : -EAGAIN;
}

static u32 inotify_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct watches *watches = f->data;

	(void)wanted;
	poll_add(&watches->waiters, w);
	return 0;
}

static long inotify_ioctl(struct file *f, unsigned request, u64 argument)
{
	(void)f;
	if (request != FIONREAD)
		return -ENOTTY;
	if (user_check((void *)argument, sizeof(int), true))
		return -EFAULT;
	*(int *)argument = 0;
	return 0;
}

static void inotify_release(struct file *f)
{
	kfree(f->data);
}

static const struct file_ops inotify_ops = {
	.kind = "inotify",
	.read = inotify_read,
	.poll = inotify_poll,
	.ioctl = inotify_ioctl,
	.release = inotify_release,
};

static long make(u32 flags)
{
	struct watches *w;
	struct file *f;

	if (flags & ~(u32)(IN_CLOEXEC | IN_NONBLOCK))
		return -EINVAL;
	w = kalloc(sizeof(*w));
	f = w ? file_anonymous(&inotify_ops, O_RDONLY | (flags & O_NONBLOCK), w) : NULL;
	if (!f) {
		kfree(w);
		return -ENOMEM;
	}
	waitq_init(&w->waiters);
	return file_install(f, flags & IN_CLOEXEC);
}

CALL0(inotify_init)
{
	return make(0);
}

CALL1(inotify_init1, flags)
{
	return make((u32)flags);
}

static long get(int fd, struct watches **w)
{
	struct file *f = fd_get(fd);

	if (!f || f->flags & O_PATH)
		return -EBADF;
	if (f->ops != &inotify_ops)
		return -EINVAL;
	*w = f->data;
	return 0;
}

CALL3(inotify_add_watch, fd, path, mask)
{
	struct watches *watches;
	struct walk w;
	long error;

	if (!(mask & (IN_ALL_EVENTS | IN_UNMOUNT | IN_Q_OVERFLOW | IN_IGNORED)))
		return -EINVAL;
	error = get((int)fd, &watches);
	if (!error)
		error = walk_user(&w, AT_FDCWD, (char *)path, mask & IN_DONT_FOLLOW ? 0 : WALK_FOLLOW);
	if (error)
		return error;
	if (mask & IN_ONLYDIR && !S_ISDIR(w.at->inode->mode))
		error = -ENOTDIR;
	walk_end(&w);
	return error ? error : ++watches->last;
}

CALL2(inotify_rm_watch, fd, number)
{
	struct watches *watches;
	long error = get((int)fd, &watches);

	if (error)
		return error;
	return (int)number > 0 && (int)number <= watches->last ? 0 : -EINVAL;
}
