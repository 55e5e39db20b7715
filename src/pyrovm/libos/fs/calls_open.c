/* Opening files, and where the program is in the tree. */
#include <linux/openat2.h>

#include "calls.h"
#include "fs.h"

#define O_TMPFILE_BIT 020000000

static bool is_writing(u32 flags)
{
	return (flags & O_ACCMODE) != O_RDONLY;
}

long open_entry(struct dentry *entry, u32 flags, struct file **opened)
{
	struct inode *i = entry->inode;
	struct file *f;
	long error = 0;

	if (flags & O_DIRECTORY && !S_ISDIR(i->mode))
		return -ENOTDIR;
	if (S_ISLNK(i->mode) && !(flags & O_PATH))
		return -ELOOP;
	if (S_ISDIR(i->mode) && (is_writing(flags) || flags & (O_CREAT | O_TRUNC)))
		return -EISDIR;
	if (i->ops->is_read_only && S_ISREG(i->mode) && is_writing(flags))
		return -EROFS;
	if (i->ops->reopen && !(flags & O_PATH)) {
		*opened = i->ops->reopen(i);
		return 0;
	}
	f = file_create(&path_only_ops, flags, NULL);
	if (!f)
		return -ENOMEM;
	inode_get(i);
	f->inode = i;
	dentry_get(entry);
	f->entry = entry;
	if (!(flags & O_PATH)) {
		error = i->ops->open ? i->ops->open(f) : -ENXIO;
		if (!error && flags & O_TRUNC && S_ISREG(i->mode) && is_writing(flags))
			error = f->ops->truncate ? f->ops->truncate(f, 0) : 0;
	}
	if (error)
		file_put(f);
	else
		*opened = f;
	return error;
}

static long create_and_open(struct walk *w, u32 flags, u32 mode, struct file **f)
{
	struct inode *dir = w->at->inode;
	struct new_node node = { .mode = S_IFREG | (mode & 07777 & ~umask_bits) };
	struct dentry *made;
	long error;

	if (!dir->ops->create)
		return dir->ops->is_read_only ? -EROFS : -EACCES;
	error = dir->ops->create(w->at, w->last, &node, &made);
	if (error)
		return error;
	error = open_entry(made, flags & ~(u32)(O_CREAT | O_TRUNC), f);
	dentry_put(made);
	return error;
}

/* O_TMPFILE: a file without name, which linkat() may give one. */
static long open_unnamed(struct dentry *dir, u32 flags, u32 mode, struct file **f)
{
	struct dentry *entry;
	struct inode *i;
	long error;
	char name[24];

	if (!S_ISDIR(dir->inode->mode))
		return -ENOTDIR;
	if (dir->inode->ops != &tree_ops)
		return -EOPNOTSUPP;
	i = tree_inode(S_IFREG | (mode & 07777 & ~umask_bits));
	if (!i)
		return -ENOSPC;
	i->nlink = 0;
	i->may_link = !(flags & O_EXCL);
	format(name, sizeof(name), "#%lu", i->number);
	entry = dentry_create(dir, name, i);
	if (!entry)
		return -ENOSPC;
	error = open_entry(entry, flags & ~(u32)(O_TMPFILE | O_CREAT | O_EXCL), f);
	dentry_put(entry);
	return error;
}

long open_at(int directory, const char *path, u32 flags, u32 mode, u32 resolve, struct file **f)
{
	u32 how = WALK_FOLLOW;
	struct walk w;
	long error;

	if (flags & O_PATH)
		flags &= O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC;
	if (flags & O_TMPFILE_BIT && ((flags & O_TMPFILE) != O_TMPFILE || !is_writing(flags)))
		return -EINVAL;
	if (flags & O_NOFOLLOW)
		how = 0;
	if (flags & O_CREAT && !(flags & O_TMPFILE_BIT)) {
		how |= WALK_CREATE;
		if (flags & O_EXCL)
			how &= ~(u32)WALK_FOLLOW;
		if (flags & O_DIRECTORY)
			return -EINVAL;
	}
	error = walk_resolved(&w, directory, path, how, resolve);
	if (error)
		return error;
	if (flags & O_TMPFILE_BIT)
		error = open_unnamed(w.at, flags, mode, f);
	else if (w.missing)
		error = create_and_open(&w, flags, mode, f);
	else if (flags & O_CREAT && flags & O_EXCL)
		error = -EEXIST;
	else
		error = open_entry(w.at, flags, f);
	walk_end(&w);
	return error;
}

