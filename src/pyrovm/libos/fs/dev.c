/* /dev: devices without a host behind them, and the names that programs look for. */
#include "pty.h"

#define DEVICE(major, minor) ((major) << 8 | (minor))
#define DEV_NULL DEVICE(1, 3)
#define DEV_ZERO DEVICE(1, 5)
#define DEV_FULL DEVICE(1, 7)
#define DEV_RANDOM DEVICE(1, 8)
#define DEV_URANDOM DEVICE(1, 9)
#define DEV_TTY DEVICE(5, 0)
#define DEV_PTMX DEVICE(5, 2)
#define PTS_MAJOR 136
#define DEV_PYROVM DEVICE(10, 240) /* misc, for local use */

static long null_read(struct file *f, struct io *io, u64 *position)
{
	(void)f, (void)io, (void)position;
	return 0;
}

static long null_write(struct file *f, struct io *io, u64 *position)
{
	size_t n = io->length;

	(void)f, (void)position;
	io_advance(io, n);
	return (long)n;
}

static long null_seek(struct file *f, s64 offset, int whence)
{
	(void)offset, (void)whence;
	f->position = 0;
	return 0;
}

static const struct file_ops null_ops = { .kind = "null", .read = null_read, .write = null_write,
					  .seek = null_seek, .poll = file_poll_always,
					  .has_position = true };

static long zero_read(struct file *f, struct io *io, u64 *position)
{
	(void)f, (void)position;
	return (long)io_clear(io, io->length);
}

/* Mapping /dev/zero is mapping memory; each page of it is the file's own. */
static long zero_page(struct file *f, u64 offset, bool write, u64 *gpa)
{
	u64 *slot = ram_slot(&f->inode->ram, offset >> PAGE_SHIFT);

	(void)write;
	if (!slot)
		return -ENOMEM;
	*gpa = *slot;
	return 0;
}

static const struct file_ops zero_ops = { .kind = "zero", .read = zero_read, .write = null_write,
					  .seek = null_seek, .poll = file_poll_always,
					  .page = zero_page, .has_position = true };

static long full_write(struct file *f, struct io *io, u64 *position)
{
	(void)f, (void)io, (void)position;
	return -ENOSPC;
}

static const struct file_ops full_ops = { .kind = "full", .read = zero_read, .write = full_write,
					  .seek = null_seek, .poll = file_poll_always,
					  .has_position = true };

static long random_read(struct file *f, struct io *io, u64 *position)
{
	u8 some[256];
	long done = 0;

	(void)f, (void)position;
	while (io->length) {
		size_t n = MIN(io->length, sizeof(some));

		random_bytes(some, n);
		done += (long)io_put(io, some, n);
	}
	return done;
}

static const struct file_ops random_ops = { .kind = "random", .read = random_read, .write = null_write,
					    .seek = null_seek, .poll = file_poll_always,
					    .has_position = true };

long device_open(struct file *f)
{
	switch (f->inode->rdev) {
	case DEV_NULL:
		f->ops = &null_ops;
		return 0;
	case DEV_ZERO:
		f->ops = &zero_ops;
		return 0;
	case DEV_FULL:
		f->ops = &full_ops;
		return 0;
	case DEV_RANDOM:
	case DEV_URANDOM:
		f->ops = &random_ops;
		return 0;
	case DEV_TTY:
		return console_open_terminal(f);
	case DEV_PYROVM:
		return branch_open(f);
	case DEV_PTMX:
		return pty_open_master(f);
	default:
		if (f->inode->rdev >> 8 == PTS_MAJOR)
			return pty_open_slave(f, (unsigned)f->inode->rdev & 0xff);
		return -ENXIO;
	}
}

void device_init(void)
{
	static const struct {
		const char *path;
		u32 mode, rdev;
		const char *target;
	} nodes[] = {
		{ "/dev", S_IFDIR | 0755, 0, NULL },
		{ "/dev/null", S_IFCHR | 0666, DEV_NULL, NULL },
		{ "/dev/zero", S_IFCHR | 0666, DEV_ZERO, NULL },
		{ "/dev/full", S_IFCHR | 0666, DEV_FULL, NULL },
		{ "/dev/random", S_IFCHR | 0666, DEV_RANDOM, NULL },
		{ "/dev/urandom", S_IFCHR | 0666, DEV_URANDOM, NULL },
		{ "/dev/tty", S_IFCHR | 0666, DEV_TTY, NULL },
		{ "/dev/pyrovm", S_IFCHR | 0666, DEV_PYROVM, NULL },
		{ "/dev/ptmx", S_IFCHR | 0666, DEV_PTMX, NULL },
		{ "/dev/fd", S_IFLNK | 0777, 0, "/proc/self/fd" },
		{ "/dev/stdin", S_IFLNK | 0777, 0, "/proc/self/fd/0" },
		{ "/dev/stdout", S_IFLNK | 0777, 0, "/proc/self/fd/1" },
		{ "/dev/stderr", S_IFLNK | 0777, 0, "/proc/self/fd/2" },
		{ "/dev/shm", S_IFDIR | 01777, 0, NULL },
		{ "/dev/pts", S_IFDIR | 0755, 0, NULL },
		{ "/tmp", S_IFDIR | 01777, 0, NULL },
	};

	for (unsigned i = 0; i < ARRAY_SIZE(nodes); i++)
		dentry_put(tree_make(nodes[i].path, nodes[i].mode, nodes[i].rdev, nodes[i].target));
}
