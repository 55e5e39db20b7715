/* Pipes: a ring of pages, made as they are needed. */
#include <asm/ioctls.h>

#include "calls.h"
#include "fs.h"

#define PIPE_ATOMIC 4096 /* PIPE_BUF */
#define PIPE_PAGES 16
#define PIPE_PAGES_MAX 256 /* /proc/sys/fs/pipe-max-size: 1 MiB */

struct pipe {
	u64 *pages;
	u64 size; /* bytes: a power of two */
	u64 start, used;
	unsigned readers, writers;
	struct waitq reading, writing; /* edges of epoll: each end is told of its own only */
};

static u8 *at(struct pipe *p, u64 offset, bool make)
{
	u64 *page = &p->pages[(offset & (p->size - 1)) >> PAGE_SHIFT];

	if (!*page && make)
		*page = page_alloc();
	return *page ? (u8 *)phys_to_virt(*page) + (offset & PAGE_MASK) : NULL;
}

static size_t in_page(u64 offset)
{
	return PAGE_SIZE - (offset & PAGE_MASK);
}

static long pipe_read(struct file *f, struct io *io, u64 *position)
{
	struct pipe *p = f->data;
	long done = 0;

	(void)position;
	if (!io->length)
		return 0;
	if (!p->used)
		return p->writers ? -EAGAIN : 0;
	while (io->length && p->used) {
		size_t n = MIN(p->used, in_page(p->start));

		n = io_put(io, at(p, p->start, false), n);
		p->start += n;
		p->used -= n;
		done += (long)n;
	}
	if (!p->used)
		p->start = 0; /* so that little talk touches little memory */
	waitq_wake(&p->writing, ~0u);
	return done;
}

static long pipe_write(struct file *f, struct io *io, u64 *position)
{
	struct pipe *p = f->data;
	u64 room = p->size - p->used;
	long done = 0;

	(void)position;
	if (!io->length)
		return 0;
	if (!p->readers) {
		signal_send(current(), SIGPIPE, SI_USER, 0, PROCESS_ID);
		return -EPIPE;
	}
	if (!room || (io->length <= PIPE_ATOMIC && room < io->length))
		return -EAGAIN;
	while (io->length && room) {
		u64 end = p->start + p->used;
		u8 *to = at(p, end, true);
		size_t n;

		if (!to)
			return done ? done : -ENOMEM;
		n = io_get(io, to, MIN(room, in_page(end)));
		p->used += n;
		room -= n;
		done += (long)n;
	}
	waitq_wake(&p->reading, ~0u);
	return done;
}

static u32 pipe_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct pipe *p = f->data;
	u32 events = 0;

	if ((f->flags & O_ACCMODE) == O_RDONLY) {
		poll_add(&p->reading, w);
		events |= p->used ? POLLIN | POLLRDNORM : 0;
		events |= p->writers ? 0 : POLLHUP;
	} else {
		poll_add(&p->writing, w);
		events |= p->size - p->used >= PIPE_ATOMIC ? POLLOUT | POLLWRNORM : 0;
		events |= p->readers ? 0 : POLLERR;
	}
	return events & (wanted | POLLERR | POLLHUP);
}

static long pipe_ioctl(struct file *f, unsigned request, u64 argument)
{
	struct pipe *p = f->data;

	if (request != FIONREAD)
		return -ENOTTY;
	if (user_check((void *)argument, sizeof(int), true))
		return -EFAULT;
	*(int *)argument = (int)p->used;
	return 0;
}

static void free_pages(u64 *pages, u64 size)
{
	for (u64 i = 0; i < size >> PAGE_SHIFT; i++)
		if (pages[i])
			page_free(pages[i]);
	kfree(pages);
}

static void pipe_release(struct file *f)
{
	struct pipe *p = f->data;

	if ((f->flags & O_ACCMODE) == O_RDONLY)
		p->readers--;
	else
		p->writers--;
	if (p->readers || p->writers) {
		waitq_wake(&p->reading, ~0u);
		waitq_wake(&p->writing, ~0u);
		return;
	}
	free_pages(p->pages, p->size);
	kfree(p);
}