static long open_call(int directory, const char *path, u32 flags, u32 mode, u32 resolve)
{
	struct file *f;
	char *copy;
	long result = copy_path(path, &copy);

	if (result)
		return result;
	result = open_at(directory, copy, flags, mode, resolve, &f);
	kfree(copy);
	return result ? result : file_install(f, flags & O_CLOEXEC);
}

CALL3(open, path, flags, mode)
{
	return open_call(AT_FDCWD, (char *)path, (u32)flags, (u32)mode, 0);
}

CALL4(openat, directory, path, flags, mode)
{
	return open_call((int)directory, (char *)path, (u32)flags, (u32)mode, 0);
}

CALL2(creat, path, mode)
{
	return open_call(AT_FDCWD, (char *)path, O_CREAT | O_WRONLY | O_TRUNC, (u32)mode, 0);
}

#define RESOLVE_KNOWN (RESOLVE_NO_XDEV | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_SYMLINKS | \
		       RESOLVE_BENEATH | RESOLVE_IN_ROOT | RESOLVE_CACHED)
#define OPEN_KNOWN (O_ACCMODE | O_CREAT | O_EXCL | O_NOCTTY | O_TRUNC | O_APPEND | O_NONBLOCK | \
		    O_DSYNC | O_SYNC | FASYNC | O_DIRECT | 0100000 | O_DIRECTORY | O_NOFOLLOW | \
		    O_NOATIME | O_CLOEXEC | O_PATH | O_TMPFILE)

CALL4(openat2, directory, path, how_address, size)
{
	const struct open_how *how = (void *)how_address;

	if (size < sizeof(*how))
		return -EINVAL;
	if (size > PAGE_SIZE)
		return -E2BIG;
	if (user_check(how, size, false))
		return -EFAULT;
	for (u64 n = sizeof(*how); n < size; n++)
		if (((const u8 *)how)[n])
			return -E2BIG;
	if (how->flags & ~(u64)OPEN_KNOWN || how->resolve & ~(u64)RESOLVE_KNOWN || how->mode & ~07777ULL ||
	    (how->mode && !(how->flags & (O_CREAT | O_TMPFILE_BIT))) ||
	    (how->resolve & RESOLVE_BENEATH && how->resolve & RESOLVE_IN_ROOT))
		return -EINVAL;
	if (how->resolve & RESOLVE_CACHED)
		return -EAGAIN;
	return open_call((int)directory, (char *)path, (u32)how->flags, (u32)how->mode, (u32)how->resolve);
}

/* ------------------------------------------------------------------------- working directory */

static void change_directory(struct dentry *to)
{
	dentry_get(to);
	dentry_put(working_directory);
	working_directory = to;
}

CALL1(chdir, path)
{
	struct walk w;
	long error = walk_user(&w, AT_FDCWD, (char *)path, WALK_FOLLOW);

	if (error)
		return error;
	if (!S_ISDIR(w.at->inode->mode))
		error = -ENOTDIR;
	else
		change_directory(w.at);
	walk_end(&w);
	return error;
}

CALL1(fchdir, fd)
{
	struct file *f = fd_get((int)fd);

	if (!f)
		return -EBADF;
	if (!f->entry || !S_ISDIR(f->inode->mode))
		return -ENOTDIR;
	change_directory(f->entry);
	return 0;
}

CALL2(getcwd, to, size)
{
	struct dentry *d = working_directory;
	char *path;
	size_t n;
	long result;

	if (!d->is_hashed && d != root && d->inode->device == DEVICE_TREE)
		return -ENOENT;
	path = kalloc(PATH_MAX_LENGTH);
	if (!path)
		return -ENOMEM;
	n = dentry_path(d, path, PATH_MAX_LENGTH) + 1;
	if (n > size)
		result = -ERANGE;
	else
		result = user_check((void *)to, n, true);
	if (!result) {
		memcpy((void *)to, path, n);
		result = (long)n;
	}
	kfree(path);
	return result;
}

CALL1(umask, mask)
{
	u32 old = umask_bits;

	umask_bits = (u32)mask & 0777;
	return old;
}
