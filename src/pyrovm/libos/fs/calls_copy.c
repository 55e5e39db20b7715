/* Moving data between files, their sizes, and sync. */
#include <linux/falloc.h>
#include <linux/memfd.h>

#include "calls.h"
#include "fs.h"

#define COPY_AT_ONCE (64UL << 10)

/* Through a buffer of our own: neither side's memory is the program's. */
static long copy_piece(struct file *from, u64 *from_at, struct file *to, u64 *to_at, u8 *buffer, size_t n)
{
	struct iovec piece = { buffer, n };
	struct io io;
	u64 start = *from_at;
	long got, put;

	io_init(&io, &piece, 1);
	for (;;) {
		got = from->ops->read(from, &io, from_at);
		if (got != -EAGAIN || from->flags & O_NONBLOCK)
			break;
		got = file_wait(from, POLLIN, FOREVER);
		if (got)
			return got == -EINTR ? -ERESTARTSYS : got;
	}
	if (got <= 0)
		return got;
	for (long done = 0; done < got;) {
		piece = (struct iovec){ buffer + done, (size_t)(got - done) };
		io_init(&io, &piece, 1);
		put = to->ops->write(to, &io, to_at);
		if (put == -EAGAIN && !(to->flags & O_NONBLOCK))
			put = file_wait(to, POLLOUT, FOREVER);
		else if (put >= 0)
			done += put;
		if (put < 0) { /* what was read and not written is read again */
			*from_at = start + (u64)done;
			return done ? done : put;
		}
	}
	return got;
}

static long copy_all(struct file *from, u64 *from_at, struct file *to, u64 *to_at, u64 count)
{
	u8 *buffer = kalloc(COPY_AT_ONCE);
	long done = 0, n = 0;

	if (!buffer)
		return -ENOMEM;
	count = MIN(count, 0x7ffff000UL);
	while ((u64)done < count) {
		u64 wanted = MIN(COPY_AT_ONCE, count - (u64)done);

		n = copy_piece(from, from_at, to, to_at, buffer, wanted);
		if (n <= 0)
			break;
		done += n;
	}
	kfree(buffer);
	return done ? done : n;
}

static bool are_open_for_copy(const struct file *from, const struct file *to)
{
	return (from->flags & O_ACCMODE) != O_WRONLY && (to->flags & O_ACCMODE) != O_RDONLY;
}

/* Both files of a copy, with references. */
static long take_both(int from_fd, int to_fd, struct file **from, struct file **to)
{
	*from = fd_get(from_fd);
	*to = fd_get(to_fd);
	if (!*from || !*to || (*from)->flags & O_PATH || (*to)->flags & O_PATH)
		return -EBADF;
	file_get(*from);
	file_get(*to);
	return 0;
}

static void put_both(struct file *from, struct file *to)
{
	file_put(from);
	file_put(to);
}

CALL4(sendfile, to_fd, from_fd, offset_address, count)
{
	u64 *offset = (u64 *)offset_address;
	struct file *from, *to;
	long result = take_both((int)from_fd, (int)to_fd, &from, &to);

	if (result)
		return result;
	if (!are_open_for_copy(from, to)) {
		result = -EBADF;
	} else if (!from->ops->has_position || !from->ops->read || !to->ops->write || to->flags & O_APPEND ||
	    S_ISDIR(from->inode->mode)) {
		result = offset && !from->ops->has_position ? -ESPIPE : -EINVAL;
	} else if (offset && user_check(offset, sizeof(*offset), true)) {
		result = -EFAULT;
	} else if (offset && (s64)*offset < 0) {
		result = -EINVAL;
	} else {
		/* Both may be the same file. */
		u64 at = offset ? *offset : from->position, to_at = to->position;

		result = copy_all(from, &at, to, &to_at, count);
		to->position = to_at;
		if (!offset)
			from->position = at;
		else if (user_check(offset, sizeof(*offset), true) == 0)
			*offset = at;
	}
	put_both(from, to);
	return result;
}

/* One side's offset of copy_file_range: the program's variable, or the file's position. */
static long take_offset(u64 *address, struct file *f, u64 *at)
{
	if (!address) {
		*at = f->position;
		return 0;
	}
	if (user_check(address, sizeof(*address), true))
		return -EFAULT;
	*at = *address;
	return (s64)*at < 0 ? -EINVAL : 0;
}

static void give_offset(u64 *address, struct file *f, u64 at)
{
	if (address)
		*address = at;
	else
		f->position = at;
}

static long check_range_files(const struct file *from, const struct file *to)
{
	if (!from->inode || !to->inode || S_ISDIR(from->inode->mode) || S_ISDIR(to->inode->mode))
		return from->inode && to->inode ? -EISDIR : -EINVAL;
	if (!S_ISREG(from->inode->mode) || !S_ISREG(to->inode->mode))
		return -EINVAL;
	if (to->flags & O_APPEND || !are_open_for_copy(from, to))
		return -EBADF;
	return from->ops->read && to->ops->write ? 0 : -EINVAL;
}

