/* Looking at names: links, what may be done, what is in a directory. */
#include "calls.h"
#include "fs.h"

static long read_link(int directory, const char *path, char *to, u64 size)
{
	struct walk w;
	char *text;
	long n;

	if ((s64)size <= 0 || size > 0x7fffffff)
		return -EINVAL;
	n = walk_user(&w, directory, path, WALK_EMPTY);
	if (n)
		return n;
	text = kalloc(PATH_MAX_LENGTH);
	if (!text)
		n = -ENOMEM;
	else if (!S_ISLNK(w.at->inode->mode))
		n = -EINVAL;
	else
		n = w.at->inode->ops->readlink(w.at, text, PATH_MAX_LENGTH);
	walk_end(&w);
	if (n > 0) {
		n = MIN(n, (long)size);
		if (user_check(to, (size_t)n, true))
			n = -EFAULT;
		else
			memcpy(to, text, (size_t)n);
	}
	kfree(text);
	return n;
}

CALL3(readlink, path, to, size)
{
	return read_link(AT_FDCWD, (char *)path, (char *)to, (u64)(s64)(int)size);
}

CALL4(readlinkat, directory, path, to, size)
{
	return read_link((int)directory, (char *)path, (char *)to, (u64)(s64)(int)size);
}

/* The program is root: everything may be done but what is not executable for anybody. */
static long check_access(const struct inode *i, u32 mode)
{
	if (mode & 1 && S_ISREG(i->mode) && !(i->mode & 0111))
		return -EACCES;
	return mode & 2 && i->ops->is_read_only && !S_ISCHR(i->mode) ? -EROFS : 0;
}

static long access_at(int directory, const char *path, u64 mode, u64 flags)
{
	struct walk w;
	long error;

	if (mode & ~7ULL || flags & ~(u64)(AT_EACCESS | AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	error = walk_user(&w, directory, path, (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
						       (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0));
	if (error)
		return error;
	error = check_access(w.at->inode, (u32)mode);
	walk_end(&w);
	return error;
}

CALL2(access, path, mode)
{
	return access_at(AT_FDCWD, (char *)path, (u32)mode, 0);
}

CALL3(faccessat, directory, path, mode)
{
	return access_at((int)directory, (char *)path, (u32)mode, 0);
}

CALL4(faccessat2, directory, path, mode, flags)
{
	return access_at((int)directory, (char *)path, (u32)mode, (u32)flags);
}

static long get_entries(int fd, void *to, u64 size, bool is_old)
{
	struct dirent_sink sink = { .at = to, .is_old = is_old };
	struct file *f;
	long error = fd_take_io(fd, &f);

	if (error)
		return error;
	size = MIN((u32)size, 1U << 20);
	sink.end = sink.at + size;
	if (!f->ops->readdir)
		error = -ENOTDIR;
	else if (!f->inode->nlink)
		error = -ENOENT;
	else if (user_check(to, size, true))
		error = -EFAULT;
	else
		error = f->ops->readdir(f, &sink);
	/* What was put there counts, even if what follows cannot be read. */
	if (sink.written)
		error = (long)sink.written;
	else if (!error && sink.is_full)
		error = -EINVAL;
	file_put(f);
	return error;
}

CALL3(getdents, fd, to, size)
{
	return get_entries((int)fd, (void *)to, size, true);
}

CALL3(getdents64, fd, to, size)
{
	return get_entries((int)fd, (void *)to, size, false);
}
