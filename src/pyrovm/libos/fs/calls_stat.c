/* What files are: stat and its relatives. */
#include <asm/statfs.h>
#include <linux/magic.h>

#include "calls.h"
#include "fs.h"

#define EROFS_BLOCK 4096

static void split(s64 ns, s64 *seconds, u64 *rest)
{
	*seconds = ns / NS_PER_S;
	*rest = (u64)(ns % NS_PER_S);
	if (ns % NS_PER_S < 0) {
		(*seconds)--;
		*rest += NS_PER_S;
	}
}

static u64 blocks_of(const struct inode *i) /* of 512 bytes */
{
	u64 image_pages = ALIGN_UP(i->image.size, PAGE_SIZE) >> PAGE_SHIFT;

	return S_ISREG(i->mode) || S_ISDIR(i->mode) ? MAX(i->ram.pages, image_pages) * 8 : 0;
}

static void fill(struct stat *s, const struct inode *i)
{
	s64 seconds;
	u64 rest;

	*s = (struct stat){ .st_dev = i->device, .st_ino = i->number, .st_nlink = i->nlink,
			    .st_mode = i->mode, .st_uid = i->uid, .st_gid = i->gid, .st_rdev = i->rdev,
			    .st_size = (long)i->size, .st_blksize = EROFS_BLOCK,
			    .st_blocks = (long)blocks_of(i) };
	split(i->atime, &seconds, &rest);
	s->st_atime = (u64)seconds, s->st_atime_nsec = rest;
	split(i->mtime, &seconds, &rest);
	s->st_mtime = (u64)seconds, s->st_mtime_nsec = rest;
	split(i->ctime, &seconds, &rest);
	s->st_ctime = (u64)seconds, s->st_ctime_nsec = rest;
}

static void fill_time(struct statx_timestamp *t, s64 ns)
{
	s64 seconds;
	u64 rest;

	split(ns, &seconds, &rest);
	t->tv_sec = seconds;
	t->tv_nsec = (u32)rest;
}

static void fill_x(struct statx *s, const struct inode *i)
{
	*s = (struct statx){ .stx_mask = STATX_BASIC_STATS, .stx_blksize = EROFS_BLOCK,
			     .stx_nlink = i->nlink, .stx_uid = i->uid, .stx_gid = i->gid,
			     .stx_mode = (u16)i->mode, .stx_ino = i->number, .stx_size = i->size,
			     .stx_blocks = blocks_of(i), .stx_dev_minor = i->device,
			     .stx_rdev_major = (u32)(i->rdev >> 8 & 0xfff),
			     .stx_rdev_minor = (u32)((i->rdev & 0xff) | (i->rdev >> 12 & 0xfff00)) };
	fill_time(&s->stx_atime, i->atime);
	fill_time(&s->stx_mtime, i->mtime);
	fill_time(&s->stx_ctime, i->ctime);
}

/* The inode by descriptor or path, as it is now, with a reference. */
static long find(int directory, const char *path, u64 flags, struct inode **found)
{
	struct file *f = NULL;
	struct walk w = { 0 };
	struct inode *i;
	long error;

	if (flags & AT_EMPTY_PATH && directory != AT_FDCWD) {
		error = path ? user_string(path, 1) : 0; /* only whether it is empty */
		if (error == -EFAULT)
			return error;
		if (error == 0) {
			f = fd_get(directory);
			if (!f)
				return -EBADF;
			if (!f->inode)
				return -EINVAL;
		}
	}
	if (!f) {
		error = walk_user(&w, directory, path, (flags & AT_SYMLINK_NOFOLLOW ? 0 : WALK_FOLLOW) |
							       (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0));
		if (error)
			return error;
	}
	i = f ? f->inode : w.at->inode;
	error = i->ops->refresh ? i->ops->refresh(f ? f->entry : w.at, i, f) : 0;
	if (!error) {
		inode_get(i);
		*found = i;
	}
	walk_end(&w);
	return error;
}

static long do_stat(int directory, u64 path, u64 to, u64 flags)
{
	struct inode *i;
	long error = find(directory, (char *)path, flags, &i);

	if (error)
		return error;
	if (user_check((void *)to, sizeof(struct stat), true))
		error = -EFAULT;
	else
		fill((struct stat *)to, i);
	inode_put(i);
	return error;
}

CALL2(stat, path, to)
{
	return do_stat(AT_FDCWD, path, to, 0);
}

CALL2(lstat, path, to)
{
	return do_stat(AT_FDCWD, path, to, AT_SYMLINK_NOFOLLOW);
}

CALL2(fstat, fd, to)
{
	return (int)fd < 0 ? -EBADF : do_stat((int)fd, 0, to, AT_EMPTY_PATH);
}

CALL4(newfstatat, directory, path, to, flags)
{
	if (flags & 0xffffffff & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT))
		return -EINVAL;
	return do_stat((int)directory, path, to, flags & 0xffffffff);
}

CALL5(statx, directory, path, flags, mask, to)
{
	struct inode *i;
	long error;

	if (flags & 0xffffffff & ~(u64)(AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH | AT_NO_AUTOMOUNT | AT_STATX_SYNC_TYPE) ||
	    mask & STATX__RESERVED || (flags & AT_STATX_SYNC_TYPE) == AT_STATX_SYNC_TYPE)
		return -EINVAL;
	error = find((int)directory, (char *)path, flags & 0xffffffff, &i);
	if (error)
		return error;
	if (user_check((void *)to, sizeof(struct statx), true))
		error = -EFAULT;
	else
		fill_x((struct statx *)to, i);
	inode_put(i);
	return error;
}

/* -------------------------------------------------------------------------------- statfs */

static long fill_fs(struct statfs *s, u32 device)
{
	if (user_check(s, sizeof(*s), true))
		return -EFAULT;
	*s = (struct statfs){ .f_type = TMPFS_MAGIC, .f_bsize = PAGE_SIZE, .f_frsize = PAGE_SIZE,
			      .f_namelen = NAME_MAX_LENGTH };
	switch (device) {
	case DEVICE_PROC:
		s->f_type = PROC_SUPER_MAGIC;
		break;
	case DEVICE_SYS:
		s->f_type = SYSFS_MAGIC;
		break;
	case DEVICE_PIPE:
		s->f_type = PIPEFS_MAGIC;
		break;
	case DEVICE_ANON:
		s->f_type = ANON_INODE_FS_MAGIC;
		break;
	default: /* what can be written goes into memory */
		s->f_blocks = (long)(page_count_total() + (erofs_size() >> PAGE_SHIFT));
		s->f_bfree = s->f_bavail = (long)page_count_free();
		s->f_files = s->f_ffree = (long)page_count_free();
	}
	return 0;
}

CALL2(statfs, path, to)
{
	struct walk w;
	long error = walk_user(&w, AT_FDCWD, (char *)path, WALK_FOLLOW);

	if (error)
		return error;
	error = fill_fs((struct statfs *)to, w.at->inode->device);
	walk_end(&w);
	return error;
}

CALL2(fstatfs, fd, to)
{
	struct file *f = fd_get((int)fd);

	if (!f)
		return -EBADF;
	return fill_fs((struct statfs *)to, f->inode ? f->inode->device : DEVICE_ANON);
}
