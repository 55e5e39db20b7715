/* Making, removing and renaming. */
#include "calls.h"
#include "fs.h"

/* Why an operation that is missing is refused. */
static long refusal(const struct inode *dir)
{
	return dir->ops->is_read_only ? -EROFS : -EPERM;
}

static bool is_special(const char *name)
{
	return !*name || !strcmp(name, ".") || !strcmp(name, "..");
}

static long look_up(struct dentry *dir, const char *name, struct dentry **found)
{
	return dir->inode->ops->lookup ? dir->inode->ops->lookup(dir, name, found) : -ENOENT;
}

/* To the folder of what a path names, which must not be there yet. */
static long walk_to_new(struct walk *w, int directory, const char *path, bool may_end_in_slash)
{
	struct dentry *existing;
	long error = walk_user(w, directory, path, WALK_PARENT);

	if (error)
		return error;
	if (is_special(w->last))
		error = -EEXIST;
	else if (!S_ISDIR(w->at->inode->mode))
		error = -ENOTDIR;
	else
		error = look_up(w->at, w->last, &existing);
	if (!error) {
		dentry_put(existing);
		error = -EEXIST;
	} else if (error == -ENOENT) {
		error = w->wants_directory && !may_end_in_slash ? -ENOENT : 0;
	}
	if (error)
		walk_end(w);
	return error;
}

static long make(int directory, const char *path, const struct new_node *node)
{
	struct dentry *made;
	struct walk w;
	long error = walk_to_new(&w, directory, path, S_ISDIR(node->mode));

	if (error)
		return error;
	if (w.at->inode->ops->create)
		error = w.at->inode->ops->create(w.at, w.last, node, &made);
	else
		error = refusal(w.at->inode);
	if (!error)
		dentry_put(made);
	walk_end(&w);
	return error;
}

static long make_directory(int directory, u64 path, u64 mode)
{
	struct new_node node = { .mode = S_IFDIR | ((u32)mode & 01777 & ~umask_bits) };

	return make(directory, (char *)path, &node);
}

CALL2(mkdir, path, mode)
{
	return make_directory(AT_FDCWD, path, mode);
}

CALL3(mkdirat, directory, path, mode)
{
	return make_directory((int)directory, path, mode);
}

static long make_node(int directory, u64 path, u64 mode)
{
	u32 kind = mode & S_IFMT ? (u32)mode & S_IFMT : S_IFREG;
	struct new_node node = { .mode = kind | ((u32)mode & 07777 & ~umask_bits) };

	if (kind == S_IFDIR || kind == S_IFCHR || kind == S_IFBLK) /* no devices besides those of /dev */
		return -EPERM;
	if (kind != S_IFREG && kind != S_IFIFO && kind != S_IFSOCK)
		return -EINVAL;
	return make(directory, (char *)path, &node);
}

CALL2(mknod, path, mode)
{
	return make_node(AT_FDCWD, path, mode);
}

CALL3(mknodat, directory, path, mode)
{
	return make_node((int)directory, path, mode);
}

static long make_link(u64 target, int directory, u64 path)
{
	struct new_node node = { .mode = S_IFLNK | 0777 };
	char *text;
	long error = copy_path((char *)target, &text);

	if (error)
		return error;
	node.target = text;
	error = *text ? make(directory, (char *)path, &node) : -ENOENT;
	kfree(text);
	return error;
}

CALL2(symlink, target, path)
{
	return make_link(target, AT_FDCWD, path);
}

CALL3(symlinkat, target, directory, path)
{
	return make_link(target, (int)directory, path);
}

static long link_at(int old_directory, u64 old_path, int new_directory, u64 new_path, u64 flags)
{
	struct walk old, new;
	long error;

	if (flags & ~(u64)(AT_SYMLINK_FOLLOW | AT_EMPTY_PATH))
		return -EINVAL;
	error = walk_user(&old, old_directory, (char *)old_path,
			  (flags & AT_SYMLINK_FOLLOW ? WALK_FOLLOW : 0) |
				  (flags & AT_EMPTY_PATH ? WALK_EMPTY : 0));
	if (error)
		return error;
	error = walk_to_new(&new, new_directory, (char *)new_path, false);
	if (!error) {
		const struct inode_ops *ops = new.at->inode->ops;

		if (old.at->inode->device != new.at->inode->device)
			error = -EXDEV;
		else if (S_ISDIR(old.at->inode->mode))
			error = -EPERM;
		else
			error = ops->link ? ops->link(new.at, new.last, old.at) : refusal(new.at->inode);
		walk_end(&new);
	}
	walk_end(&old);
	return error;
}

