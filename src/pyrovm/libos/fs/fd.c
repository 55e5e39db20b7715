/* The table of descriptors. */
#include <asm/ioctls.h>
#include <linux/close_range.h>

#include "calls.h"
#include "fs.h"

struct descriptor {
	struct file *file;
	bool close_on_exec;
};

static struct descriptor *table;
static unsigned capacity, used; /* used: all in use are below */
static unsigned lowest_free; /* none is free below */

u32 fd_limit(void)
{
	return (u32)MIN(limits[RLIMIT_NOFILE].rlim_cur, FD_MAX);
}

struct file *fd_get(int fd)
{
	return (unsigned)fd < used ? table[fd].file : NULL;
}

long fd_take(int fd, struct file **f)
{
	*f = fd_get(fd);
	if (!*f)
		return -EBADF;
	file_get(*f);
	return 0;
}

long fd_take_io(int fd, struct file **f)
{
	*f = fd_get(fd);
	if (!*f || (*f)->flags & O_PATH)
		return -EBADF;
	file_get(*f);
	return 0;
}

unsigned fd_count(void)
{
	return used;
}

bool fd_is_close_on_exec(int fd)
{
	return table[fd].close_on_exec;
}

static long make_room(unsigned fd)
{
	unsigned wanted = MAX(capacity * 2, 32U);
	struct descriptor *bigger;

	if (fd < capacity)
		return 0;
	while (wanted <= fd)
		wanted *= 2;
	bigger = krealloc(table, capacity * sizeof(*table), wanted * sizeof(*table));
	if (!bigger)
		return -ENOMEM;
	table = bigger;
	capacity = wanted;
	return 0;
}

static void put_at(unsigned fd, struct file *f, bool close_on_exec)
{
	table[fd] = (struct descriptor){ f, close_on_exec };
	used = MAX(used, fd + 1);
}

long fd_install(struct file *f, int lowest, bool close_on_exec)
{
	unsigned fd = MAX((unsigned)lowest, lowest_free);
	long error;

	while (fd < used && table[fd].file)
		fd++;
	if (fd >= fd_limit())
		return -EMFILE;
	error = make_room(fd);
	if (error)
		return error;
	put_at(fd, f, close_on_exec);
	if ((unsigned)lowest <= lowest_free)
		lowest_free = fd + 1;
	return (long)fd;
}

static long close_one(unsigned fd)
{
	struct file *f = fd_get((int)fd);

	if (!f)
		return -EBADF;
	table[fd] = (struct descriptor){ NULL, false };
	lowest_free = MIN(lowest_free, fd);
	while (used && !table[used - 1].file)
		used--;
	locks_of_process_end(f);
	file_put(f);
	return 0;
}

/* ---------------------------------------------------------------------------- system calls */

CALL1(close, fd)
{
	return close_one((unsigned)fd);
}

CALL3(close_range, first, last, flags)
{
	if (flags & ~(u64)(CLOSE_RANGE_UNSHARE | CLOSE_RANGE_CLOEXEC) || (u32)first > (u32)last)
		return -EINVAL;
	for (u64 fd = (u32)first; fd <= (u32)last && fd < used; fd++) {
		if (!table[fd].file)
			continue;
		if (flags & CLOSE_RANGE_CLOEXEC)
			table[fd].close_on_exec = true;
		else
			close_one((unsigned)fd);
	}
	return 0;
}

static long duplicate(int fd, int lowest, bool close_on_exec)
{
	struct file *f;
	long error = fd_take(fd, &f), new;

	if (error)
		return error;
	if (lowest < 0 || (u32)lowest >= fd_limit())
		new = -EINVAL;
	else
		new = fd_install(f, lowest, close_on_exec);
	if (new < 0)
		file_put(f);
	return new;
}

CALL1(dup, fd)
{
	return duplicate((int)fd, 0, false);
}

static long duplicate_to(int from, int to, bool close_on_exec)
{
	struct file *f = fd_get(from);
	long error;

	if (!f || to < 0 || (u32)to >= fd_limit())
		return -EBADF;
	error = make_room((unsigned)to);
	if (error)
		return error;
	file_get(f);
	if (fd_get(to))
		close_one((unsigned)to);
	put_at((unsigned)to, f, close_on_exec);
	return to;
}

