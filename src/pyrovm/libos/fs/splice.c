/* splice, tee and vmsplice.  Bytes are copied: pages stay where they are, and nobody can tell. */
#include <linux/fcntl.h>

#include "calls.h"
#include "pipe.h"

#define SPLICE_KNOWN 15 /* SPLICE_F_MOVE, _NONBLOCK, _MORE, _GIFT */
#define SPLICE_NONBLOCK 2
#define AT_ONCE (64UL << 10)

/* Copy what one pipe has to another that has room for it; how much. */
static size_t copy_between(struct pipe *from, struct pipe *to, size_t n)
{
	size_t done = 0;

	n = MIN(n, MIN(from->used, pipe_room(to)));
	while (done < n) {
		size_t piece = n - done;
		const u8 *bytes = pipe_peek(from, done, &piece);
		size_t put = pipe_push(to, bytes, piece);

		done += put;
		if (put < piece)
			break;
	}
	return done;
}

static long between_pipes(struct file *from, struct file *to, size_t n, bool may_sleep, bool consume)
{
	struct pipe *in = pipe_of(from), *out = pipe_of(to);
	long result;

	if (in == out)
		return -EINVAL;
	may_sleep = may_sleep && !((from->flags | to->flags) & O_NONBLOCK);
	do { /* waiting for one, the other may have changed */
		result = pipe_wait_to_read(from, may_sleep);
		if (result <= 0)
			return result;
		result = pipe_wait_to_write(to, may_sleep);
		if (result)
			return result;
	} while (!in->used);
	n = copy_between(in, out, n);
	if (consume)
		pipe_consume(in, n);
	return n ? (long)n : -ENOMEM;
}

/* Write all that the pipe has, at most n. */
static long from_pipe(struct file *from, struct file *to, u64 *to_at, size_t n, bool may_sleep)
{
	struct pipe *p = pipe_of(from);
	long done = 0, result = pipe_wait_to_read(from, may_sleep && !(from->flags & O_NONBLOCK));

	if (result <= 0)
		return result;
	while ((size_t)done < n && p->used) {
		size_t piece = n - (size_t)done;
		struct iovec buffer = { (void *)pipe_peek(p, 0, &piece), piece };
		struct io io;

		buffer.iov_len = piece;
		io_init(&io, &buffer, 1);
		result = to->ops->write(to, &io, to_at);
		if (result == -EAGAIN && !done && may_sleep && !(to->flags & O_NONBLOCK)) {
			result = file_wait(to, POLLOUT, FOREVER);
			if (!result)
				continue;
			result = result == -EINTR ? -ERESTARTSYS : result;
		}
		if (result <= 0)
			break;
		pipe_consume(p, (size_t)result);
		done += result;
	}
	return done ? done : result;
}

/* Read once, as much as there is room for. */
static long to_pipe(struct file *from, u64 *from_at, struct file *to, size_t n, bool may_sleep)
{
	struct pipe *p = pipe_of(to);
	struct iovec buffer = { kalloc(AT_ONCE), 0 };
	u8 *bytes = buffer.iov_base;
	struct io io;
	long result = bytes ? 0 : -ENOMEM;

	while (!result) {
		result = pipe_wait_to_write(to, may_sleep && !(to->flags & O_NONBLOCK));
		if (result)
			break;
		buffer = (struct iovec){ bytes, MIN(n, MIN(AT_ONCE, pipe_room(p))) };
		io_init(&io, &buffer, 1);
		result = from->ops->read(from, &io, from_at);
		if (result != -EAGAIN || !may_sleep || from->flags & O_NONBLOCK)
			break;
		result = file_wait(from, POLLIN, FOREVER);
		result = result == -EINTR ? -ERESTARTSYS : result;
	}
	if (result > 0)
		result = (long)pipe_push(p, bytes, (size_t)result);
	kfree(bytes);
	return result;
}

/* The offset of the side that is no pipe: the program's variable, else the file's position. */
static long take_offset(const u64 *given, struct file *f, u64 *at)
{
	*at = f->position;
	if (!given)
		return 0;
	if (!f->ops->has_position)
		return -EINVAL;
	if (user_check(given, sizeof(*given), true))
		return -EFAULT;
	*at = *given;
	return (s64)*at < 0 ? -EINVAL : 0;
}

