/* The writable tree: what was made since the start, over the root image. */
#include "pipe.h"
#include "tree.h"

struct dentry *root;
/* Of the image, with several names: kept, with a reference, while any of them is left. */
static struct list same_inodes = LIST_INIT(same_inodes);

struct inode *tree_inode(u32 mode)
{
	struct inode *i = inode_create(&tree_ops, mode, DEVICE_TREE);

	if (!i || !S_ISDIR(mode))
		return i;
	i->nlink = 2;
	i->directory = directory_create();
	if (i->directory)
		return i;
	inode_put(i);
	return NULL;
}

static long load_inode(u64 nid, struct inode **loaded)
{
	struct erofs_node node;
	struct inode *i;
	long error;

	list_each(i, &same_inodes, same) {
		if (i->image_nid == nid) {
			inode_get(i);
			*loaded = i;
			return 0;
		}
	}
	error = erofs_load(nid, &node);
	if (error)
		return error;
	if (S_ISLNK(node.mode) && (!node.size || node.size >= PATH_MAX_LENGTH))
		return -EUCLEAN;
	i = tree_inode(node.mode);
	if (!i)
		return -ENOMEM;
	i->nlink = node.nlink;
	i->uid = node.uid;
	i->gid = node.gid;
	i->size = node.size;
	i->rdev = node.rdev;
	i->atime = i->mtime = i->ctime = node.mtime;
	i->image = node.data;
	i->image_nid = i->number = nid;
	if (S_ISDIR(node.mode))
		i->directory->image_nid = nid;
	if (!S_ISDIR(node.mode) && node.nlink > 1) {
		list_add(&same_inodes, &i->same);
		inode_get(i);
	}
	*loaded = i;
	return 0;
}

static long tree_lookup(struct dentry *dir, const char *name, struct dentry **found)
{
	struct directory *d = dir->inode->directory;
	struct dentry *entry = directory_find(d, name);
	struct inode *i;
	long error;
	u64 nid;

	if (entry && !entry->inode)
		return -ENOENT;
	if (!entry) {
		if (!d->image_nid)
			return -ENOENT;
		error = erofs_lookup(d->image_nid, name, &nid);
		if (!error)
			error = load_inode(nid, &i);
		if (error)
			return error;
		entry = dentry_create(dir, name, i);
		if (!entry)
			return -ENOMEM;
		entry->from_image = entry->hides_image = true;
		error = directory_insert(d, entry);
		if (error)
			dentry_put(entry);
		*found = entry;
		return error;
	}
	dentry_get(entry);
	*found = entry;
	return 0;
}

static long tree_create(struct dentry *dir, const char *name, const struct new_node *node,
			struct dentry **made)
{
	struct inode *i = tree_inode(node->mode);
	struct dentry *entry;
	long error;

	if (!i)
		return -ENOSPC;
	i->uid = boot_info->uid;
	i->gid = dir->inode->mode & S_ISGID ? dir->inode->gid : boot_info->gid;
	if (S_ISDIR(node->mode))
		i->mode |= dir->inode->mode & S_ISGID;
	i->rdev = node->rdev;
	if (node->target) {
		i->target = kstrdup(node->target);
		i->size = strlen(node->target);
	}
	entry = dentry_create(dir, name, i);
	if (!entry || (node->target && !i->target)) {
		dentry_put(entry);
		return -ENOSPC;
	}
	error = tree_place(dir, entry);
	if (error) {
		dentry_put(entry);
		return error;
	}
	if (S_ISDIR(node->mode))
		dir->inode->nlink++;
	*made = entry;
	return 0;
}

static long tree_link(struct dentry *dir, const char *name, struct dentry *old)
{
	struct dentry *entry;
	long error;

	if (!old->inode->nlink && !old->inode->may_link)
		return -ENOENT;
	inode_get(old->inode);
	entry = dentry_create(dir, name, old->inode);
	if (!entry)
		return -ENOSPC;
	error = tree_place(dir, entry);
	if (!error) {
		old->inode->nlink++;
		old->inode->ctime = now_ns();
	}
	dentry_put(entry);
	return error;
}

