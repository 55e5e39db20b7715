/*
 * Folders of the host, passed with -v: every operation is the VMM's, by PV_FILE.
 *
 * Entries and inodes are made for each look-up and not kept, so changes on the host's side are seen.
 * An open file has a handle of the host's.
 */
#include "share.h"

struct share_request *share_request_create(void)
{
	return kalloc(sizeof(struct share_request));
}

long share_ask(struct share_request *r, enum pv_file_operation operation, u32 handle)
{
	return host_call(PV_FILE, operation, handle, virt_to_phys(&r->args), sizeof(r->args), 0, 0);
}

static u32 share_of(const struct inode *i)
{
	return i->device - DEVICE_SHARE;
}

/* The path of dir/name below the share; "." is the share itself.  name may be NULL. */
static long put_path(char *to, u64 *gpa, u32 *length, struct dentry *dir, const char *name)
{
	size_t at = PV_PATH_MAX;

	for (bool is_name = name; is_name || !dir->is_mount;) {
		const char *part = is_name ? name : dir->name;
		size_t n = strlen(part);

		if (n + 1 > at)
			return -ENAMETOOLONG;
		at -= n;
		memcpy(to + at, part, n);
		to[--at] = '/';
		if (!is_name)
			dir = dir->parent;
		is_name = false;
	}
	if (at == PV_PATH_MAX)
		to[--at] = '.';
	else
		at++; /* without the first slash */
	*gpa = virt_to_phys(to + at);
	*length = (u32)(PV_PATH_MAX - at);
	return 0;
}

static long set_path(struct share_request *r, struct dentry *dir, const char *name)
{
	return put_path(r->path, &r->args.path_gpa, &r->args.path_length, dir, name);
}

static long set_path2(struct share_request *r, struct dentry *dir, const char *name)
{
	return put_path(r->path2, &r->args.path2_gpa, &r->args.path2_length, dir, name);
}

/* One operation on a path, with what has been set in args. */
static long simple(enum pv_file_operation operation, struct dentry *dir, const char *name,
		   const struct pv_file_args *args)
{
	struct share_request *r = share_request_create();
	long error;

	if (!r)
		return -ENOMEM;
	r->args = *args;
	error = set_path(r, dir, name);
	if (!error)
		error = share_ask(r, operation, share_of(dir->inode));
	kfree(r);
	return error;
}

static void take_stat(struct inode *i, const struct pv_stat *s)
{
	i->number = s->ino;
	i->size = s->size;
	i->mode = s->mode;
	i->nlink = s->nlink;
	i->uid = s->uid;
	i->gid = s->gid;
	i->atime = s->atime_ns;
	i->mtime = s->mtime_ns;
	i->ctime = s->ctime_ns;
}

static long share_lookup(struct dentry *dir, const char *name, struct dentry **found)
{
	struct share_request *r = share_request_create();
	struct inode *i = r ? inode_create(dir->inode->ops, 0, dir->inode->device) : NULL;
	long error = i ? set_path(r, dir, name) : -ENOMEM;

	if (!error)
		error = share_ask(r, PV_FILE_STAT, share_of(dir->inode));
	if (!error) {
		take_stat(i, &r->args.stat);
		*found = dentry_create(dir, name, i);
		error = *found ? 0 : -ENOMEM;
	} else if (i) {
		inode_put(i);
	}
	kfree(r);
	return error;
}

long share_refresh(struct dentry *entry, struct inode *i, struct file *f)
{
	struct share_file *open = f && f->ops != &path_only_ops ? f->data : NULL;
	struct share_request *r = share_request_create();
	long error = r ? 0 : -ENOMEM;

	if (!error && !open)
		error = set_path(r, entry, NULL);
	if (!error)
		error = share_ask(r, open ? PV_FILE_FSTAT : PV_FILE_STAT, open ? open->handle : share_of(i));
	if (!error)
		take_stat(i, &r->args.stat);
	kfree(r);
	return error;
}

long share_open_host(struct dentry *dir, const char *name, u32 flags, u32 mode)
{
	struct pv_file_args args = { .flags = flags, .mode = mode };

	return simple(PV_FILE_OPEN, dir, name, &args);
}

static long share_create(struct dentry *dir, const char *name, const struct new_node *node,
			 struct dentry **made)
{
	struct pv_file_args args = { .mode = node->mode & 07777 };
	struct share_request *r;
	long error;

	switch (node->mode & S_IFMT) {
	case S_IFREG:
		error = share_open_host(dir, name, O_RDWR | O_CREAT | O_EXCL, node->mode & 07777);
		if (error >= 0)
			error = host_call(PV_CLOSE, (u64)error, 0, 0, 0, 0, 0);
		break;
	case S_IFDIR:
		error = simple(PV_FILE_MKDIR, dir, name, &args);
		break;
	case S_IFLNK:
		r = share_request_create();
		if (!r)
			return -ENOMEM;
		error = set_path(r, dir, name);
		r->args.path2_gpa = virt_to_phys(r->path2);
		r->args.path2_length = (u32)format(r->path2, PV_PATH_MAX, "%s", node->target);
		if (!error)
			error = share_ask(r, PV_FILE_SYMLINK, share_of(dir->inode));
		kfree(r);
		break;
	default:
		return -EPERM;
	}
	return error < 0 ? error : share_lookup(dir, name, made);
}

