/* Pipes: a ring of pages, made as they are needed. */
#include <asm/ioctls.h>

#include "calls.h"
#include "pipe.h"

#define PIPE_PAGES 16
#define PIPE_PAGES_MAX 256 /* /proc/sys/fs/pipe-max-size: 1 MiB */

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

static void tell_readers(struct pipe *p)
{
	waitq_wake(&p->reading, ~0u);
	waitq_wake(&p->both, ~0u);
}

static void tell_writers(struct pipe *p)
{
	waitq_wake(&p->writing, ~0u);
	waitq_wake(&p->both, ~0u);
}

const u8 *pipe_peek(struct pipe *p, u64 skip, size_t *n)
{
	u64 from = p->start + skip;

	*n = MIN(*n, MIN(p->used - skip, in_page(from)));
	return at(p, from, false);
}

void pipe_consume(struct pipe *p, size_t n)
{
	p->start += n;
	p->used -= n;
	if (!p->used)
		p->start = 0; /* so that little talk touches little memory */
	tell_writers(p);
}

size_t pipe_push(struct pipe *p, const u8 *from, size_t n)
{
	size_t done = 0;

	n = MIN(n, pipe_room(p));
	while (done < n) {
		u64 end = p->start + p->used;
		size_t piece = MIN(n - done, in_page(end));
		u8 *to = at(p, end, true);

		if (!to)
			break;
		memcpy(to, from + done, piece);
		p->used += piece;
		done += piece;
	}
	if (done)
		tell_readers(p);
	return done;
}

static long pipe_read(struct file *f, struct io *io, u64 *position)
{
	struct pipe *p = f->data;
	u64 done = 0;

	(void)position;
	if (!io->length)
		return 0;
	if (!p->used)
		return p->writers ? -EAGAIN : 0;
	while (io->length && done < p->used) {
		size_t n = io->length;
		const u8 *from = pipe_peek(p, done, &n);

		done += io_put(io, from, n);
	}
	pipe_consume(p, done);
	return (long)done;
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
	tell_readers(p);
	return done;
}

/* Which way an end is open. */
static bool is_reading(const struct file *f)
{
	return (f->flags & O_ACCMODE) != O_WRONLY;
}

static bool is_writing(const struct file *f)
{
	return (f->flags & O_ACCMODE) != O_RDONLY;
}

static u32 pipe_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct pipe *p = f->data;
	u32 events = 0;

	poll_add(!is_writing(f) ? &p->reading : !is_reading(f) ? &p->writing : &p->both, w);
	if (is_reading(f)) {
		events |= p->used ? POLLIN | POLLRDNORM : 0;
		/* A named pipe that nobody has ever written to has not been hung up (pipe_attach). */
		events |= !p->writers && p->writers_ever != f->position ? POLLHUP : 0;
	}
	if (is_writing(f)) {
		events |= pipe_room(p) >= PIPE_ATOMIC ? POLLOUT | POLLWRNORM : 0;
		events |= p->readers ? 0 : POLLERR;
	}
	return events & (wanted | POLLERR | POLLHUP);
}

static long wait(struct file *f, u32 events, bool may_sleep)
{
	long error = may_sleep ? file_wait(f, events, FOREVER) : -EAGAIN;

	return error == -EINTR ? -ERESTARTSYS : error;
}

long pipe_wait_to_read(struct file *f, bool may_sleep)
{
	struct pipe *p = f->data;

	while (!p->used) {
		long error = p->writers ? wait(f, POLLIN, may_sleep) : 0;

		if (error || !p->writers)
			return error;
	}
	return 1;
}

long pipe_wait_to_write(struct file *f, bool may_sleep)
{
	struct pipe *p = f->data;

	for (;;) {
		long error;

		if (!p->readers) {
			signal_send(current(), SIGPIPE, SI_USER, 0, PROCESS_ID);
			return -EPIPE;
		}
		if (pipe_room(p))
			return 0;
		error = wait(f, POLLOUT, may_sleep);
		if (error)
			return error;
	}
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

void pipe_destroy(struct pipe *p)
{
	free_pages(p->pages, p->size);
	kfree(p);
}

static void pipe_release(struct file *f)
{
	struct pipe *p = f->data;

	p->readers -= is_reading(f);
	p->writers -= is_writing(f);
	if (p->readers || p->writers) {
		tell_readers(p);
		waitq_wake(&p->writing, ~0u);
		return;
	}
	if (f->inode->data == p)
		f->inode->data = NULL; /* a named pipe is empty when it is opened again */
	pipe_destroy(p);
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
	tell_writers(p);
	return (long)p->size;
}

struct pipe *pipe_of(const struct file *f)
{
	return f->ops == &pipe_ops ? f->data : NULL;
}

struct pipe *pipe_create(void)
{
	struct pipe *p = kalloc(sizeof(*p));

	if (!p)
		return NULL;
	p->pages = kalloc(PIPE_PAGES * sizeof(*p->pages));
	if (!p->pages) {
		kfree(p);
		return NULL;
	}
	p->size = PIPE_PAGES * PAGE_SIZE;
	waitq_init(&p->reading);
	waitq_init(&p->writing);
	waitq_init(&p->both);
	return p;
}

void pipe_attach(struct file *f, struct pipe *p)
{
	f->ops = &pipe_ops;
	f->data = p;
	/* Pipes have no position: it says how many writers had been there, if none is there now. */
	f->position = p->writers ? FOREVER : p->writers_ever;
	if (is_reading(f)) {
		p->readers++;
		p->readers_ever++;
		tell_writers(p);
	}
	if (is_writing(f)) {
		p->writers++;
		p->writers_ever++;
		tell_readers(p);
	}
}

static struct file *make_end(struct pipe *p, struct inode *i, u32 flags)
{
	struct file *f = file_create(&pipe_ops, flags, p);

	if (!f)
		return NULL;
	inode_get(i);
	f->inode = i;
	pipe_attach(f, p);
	return f;
}

static long make_pipe(struct file **read, struct file **write, u32 flags)
{
	struct pipe *p = pipe_create();
	struct inode *i = inode_create(&pipe_inode_ops, S_IFIFO | 0600, DEVICE_PIPE);

	*read = *write = NULL;
	if (p && i)
		*read = make_end(p, i, O_RDONLY | flags);
	*write = *read ? make_end(p, i, O_WRONLY | flags) : NULL;
	if (i)
		inode_put(i);
	if (*write)
		return 0;
	if (*read)
		file_put(*read); /* which frees p */
	else if (p)
		pipe_destroy(p);
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