static const struct file_ops pipe_ops = {
	.kind = "pipe",
	.read = pipe_read,
	.write = pipe_write,
	.poll = pipe_poll,
	.ioctl = pipe_ioctl,
	.release = pipe_release,
};

static const struct inode_ops pipe_inode_ops = { 0 };

long pipe_size(struct file *f, bool set, u64 size)
{
	struct pipe *p = f->data;
	u64 wanted = PAGE_SIZE, *pages;

	if (f->ops != &pipe_ops)
		return -EBADF;
	if (!set)
		return (long)p->size;
	if (size > 1ULL << 31)
		return -EINVAL;
	if (size > PIPE_PAGES_MAX * PAGE_SIZE)
		return -EPERM;
	while (wanted < size)
		wanted *= 2;
	if (wanted < p->used)
		return -EBUSY;
	pages = kalloc((wanted >> PAGE_SHIFT) * sizeof(*pages));
	if (!pages)
		return -ENOMEM;
	/* Bytes move to the same place within other pages. */
	for (u64 done = 0, n; done < p->used; done += n) {
		u64 *page = &pages[(done & (wanted - 1)) >> PAGE_SHIFT];

		n = MIN(MIN(p->used - done, in_page(p->start + done)), in_page(done));
		if (!*page)
			*page = page_alloc();
		if (!*page) {
			free_pages(pages, wanted);
			return -ENOMEM;
		}
		memcpy((u8 *)phys_to_virt(*page) + (done & PAGE_MASK), at(p, p->start + done, false), n);
	}
	free_pages(p->pages, p->size);
	p->pages = pages;
	p->size = wanted;
	p->start = 0;
	waitq_wake(&p->writing, ~0u);
	return (long)p->size;
}

static struct file *make_end(struct pipe *p, struct inode *i, u32 flags)
{
	struct file *f = file_create(&pipe_ops, flags, p);

	if (!f)
		return NULL;
	inode_get(i);
	f->inode = i;
	if ((flags & O_ACCMODE) == O_RDONLY)
		p->readers++;
	else
		p->writers++;
	return f;
}

static long make_pipe(struct file **read, struct file **write, u32 flags)
{
	struct pipe *p = kalloc(sizeof(*p));
	struct inode *i = inode_create(&pipe_inode_ops, S_IFIFO | 0600, DEVICE_PIPE);
	u64 *pages = kalloc(PIPE_PAGES * sizeof(*pages));

	*read = *write = NULL;
	if (!p || !i || !pages)
		goto fail;
	p->pages = pages;
	p->size = PIPE_PAGES * PAGE_SIZE;
	waitq_init(&p->reading);
	waitq_init(&p->writing);
	*read = make_end(p, i, O_RDONLY | flags);
	*write = *read ? make_end(p, i, O_WRONLY | flags) : NULL;
	if (*write) {
		inode_put(i);
		return 0;
	}
	if (*read) { /* which frees p and its pages */
		file_put(*read);
		inode_put(i);
		return -ENFILE;
	}
fail:
	kfree(pages);
	kfree(p);
	if (i)
		inode_put(i);
	return -ENFILE;
}

/* Two descriptors for two files, or neither. */
long fd_install_pair(struct file *a, struct file *b, bool close_on_exec, int *to)
{
	long first, second;

	if (user_check(to, 2 * sizeof(*to), true)) {
		file_put(a);
		file_put(b);
		return -EFAULT;
	}
	first = file_install(a, close_on_exec);
	if (first < 0) {
		file_put(b);
		return first;
	}
	second = file_install(b, close_on_exec);
	if (second < 0) {
		sys_close((u64)first, 0, 0, 0, 0, 0);
		return second;
	}
	to[0] = (int)first;
	to[1] = (int)second;
	return 0;
}

static long do_pipe(u64 to, u32 flags)
{
	struct file *read, *write;
	long error;

	/* No packets (O_DIRECT): the answer of kernels that do not have them. */
	if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK))
		return -EINVAL;
	error = make_pipe(&read, &write, flags & O_NONBLOCK);
	return error ? error : fd_install_pair(read, write, flags & O_CLOEXEC, (int *)to);
}

CALL1(pipe, to)
{
	return do_pipe(to, 0);
}

CALL2(pipe2, to, flags)
{
	return do_pipe(to, (u32)flags);
}