long sys_copy_file_range(u64 from_fd, u64 from_offset, u64 to_fd, u64 to_offset, u64 count, u64 flags)
{
	struct file *from, *to;
	u64 from_at, to_at;
	long result;

	if (flags)
		return -EINVAL;
	result = take_both((int)from_fd, (int)to_fd, &from, &to);
	if (result)
		return result;
	result = check_range_files(from, to);
	if (!result)
		result = take_offset((u64 *)from_offset, from, &from_at);
	if (!result)
		result = take_offset((u64 *)to_offset, to, &to_at);
	if (!result) {
		count = from_at < file_size(from) ? MIN(count, file_size(from) - from_at) : 0;
		if (count && from->inode == to->inode && from_at < to_at + count && to_at < from_at + count)
			result = -EINVAL;
		else
			result = copy_all(from, &from_at, to, &to_at, count);
	}
	if (result > 0) {
		give_offset((u64 *)from_offset, from, from_at);
		give_offset((u64 *)to_offset, to, to_at);
	}
	put_both(from, to);
	return result;
}

/* ---------------------------------------------------------------------------------- sizes */

CALL2(truncate, path, size)
{
	struct walk w;
	long error;

	if ((s64)size < 0)
		return -EINVAL;
	error = walk_user(&w, AT_FDCWD, (char *)path, WALK_FOLLOW);
	if (error)
		return error;
	if (S_ISDIR(w.at->inode->mode))
		error = -EISDIR;
	else if (!S_ISREG(w.at->inode->mode))
		error = -EINVAL;
	else if (w.at->inode->ops->is_read_only)
		error = -EROFS;
	else
		error = w.at->inode->ops->truncate ? w.at->inode->ops->truncate(w.at, size) : -EPERM;
	walk_end(&w);
	return error;
}

CALL2(ftruncate, fd, size)
{
	struct file *f;
	long error;

	if ((s64)size < 0)
		return -EINVAL;
	error = fd_take_io((int)fd, &f);
	if (error)
		return error;
	if ((f->flags & O_ACCMODE) == O_RDONLY || !f->ops->truncate)
		error = -EINVAL;
	else
		error = f->ops->truncate(f, size);
	file_put(f);
	return error;
}

CALL4(fallocate, fd, mode, offset, length)
{
	struct file *f;
	long error;

	if ((s64)offset < 0 || (s64)length <= 0)
		return -EINVAL;
	error = fd_take_io((int)fd, &f);
	if (error)
		return error;
	if ((f->flags & O_ACCMODE) == O_RDONLY)
		error = -EBADF;
	else if (f->ops == &regular_ops)
		error = offset + length > FILE_SIZE_MAX ? -EFBIG :
			regular_allocate(f->inode, (int)mode, offset, length);
	else
		error = f->inode && S_ISDIR(f->inode->mode) ? -EISDIR : f->ops->has_position ? -EOPNOTSUPP : -ESPIPE;
	file_put(f);
	return error;
}

/* ----------------------------------------------------------------------------------- sync */

CALL1(fsync, fd)
{
	struct file *f;
	long error = fd_take_io((int)fd, &f);

	if (error)
		return error;
	error = f->ops->sync ? f->ops->sync(f) : -EINVAL;
	file_put(f);
	return error;
}

CALL0(sync)
{
	return 0;
}

CALL4(sync_file_range, fd, offset, length, flags)
{
	struct file *f = fd_get((int)fd);

	if (!f || f->flags & O_PATH)
		return -EBADF;
	return (s64)offset < 0 || (s64)length < 0 || flags > 7 ? -EINVAL : f->ops->has_position ? 0 : -ESPIPE;
}

CALL4(fadvise64, fd, offset, length, advice)
{
	struct file *f = fd_get((int)fd);

	(void)offset;
	if (!f || f->flags & O_PATH)
		return -EBADF;
	if (!f->ops->has_position)
		return -ESPIPE;
	return (s64)length < 0 || advice > 5 ? -EINVAL : 0;
}

CALL1(readahead, fd)
{
	struct file *f = fd_get((int)fd);

	if (!f || f->flags & O_PATH || (f->flags & O_ACCMODE) == O_WRONLY)
		return -EBADF;
	return f->inode && S_ISREG(f->inode->mode) ? 0 : -EINVAL;
}

/* ---------------------------------------------------------------------------------- memfd */

#define MEMFD_NAME_MAX 249 /* as Linux: NAME_MAX - strlen("memfd:") */

CALL2(memfd_create, name_address, flags)
{
	struct file *f;
	struct inode *i;
	char name[NAME_MAX_LENGTH + 16];
	long n = user_string((char *)name_address, MEMFD_NAME_MAX);

	if (n < 0)
		return n == -ENAMETOOLONG ? -EINVAL : n;
	if (flags & ~(u64)(MFD_CLOEXEC | MFD_ALLOW_SEALING))
		return -EINVAL;
	memcpy(name, (char *)name_address, (size_t)n);
	name[n] = 0;
	i = tree_inode(S_IFREG | 0777);
	if (!i)
		return -ENOMEM;
	i->nlink = 0;
	i->seals = flags & MFD_ALLOW_SEALING ? 0 : F_SEAL_SEAL;
	f = file_create(&regular_ops, O_RDWR, NULL);
	if (!f) {
		inode_put(i);
		return -ENOMEM;
	}
	f->inode = i;
	f->path = kalloc(sizeof(name) + 24);
	if (f->path)
		format(f->path, sizeof(name) + 24, "/memfd:%s (deleted)", name);
	return file_install(f, flags & MFD_CLOEXEC);
}