CALL2(link, old_path, new_path)
{
	return link_at(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

CALL5(linkat, old_directory, old_path, new_directory, new_path, flags)
{
	return link_at((int)old_directory, old_path, (int)new_directory, new_path, (u32)flags);
}

/* ------------------------------------------------------------------------------ removing */

static long remove_entry(struct walk *w, bool is_directory)
{
	const struct inode_ops *ops = w->at->inode->ops;
	struct dentry *entry;
	long error;

	if (!S_ISDIR(w->at->inode->mode))
		return -ENOTDIR;
	if (is_special(w->last)) {
		if (!is_directory)
			return -EISDIR;
		return !*w->last ? -EBUSY : w->last[1] ? -ENOTEMPTY : -EINVAL;
	}
	error = look_up(w->at, w->last, &entry);
	if (error)
		return error;
	if (S_ISDIR(entry->inode->mode) != is_directory || (w->wants_directory && !is_directory))
		error = is_directory ? -ENOTDIR : S_ISDIR(entry->inode->mode) ? -EISDIR : -ENOTDIR;
	else if (entry->is_mount)
		error = -EBUSY;
	else
		error = ops->unlink ? ops->unlink(entry, is_directory) : refusal(w->at->inode);
	dentry_put(entry);
	return error;
}

static long remove_at(int directory, u64 path, bool is_directory)
{
	struct walk w;
	long error = walk_user(&w, directory, (char *)path, WALK_PARENT);

	if (error)
		return error;
	error = remove_entry(&w, is_directory);
	walk_end(&w);
	return error;
}

CALL1(unlink, path)
{
	return remove_at(AT_FDCWD, path, false);
}

CALL1(rmdir, path)
{
	return remove_at(AT_FDCWD, path, true);
}

CALL3(unlinkat, directory, path, flags)
{
	if ((u32)flags & ~(u32)AT_REMOVEDIR)
		return -EINVAL;
	return remove_at((int)directory, path, flags & AT_REMOVEDIR);
}

/* ------------------------------------------------------------------------------ renaming */

static bool is_within(struct dentry *d, const struct dentry *ancestor)
{
	for (; d != ancestor; d = d->parent)
		if (d->parent == d)
			return false;
	return true;
}

/* May `entry` become `existing`, which is there already? */
static long check_replacement(const struct dentry *entry, const struct dentry *existing, u32 flags)
{
	bool from_directory = S_ISDIR(entry->inode->mode), to_directory = S_ISDIR(existing->inode->mode);

	if (flags & RENAME_NOREPLACE)
		return -EEXIST;
	if (flags & RENAME_EXCHANGE)
		return existing->is_mount ? -EBUSY : 0;
	if (from_directory && !to_directory)
		return -ENOTDIR;
	if (to_directory && !from_directory)
		return -EISDIR;
	return existing->is_mount ? -EBUSY : 0;
}

static long rename_entry(struct walk *old, struct walk *new, struct dentry *entry, u32 flags)
{
	const struct inode_ops *ops = new->at->inode->ops;
	struct dentry *existing = NULL;
	bool is_directory = S_ISDIR(entry->inode->mode);
	long error;

	if (!is_directory && (old->wants_directory || (new->wants_directory && !(flags & RENAME_EXCHANGE))))
		return -ENOTDIR;
	if (is_directory && is_within(new->at, entry))
		return -EINVAL;
	error = look_up(new->at, new->last, &existing);
	if (error && (error != -ENOENT || flags & RENAME_EXCHANGE))
		return error;
	if (error) {
		existing = NULL;
		error = 0;
	} else if (flags & RENAME_EXCHANGE && new->wants_directory && !S_ISDIR(existing->inode->mode)) {
		error = -ENOTDIR;
	} else if (existing->inode == entry->inode && !(flags & RENAME_NOREPLACE)) {
		dentry_put(existing);
		return 0; /* two names of one file: nothing happens */
	} else if (S_ISDIR(existing->inode->mode) && is_within(old->at, existing)) {
		error = flags & RENAME_EXCHANGE ? -EINVAL : -ENOTEMPTY;
	} else {
		error = check_replacement(entry, existing, flags);
	}
	if (!error && entry->is_mount)
		error = -EBUSY;
	if (!error)
		error = ops->rename ? ops->rename(entry, new->at, new->last, existing, flags) :
				      refusal(new->at->inode);
	dentry_put(existing);
	return error;
}

static long rename_at(int old_directory, u64 old_path, int new_directory, u64 new_path, u32 flags)
{
	struct walk old, new;
	struct dentry *entry;
	long error;

	if (flags & ~(u32)(RENAME_NOREPLACE | RENAME_EXCHANGE) ||
	    flags == (RENAME_NOREPLACE | RENAME_EXCHANGE)) /* and no RENAME_WHITEOUT */
		return -EINVAL;
	error = walk_user(&old, old_directory, (char *)old_path, WALK_PARENT);
	if (error)
		return error;
	error = walk_user(&new, new_directory, (char *)new_path, WALK_PARENT);
	if (error) {
		walk_end(&old);
		return error;
	}
	if (!S_ISDIR(old.at->inode->mode) || !S_ISDIR(new.at->inode->mode))
		error = -ENOTDIR;
	else if (old.at->inode->device != new.at->inode->device)
		error = -EXDEV;
	else if (is_special(old.last) || is_special(new.last))
		error = flags & RENAME_NOREPLACE && !is_special(old.last) ? -EEXIST : -EBUSY;
	else
		error = look_up(old.at, old.last, &entry);
	if (!error) {
		error = rename_entry(&old, &new, entry, flags);
		dentry_put(entry);
	}
	walk_end(&new);
	walk_end(&old);
	return error;
}

CALL2(rename, old_path, new_path)
{
	return rename_at(AT_FDCWD, old_path, AT_FDCWD, new_path, 0);
}

CALL4(renameat, old_directory, old_path, new_directory, new_path)
{
	return rename_at((int)old_directory, old_path, (int)new_directory, new_path, 0);
}

CALL5(renameat2, old_directory, old_path, new_directory, new_path, flags)
{
	return rename_at((int)old_directory, old_path, (int)new_directory, new_path, (u32)flags);
}