/* An operation with two paths: of an entry, and a name elsewhere in the share. */
static long two_paths(enum pv_file_operation operation, struct dentry *entry, struct dentry *dir,
		      const char *name, u32 flags)
{
	struct share_request *r = share_request_create();
	long error = r ? set_path(r, entry, NULL) : -ENOMEM;

	if (!error)
		error = set_path2(r, dir, name);
	if (!error) {
		r->args.flags = flags;
		error = share_ask(r, operation, share_of(dir->inode));
	}
	kfree(r);
	return error;
}

static long share_link(struct dentry *dir, const char *name, struct dentry *old)
{
	return two_paths(PV_FILE_LINK, old, dir, name, 0);
}

static long share_rename(struct dentry *entry, struct dentry *dir, const char *name,
			 struct dentry *existing, u32 flags)
{
	(void)existing;
	return two_paths(PV_FILE_RENAME, entry, dir, name, flags);
}

static long share_unlink(struct dentry *entry, bool is_directory)
{
	struct pv_file_args args = { .flags = is_directory ? AT_REMOVEDIR : 0 };

	return simple(PV_FILE_UNLINK, entry, NULL, &args);
}

static long share_readlink(struct dentry *entry, char *to, size_t size)
{
	struct share_request *r = share_request_create();
	long n = r ? set_path(r, entry, NULL) : -ENOMEM;

	if (!n) {
		r->args.gpa = virt_to_phys(r->path2);
		r->args.length = MIN(size, sizeof(r->path2));
		n = share_ask(r, PV_FILE_READLINK, share_of(entry->inode));
		n = MIN(n, (long)r->args.length);
	}
	if (n > 0)
		memcpy(to, r->path2, (size_t)n);
	kfree(r);
	return n;
}

static long share_change(struct dentry *entry, struct inode *i, const struct attributes *a)
{
	struct pv_file_args args = { .mode = a->mode, .atime_ns = i->atime, .mtime_ns = i->mtime };
	long error = 0;

	/* Who owns files of the host is the host's matter. */
	if ((a->valid & ATTR_UID && a->uid != i->uid) || (a->valid & ATTR_GID && a->gid != i->gid))
		return -EPERM;
	if (a->valid & ATTR_MODE)
		error = simple(PV_FILE_CHMOD, entry, NULL, &args);
	if (!error && a->valid & (ATTR_ATIME | ATTR_MTIME)) {
		args.atime_ns = a->valid & ATTR_ATIME ? a->atime : i->atime;
		args.mtime_ns = a->valid & ATTR_MTIME ? a->mtime : i->mtime;
		error = simple(PV_FILE_UTIMENS, entry, NULL, &args);
	}
	return error;
}

static long share_truncate(struct dentry *entry, u64 size)
{
	struct file *f;
	long error = open_entry(entry, O_WRONLY, &f);

	if (error)
		return error;
	error = f->ops->truncate ? f->ops->truncate(f, size) : -EINVAL;
	file_put(f);
	return error;
}

static const struct inode_ops share_ops = {
	.lookup = share_lookup,
	.create = share_create,
	.link = share_link,
	.unlink = share_unlink,
	.rename = share_rename,
	.readlink = share_readlink,
	.open = share_open,
	.change = share_change,
	.refresh = share_refresh,
	.truncate = share_truncate,
};

static const struct inode_ops read_only_share_ops = {
	.is_read_only = true,
	.lookup = share_lookup,
	.readlink = share_readlink,
	.open = share_open,
	.refresh = share_refresh,
};

/* Folders on the way to where a share is mounted. */
static void make_parents(char *path)
{
	for (char *slash = strchr(path + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
		*slash = 0;
		dentry_put(tree_make(path, S_IFDIR | 0755, 0, NULL));
		*slash = '/';
	}
}

void shares_init(void)
{
	const char *strings = phys_to_virt(boot_info->strings_gpa);

	for (u32 n = 0; n < MIN(boot_info->share_count, (u32)PV_SHARES_MAX); n++) {
		const struct pv_share *s = &boot_info->shares[n];
		struct inode *i = inode_create(s->read_only ? &read_only_share_ops : &share_ops,
					       S_IFDIR | 0755, DEVICE_SHARE + n);
		char *path = kstrdup(strings + s->path_offset);

		if (!i || !path)
			panic("no memory for the folder %s", strings + s->path_offset);
		make_parents(path);
		mount_at(path, i);
		kfree(path);
	}
}
