/* Changing what files are: permissions, owners, times. */
#include <linux/utime.h>

#include "calls.h"
#include "fs.h"

#define UTIME_NOW_NS ((1L << 30) - 1L)
#define UTIME_OMIT_NS ((1L << 30) - 2L)
#define NOBODY 0xffffffffu /* chown: leave it */

static long change(struct dentry *entry, struct inode *i, const struct attributes *a)
{
	if (i->ops->is_read_only)
		return -EROFS;
	return i->ops->change ? i->ops->change(entry, i, a) : -EPERM;
}

static long change_at(int directory, u64 path, u64 flags, const struct attributes *a)
{
	struct walk w;
	long error;

	if (flags & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	error = walk_user(&w, directory, (char *)path, (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
							       (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0));
	if (error)
		return error;
	error = change(w.at, w.at->inode, a);
	walk_end(&w);
	return error;
}

static long change_file(u64 fd, const struct attributes *a)
{
	struct file *f;
	long error = fd_take_io((int)fd, &f);

	if (error)
		return error;
	error = f->inode ? change(f->entry, f->inode, a) : -EPERM;
	file_put(f);
	return error;
}

static struct attributes mode_change(u64 mode)
{
	return (struct attributes){ .valid = ATTR_MODE, .mode = (u32)mode & 07777 };
}

CALL2(chmod, path, mode)
{
	struct attributes a = mode_change(mode);

	return change_at(AT_FDCWD, path, 0, &a);
}

CALL2(fchmod, fd, mode)
{
	struct attributes a = mode_change(mode);

	return change_file(fd, &a);
}

CALL3(fchmodat, directory, path, mode)
{
	struct attributes a = mode_change(mode);

	return change_at((int)directory, path, 0, &a);
}

static struct attributes owner_change(u64 uid, u64 gid)
{
	return (struct attributes){ .valid = ((u32)uid != NOBODY ? ATTR_UID : 0) |
					     ((u32)gid != NOBODY ? ATTR_GID : 0),
				    .uid = (u32)uid, .gid = (u32)gid };
}

CALL3(chown, path, uid, gid)
{
	struct attributes a = owner_change(uid, gid);

	return change_at(AT_FDCWD, path, 0, &a);
}

CALL3(lchown, path, uid, gid)
{
	struct attributes a = owner_change(uid, gid);

	return change_at(AT_FDCWD, path, AT_SYMLINK_NOFOLLOW, &a);
}

CALL3(fchown, fd, uid, gid)
{
	struct attributes a = owner_change(uid, gid);

	return change_file(fd, &a);
}

CALL5(fchownat, directory, path, uid, gid, flags)
{
	struct attributes a = owner_change(uid, gid);

	return change_at((int)directory, path, (u32)flags, &a);
}

/* ---------------------------------------------------------------------------------- times */

static struct attributes time_change(s64 atime, s64 mtime)
{
	return (struct attributes){ .valid = ATTR_ATIME | ATTR_MTIME, .atime = atime, .mtime = mtime };
}

static long one_time(const struct __kernel_timespec *t, u32 bit, struct attributes *a, s64 *ns)
{
	if (t->tv_nsec == UTIME_OMIT_NS)
		return 0;
	if (t->tv_nsec != UTIME_NOW_NS && (t->tv_nsec < 0 || t->tv_nsec >= NS_PER_S))
		return -EINVAL;
	a->valid |= bit;
	*ns = t->tv_nsec == UTIME_NOW_NS ? now_ns() : t->tv_sec * NS_PER_S + t->tv_nsec;
	return 0;
}

CALL4(utimensat, directory, path, times, flags)
{
	const struct __kernel_timespec *t = (void *)times;
	struct attributes a = time_change(now_ns(), now_ns());
	long error;

	if (t) {
		if (user_check(t, 2 * sizeof(*t), false))
			return -EFAULT;
		a.valid = 0;
		error = one_time(&t[0], ATTR_ATIME, &a, &a.atime);
		if (!error)
			error = one_time(&t[1], ATTR_MTIME, &a, &a.mtime);
		if (error)
			return error;
		if (!a.valid)
			return 0;
	}
	if (!path && (int)directory != AT_FDCWD)
		return flags ? -EINVAL : change_file(directory, &a);
	return change_at((int)directory, path, (u32)flags, &a);
}

/* From microseconds, of utimes and futimesat. */
static long set_times(int directory, u64 path, u64 times)
{
	const struct __kernel_old_timeval *t = (void *)times;
	struct attributes a = time_change(now_ns(), now_ns());

	if (t) {
		if (user_check(t, 2 * sizeof(*t), false))
			return -EFAULT;
		if (t[0].tv_usec < 0 || t[0].tv_usec >= 1000000 || t[1].tv_usec < 0 || t[1].tv_usec >= 1000000)
			return -EINVAL;
		a = time_change(t[0].tv_sec * NS_PER_S + t[0].tv_usec * 1000,
				t[1].tv_sec * NS_PER_S + t[1].tv_usec * 1000);
	}
	if (!path && directory != AT_FDCWD)
		return change_file((u64)directory, &a);
	return change_at(directory, path, 0, &a);
}

CALL2(utimes, path, times)
{
	return set_times(AT_FDCWD, path, times);
}

CALL3(futimesat, directory, path, times)
{
	return set_times((int)directory, path, times);
}

CALL2(utime, path, times)
{
	const struct utimbuf *t = (void *)times;
	struct attributes a = time_change(now_ns(), now_ns());

	if (t) {
		if (user_check(t, sizeof(*t), false))
			return -EFAULT;
		a = time_change(t->actime * NS_PER_S, t->modtime * NS_PER_S);
	}
	return change_at(AT_FDCWD, path, 0, &a);
}

/* --------------------------------------------------------------- extended attributes: none */

CALL1(no_xattr, path)
{
	struct walk w;
	long error = walk_user(&w, AT_FDCWD, (char *)path, 0);

	if (error)
		return error;
	walk_end(&w);
	return -EOPNOTSUPP;
}

CALL1(fno_xattr, fd)
{
	struct file *f = fd_get((int)fd);

	return f && !(f->flags & O_PATH) ? -EOPNOTSUPP : -EBADF;
}

CALL1(listxattr, path)
{
	struct walk w;
	long error = walk_user(&w, AT_FDCWD, (char *)path, 0);

	if (!error)
		walk_end(&w);
	return error;
}

CALL1(flistxattr, fd)
{
	struct file *f = fd_get((int)fd);

	return f && !(f->flags & O_PATH) ? 0 : -EBADF;
}
