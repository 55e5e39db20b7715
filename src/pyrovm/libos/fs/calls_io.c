/* Reading and writing. */
#include "calls.h"
#include "fs.h"

#define IOV_FAST 8 /* pieces that need no memory */

struct vector {
	struct iovec fast[IOV_FAST], *pieces;
};

static long copy_vector(struct vector *v, const struct iovec *from, u64 count, struct io *io)
{
	u64 total = 0;

	if (count > UIO_MAXIOV)
		return -EINVAL;
	if (user_check(from, count * sizeof(*from), false))
		return -EFAULT;
	v->pieces = count <= IOV_FAST ? v->fast : kalloc(count * sizeof(*from));
	if (!v->pieces)
		return -ENOMEM;
	memcpy(v->pieces, from, count * sizeof(*from));
	for (u64 i = 0; i < count; i++) {
		total += v->pieces[i].iov_len;
		if ((s64)v->pieces[i].iov_len < 0 || (s64)total < 0) {
			if (v->pieces != v->fast)
				kfree(v->pieces);
			return -EINVAL;
		}
	}
	io_init(io, v->pieces, (unsigned)count);
	return 0;
}

static long transfer(struct file *f, struct io *io, u64 *position, bool write)
{
	u32 mode = f->flags & O_ACCMODE;

	if (write ? mode == O_RDONLY : mode == O_WRONLY)
		return -EBADF;
	if (write ? !f->ops->write : !f->ops->read)
		return S_ISDIR(f->inode ? f->inode->mode : 0) ? -EISDIR : -EINVAL;
	if (!io->length && f->ops->has_position && f->ops != &directory_ops)
		return 0;
	return write ? file_write(f, io, position) : file_read(f, io, position);
}

static long do_simple(int fd, u64 buffer, u64 n, u64 *position, bool write)
{
	struct iovec piece = { (void *)buffer, n };
	struct file *f;
	struct io io;
	long result = fd_take_io(fd, &f);

	if (result)
		return result;
	if (position && !f->ops->has_position) {
		result = -ESPIPE;
	} else if ((s64)n < 0) { /* it ends beyond all addresses */
		result = -EFAULT;
	} else {
		io_init(&io, &piece, 1);
		result = transfer(f, &io, position ? position : &f->position, write);
	}
	file_put(f);
	return result;
}

static long do_vector(int fd, u64 vector, u64 count, u64 *position, bool write, u32 flags)
{
	struct vector v;
	struct file *f;
	struct io io;
	long result = fd_take_io(fd, &f);

	if (result)
		return result;
	if (position && !f->ops->has_position) {
		file_put(f);
		return -ESPIPE;
	}
	result = copy_vector(&v, (struct iovec *)vector, count, &io);
	if (!result) {
		u32 old_flags = f->flags;
		u64 at = position ? *position : f->position;

		if (flags & RWF_NOWAIT && !f->ops->has_position)
			f->flags |= O_NONBLOCK; /* then the call cannot sleep, so nobody else sees it */
		if (flags & RWF_APPEND)
			f->flags |= O_APPEND;
		result = transfer(f, &io, position ? &at : &f->position, write);
		if (flags & (RWF_NOWAIT | RWF_APPEND))
			f->flags = old_flags;
		if (v.pieces != v.fast)
			kfree(v.pieces);
	}
	file_put(f);
	return result;
}

long transfer_vector(int fd, u64 vector, u64 count, bool write, u32 flags)
{
	return do_vector(fd, vector, count, NULL, write, flags);
}

CALL3(read, fd, buffer, n)
{
	return do_simple((int)fd, buffer, n, NULL, false);
}

CALL3(write, fd, buffer, n)
{
	return do_simple((int)fd, buffer, n, NULL, true);
}

CALL4(pread64, fd, buffer, n, position)
{
	return (s64)position < 0 ? -EINVAL : do_simple((int)fd, buffer, n, &position, false);
}

CALL4(pwrite64, fd, buffer, n, position)
{
	return (s64)position < 0 ? -EINVAL : do_simple((int)fd, buffer, n, &position, true);
}

CALL3(readv, fd, vector, count)
{
	return do_vector((int)fd, vector, count, NULL, false, 0);
}

CALL3(writev, fd, vector, count)
{
	return do_vector((int)fd, vector, count, NULL, true, 0);
}

/* The upper half of the offset is for 32-bit systems. */
CALL4(preadv, fd, vector, count, position)
{
	return (s64)position < 0 ? -EINVAL : do_vector((int)fd, vector, count, &position, false, 0);
}

CALL4(pwritev, fd, vector, count, position)
{
	return (s64)position < 0 ? -EINVAL : do_vector((int)fd, vector, count, &position, true, 0);
}

#define RWF_KNOWN (RWF_HIPRI | RWF_DSYNC | RWF_SYNC | RWF_NOWAIT | RWF_APPEND)

static long do_vector2(u64 fd, u64 vector, u64 count, u64 position, u64 flags, bool write)
{
	if (flags & ~(u64)RWF_KNOWN)
		return -EOPNOTSUPP;
	if ((s64)position < -1)
		return -EINVAL;
	return do_vector((int)fd, vector, count, position == FOREVER ? NULL : &position, write, (u32)flags);
}

long sys_preadv2(u64 fd, u64 vector, u64 count, u64 position, u64 high, u64 flags)
{
	(void)high;
	return do_vector2(fd, vector, count, position, flags & 0xffffffff, false);
}

long sys_pwritev2(u64 fd, u64 vector, u64 count, u64 position, u64 high, u64 flags)
{
	(void)high;
	return do_vector2(fd, vector, count, position, flags & 0xffffffff, true);
}

CALL3(lseek, fd, offset, whence)
{
	struct file *f;
	long result = fd_take_io((int)fd, &f);

	if (result)
		return result;
	if (whence > SEEK_MAX)
		result = -EINVAL;
	else
		result = f->ops->seek ? f->ops->seek(f, (s64)offset, (int)whence) : -ESPIPE;
	file_put(f);
	return result;
}