static void give_offset(u64 *given, struct file *f, u64 at)
{
	if (!given)
		f->position = at;
	else if (!user_check(given, sizeof(*given), true))
		*given = at;
}

static long with_file(struct file *from, u64 *from_at, struct file *to, u64 *to_at, size_t n, bool may_sleep)
{
	bool is_to_pipe = pipe_of(to);
	struct file *other = is_to_pipe ? from : to;
	u64 *given = is_to_pipe ? from_at : to_at, at;
	long result;

	if (is_to_pipe ? to_at : from_at)
		return -ESPIPE;
	if (is_to_pipe ? !other->ops->read : !other->ops->write || other->flags & O_APPEND)
		return -EINVAL;
	result = take_offset(given, other, &at);
	if (result)
		return result;
	result = is_to_pipe ? to_pipe(from, &at, to, n, may_sleep) : from_pipe(from, to, &at, n, may_sleep);
	if (result > 0)
		give_offset(given, other, at);
	return result;
}

/* Both ends, with references, open for reading and for writing. */
static long take_ends(u64 from_fd, u64 to_fd, struct file **from, struct file **to)
{
	long error = fd_take_io((int)from_fd, from);

	if (error)
		return error;
	error = fd_take_io((int)to_fd, to);
	if (error) {
		file_put(*from);
		return error;
	}
	if (((*from)->flags & O_ACCMODE) != O_WRONLY && ((*to)->flags & O_ACCMODE) != O_RDONLY)
		return 0;
	file_put(*from);
	file_put(*to);
	return -EBADF;
}

long sys_splice(u64 from_fd, u64 from_offset, u64 to_fd, u64 to_offset, u64 n, u64 flags)
{
	u64 *from_at = (u64 *)from_offset, *to_at = (u64 *)to_offset;
	bool may_sleep = !(flags & SPLICE_NONBLOCK);
	struct file *from, *to;
	long result;

	if (!n)
		return 0;
	if (flags & ~(u64)SPLICE_KNOWN)
		return -EINVAL;
	result = take_ends(from_fd, to_fd, &from, &to);
	if (result)
		return result;
	if (pipe_of(from) && pipe_of(to))
		result = from_at || to_at ? -ESPIPE : between_pipes(from, to, n, may_sleep, true);
	else if (pipe_of(from) || pipe_of(to))
		result = with_file(from, from_at, to, to_at, n, may_sleep);
	else
		result = -EINVAL;
	file_put(from);
	file_put(to);
	return result;
}

CALL4(tee, from_fd, to_fd, n, flags)
{
	struct file *from, *to;
	long result;

	if (flags & ~(u64)SPLICE_KNOWN)
		return -EINVAL;
	if (!n)
		return 0;
	result = take_ends(from_fd, to_fd, &from, &to);
	if (result)
		return result;
	result = -EINVAL;
	if (pipe_of(from) && pipe_of(to))
		result = between_pipes(from, to, n, !(flags & SPLICE_NONBLOCK), false);
	file_put(from);
	file_put(to);
	return result;
}

/* To a pipe, or from it, as writev and readv do; writing does not wait for room for everything. */
CALL4(vmsplice, fd, vector, count, flags)
{
	struct file *f;
	bool is_writing;
	long result;

	if (flags & ~(u64)SPLICE_KNOWN)
		return -EINVAL;
	result = fd_take_io((int)fd, &f);
	if (result)
		return result;
	is_writing = (f->flags & O_ACCMODE) != O_RDONLY;
	result = pipe_of(f) ? 0 : -EBADF;
	if (!result && is_writing && count)
		result = pipe_wait_to_write(f, !(flags & SPLICE_NONBLOCK) && !(f->flags & O_NONBLOCK));
	if (!result)
		result = transfer_vector((int)fd, vector, count, is_writing,
					 is_writing || flags & SPLICE_NONBLOCK ? RWF_NOWAIT : 0);
	file_put(f);
	return result;
}