CALL2(dup2, from, to)
{
	if ((int)from == (int)to)
		return fd_get((int)from) ? (long)(int)to : -EBADF;
	return duplicate_to((int)from, (int)to, false);
}

CALL3(dup3, from, to, flags)
{
	if (flags & ~(u64)O_CLOEXEC || (int)from == (int)to)
		return -EINVAL;
	return duplicate_to((int)from, (int)to, flags & O_CLOEXEC);
}

/* ------------------------------------------------------------------------------ fcntl */

static long seals(struct file *f, bool add, u64 wanted)
{
	u32 *have = f->inode ? &f->inode->seals : NULL;

	/* Files that were not made with MFD_ALLOW_SEALING have F_SEAL_SEAL from the start. */
	if (!have || f->ops != &regular_ops || f->entry)
		return -EINVAL;
	if (!add)
		return (long)*have;
	if (wanted & ~(u64)(F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EINVAL;
	if (*have & F_SEAL_SEAL || (f->flags & O_ACCMODE) == O_RDONLY)
		return -EPERM;
	*have |= (u32)wanted;
	return 0;
}

#define SETTABLE (O_APPEND | FASYNC | O_DIRECT | O_NOATIME | O_NONBLOCK)

CALL3(fcntl, fd_number, command, argument)
{
	int fd = (int)fd_number;
	struct file *f = fd_get(fd);
	bool is_path = f && f->flags & O_PATH;
	long result;

	if (!f)
		return -EBADF;
	if (is_path && command != F_DUPFD && command != F_DUPFD_CLOEXEC && command != F_GETFD &&
	    command != F_SETFD && command != F_GETFL)
		return -EBADF;
	switch (command) {
	case F_DUPFD:
	case F_DUPFD_CLOEXEC:
		return duplicate(fd, (int)argument, command == F_DUPFD_CLOEXEC);
	case F_GETFD:
		return table[fd].close_on_exec ? FD_CLOEXEC : 0;
	case F_SETFD:
		table[fd].close_on_exec = argument & FD_CLOEXEC;
		return 0;
	case F_GETFL:
		/* O_LARGEFILE, as all that was opened by name has it on x86-64 */
		return (long)(f->flags | (is_path || !(f->entry || f->ops == &regular_ops) ? 0 : 0100000));
	case F_SETFL:
		f->flags = (f->flags & ~(u32)SETTABLE) | ((u32)argument & SETTABLE);
		return 0;
	case F_GETLK:
	case F_OFD_GETLK:
	case F_SETLK:
	case F_SETLKW:
	case F_OFD_SETLK:
	case F_OFD_SETLKW:
		file_get(f); /* it may sleep */
		result = file_lock(f, (u32)command, argument);
		file_put(f);
		return result;
	case F_GETOWN:
		return f->owner;
	case F_SETOWN:
		f->owner = (int)argument;
		return 0;
	case F_GETSIG:
		return 0;
	case F_SETPIPE_SZ:
		return pipe_size(f, true, argument);
	case F_GETPIPE_SZ:
		return pipe_size(f, false, 0);
	case F_ADD_SEALS:
		return seals(f, true, argument);
	case F_GET_SEALS:
		return seals(f, false, 0);
	default:
		return -EINVAL;
	}
}

CALL3(ioctl, fd, request, argument)
{
	struct file *f;
	long result = fd_take_io((int)fd, &f);

	if (result)
		return result;
	switch ((u32)request) {
	case FIOCLEX:
	case FIONCLEX:
		table[(int)fd].close_on_exec = (u32)request == FIOCLEX;
		break;
	case FIONBIO:
		result = user_check((void *)argument, sizeof(int), false);
		if (!result)
			f->flags = (f->flags & ~(u32)O_NONBLOCK) | (*(int *)argument ? O_NONBLOCK : 0);
		break;
	case FIOASYNC:
		result = user_check((void *)argument, sizeof(int), false);
		break;
	default:
		result = f->ops->ioctl ? f->ops->ioctl(f, (unsigned)request, argument) : -ENOTTY;
	}
	file_put(f);
	return result;
}