static long tree_unlink(struct dentry *entry, bool is_directory)
{
	long error;

	if (is_directory && !tree_is_empty(entry))
		return -ENOTEMPTY;
	dentry_get(entry);
	error = tree_take_out(entry, true);
	if (!error)
		tree_forget(entry);
	dentry_put(entry);
	return error;
}

static long tree_readlink(struct dentry *entry, char *to, size_t size)
{
	struct inode *i = entry->inode;
	size_t n = MIN(size, i->size);

	if (i->target)
		memcpy(to, i->target, n);
	else
		erofs_read(&i->image, to, n, 0);
	return (long)n;
}

static long tree_open(struct file *f)
{
	switch (f->inode->mode & S_IFMT) {
	case S_IFREG:
		f->ops = &regular_ops;
		return 0;
	case S_IFDIR:
		f->ops = &directory_ops;
		return 0;
	case S_IFCHR:
		return device_open(f);
	case S_IFIFO:
		return fifo_open(f);
	default:
		return -ENXIO;
	}
}

static long tree_change(struct dentry *entry, struct inode *i, const struct attributes *a)
{
	(void)entry;
	if (a->valid & ATTR_MODE)
		i->mode = (i->mode & S_IFMT) | (a->mode & 07777);
	if (a->valid & ATTR_UID)
		i->uid = a->uid;
	if (a->valid & ATTR_GID)
		i->gid = a->gid;
	if (a->valid & ATTR_ATIME)
		i->atime = a->atime;
	if (a->valid & ATTR_MTIME)
		i->mtime = a->mtime;
	i->ctime = now_ns();
	return 0;
}

static long tree_truncate(struct dentry *entry, u64 size)
{
	return regular_truncate(entry->inode, size);
}

static void tree_destroy(struct inode *i)
{
	ram_cut(&i->ram, 0, FILE_SIZE_MAX >> PAGE_SHIFT, false);
	directory_destroy(i->directory);
	kfree(i->target);
}

const struct inode_ops tree_ops = {
	.lookup = tree_lookup,
	.create = tree_create,
	.link = tree_link,
	.unlink = tree_unlink,
	.rename = tree_rename,
	.readdir = tree_readdir,
	.readlink = tree_readlink,
	.open = tree_open,
	.change = tree_change,
	.truncate = tree_truncate,
	.destroy = tree_destroy,
};

struct dentry *tree_make(const char *path, u32 mode, u64 rdev, const char *target)
{
	struct new_node node = { mode, rdev, target };
	struct walk w;
	struct dentry *made = NULL;
	long error = walk_path(&w, AT_FDCWD, path, WALK_CREATE | WALK_FOLLOW);

	if (error)
		return NULL;
	if (!w.missing)
		return w.at; /* with its reference */
	error = w.at->inode->ops->create(w.at, w.last, &node, &made);
	walk_end(&w);
	return error ? NULL : made;
}

long tree_init(void)
{
	u8 *image = phys_to_virt(PV_IMAGE_GPA);
	struct inode *i = NULL;
	long error = 0;

	if (boot_info->image_size) {
		error = erofs_init(image, MIN(boot_info->image_size, PV_IMAGE_MAX));
		if (!error)
			error = load_inode(erofs_root(), &i);
		if (!error && !S_ISDIR(i->mode)) {
			inode_put(i);
			error = -EUCLEAN;
		}
	} else {
		i = tree_inode(S_IFDIR | 0755);
		error = i ? 0 : -ENOMEM;
	}
	if (error)
		return error;
	root = dentry_create(NULL, "", i);
	if (!root)
		return -ENOMEM;
	working_directory = root;
	dentry_get(root);
	return 0;
}
