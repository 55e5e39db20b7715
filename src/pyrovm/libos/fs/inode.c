/* Inodes, and the names that lead to them. */
#include "fs.h"

s64 now_ns(void)
{
	return (s64)clock_realtime();
}

u64 inode_next_number(void)
{
	static u64 last = 1ULL << 32; /* what the image numbers is below */

	return ++last;
}

struct inode *inode_create(const struct inode_ops *ops, u32 mode, u32 device)
{
	struct inode *i = kalloc(sizeof(*i));

	if (!i)
		return NULL;
	i->ops = ops;
	i->references = 1;
	i->mode = mode;
	i->nlink = 1;
	i->device = device;
	i->number = inode_next_number();
	i->atime = i->mtime = i->ctime = now_ns();
	list_init(&i->same);
	return i;
}

void inode_get(struct inode *i)
{
	i->references++;
}

void inode_put(struct inode *i)
{
	if (--i->references)
		return;
	list_remove(&i->same);
	if (i->ops->destroy)
		i->ops->destroy(i);
	kfree(i);
}

u32 name_hash(const char *name)
{
	u32 hash = 2166136261u; /* FNV-1a */

	for (; *name; name++)
		hash = (hash ^ (u8)*name) * 16777619u;
	return hash;
}

struct dentry *dentry_create(struct dentry *parent, const char *name, struct inode *i)
{
	size_t n = strlen(name) + 1;
	struct dentry *d = kalloc(sizeof(*d) + n);

	if (!d) {
		if (i)
			inode_put(i);
		return NULL;
	}
	memcpy(d->first_name, name, n);
	d->name = d->first_name;
	d->hash = name_hash(name);
	d->references = 1;
	d->inode = i;
	d->parent = parent ? parent : d;
	if (parent)
		dentry_get(parent);
	list_init(&d->order);
	return d;
}

void dentry_get(struct dentry *d)
{
	d->references++;
}

void dentry_put(struct dentry *d)
{
	while (d && !--d->references) {
		struct dentry *parent = d->parent == d ? NULL : d->parent;

		if (d->inode)
			inode_put(d->inode);
		if (d->name != d->first_name)
			kfree(d->name);
		kfree(d);
		d = parent; /* not by recursion: paths are deep */
	}
}

static bool is_deleted(const struct dentry *d)
{
	/* Entries of /proc and host folders are never hashed: they are where they were found. */
	return !d->is_hashed && d->parent != d && d->inode && d->inode->device == DEVICE_TREE;
}

size_t dentry_path(struct dentry *d, char *to, size_t size)
{
	const char *suffix = is_deleted(d) ? " (deleted)" : "";
	size_t end = 0;

	if (d->parent == d)
		return format(to, size, "/");
	for (struct dentry *at = d; at->parent != at; at = at->parent)
		end += strlen(at->name) + 1;
	if (end + strlen(suffix) >= size)
		return format(to, size, "?");
	format(to + end, size - end, "%s", suffix);
	for (; d->parent != d; d = d->parent) {
		size_t n = strlen(d->name);

		end -= n;
		memcpy(to + end, d->name, n);
		to[--end] = '/';
	}
	return strlen(to);
}
