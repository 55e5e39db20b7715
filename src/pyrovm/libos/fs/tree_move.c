/* The writable tree: putting entries into folders, taking them out, renaming. */
#include "tree.h"

static void touch(struct inode *i)
{
	i->mtime = i->ctime = now_ns();
}

long tree_place(struct dentry *dir, struct dentry *entry)
{
	struct directory *d = dir->inode->directory;
	struct dentry *whiteout = directory_find(d, entry->name);
	long error;

	if (!dir->is_hashed && dir != root)
		return -ENOENT; /* a folder that was removed */
	error = directory_insert(d, entry);
	if (error)
		return error;
	entry->hides_image = whiteout;
	entry->from_image = false;
	if (whiteout)
		directory_remove(d, whiteout);
	touch(dir->inode);
	return 0;
}

bool tree_is_empty(struct dentry *dir)
{
	struct directory *d = dir->inode->directory;
	char name[NAME_MAX_LENGTH + 1];
	struct dentry *entry;
	u64 position = 0, nid;
	u8 type;

	list_each(entry, &d->order, order)
		if (entry->inode)
			return false;
	while (d->image_nid && erofs_entry(d->image_nid, &position, name, &nid, &type) == 1)
		if (strcmp(name, ".") && strcmp(name, "..") && !directory_find(d, name))
			return false;
	return true;
}

long tree_take_out(struct dentry *entry, bool needs_whiteout)
{
	struct dentry *dir = entry->parent, *whiteout = NULL;
	struct directory *d = dir->inode->directory;
	long error = 0;

	if (needs_whiteout && entry->hides_image) {
		whiteout = dentry_create(dir, entry->name, NULL);
		error = whiteout ? directory_insert(d, whiteout) : -ENOSPC;
		if (error) {
			dentry_put(whiteout);
			return error;
		}
		whiteout->hides_image = true;
		dentry_put(whiteout);
	}
	directory_remove(d, entry);
	touch(dir->inode);
	return 0;
}

void tree_forget(struct dentry *entry) /* which is out now */
{
	struct inode *i = entry->inode;

	i->ctime = now_ns();
	if (!S_ISDIR(i->mode)) {
		if (i->nlink > 0) /* a damaged image may say anything */
			i->nlink--;
		if (!i->nlink && !list_empty(&i->same)) {
			list_remove(&i->same);
			inode_put(i);
		}
		return;
	}
	i->nlink = 0;
	entry->parent->inode->nlink--;
	directory_purge(i->directory);
	i->directory->image_nid = 0;
}

static void set_place(struct dentry *entry, struct dentry *dir, char *name) /* takes both */
{
	if (entry->name != entry->first_name)
		kfree(entry->name);
	entry->name = name;
	entry->hash = name_hash(name);
	entry->parent = dir;
	entry->from_image = false;
}

/* RENAME_EXCHANGE: both are there, and neither is within the other. */
static long exchange(struct dentry *a, struct dentry *b)
{
	struct dentry *a_dir = a->parent, *b_dir = b->parent;
	char *a_name = kstrdup(a->name), *b_name = kstrdup(b->name);
	bool a_hides = a->hides_image;
	int moved;

	if (!a_name || !b_name || directory_reserve(a_dir->inode->directory) ||
	    directory_reserve(b_dir->inode->directory)) {
		kfree(a_name);
		kfree(b_name);
		return -ENOSPC;
	}
	dentry_get(a);
	dentry_get(b);
	directory_remove(a_dir->inode->directory, a);
	directory_remove(b_dir->inode->directory, b);
	set_place(a, b_dir, b_name);
	set_place(b, a_dir, a_name);
	a->hides_image = b->hides_image; /* that goes with the name */
	b->hides_image = a_hides;
	directory_insert(b_dir->inode->directory, a); /* there is room for it */
	directory_insert(a_dir->inode->directory, b);
	moved = S_ISDIR(a->inode->mode) - S_ISDIR(b->inode->mode);
	a_dir->inode->nlink -= (u32)moved;
	b_dir->inode->nlink += (u32)moved;
	touch(a_dir->inode);
	touch(b_dir->inode);
	a->inode->ctime = b->inode->ctime = now_ns();
	dentry_put(a);
	dentry_put(b);
	return 0;
}

long tree_rename(struct dentry *entry, struct dentry *dir, const char *name,
			struct dentry *existing, u32 flags)
{
	struct dentry *old_dir = entry->parent;
	struct inode *i = entry->inode;
	bool hides = false;
	char *new_name;
	long error;

	if (flags & RENAME_EXCHANGE)
		return exchange(entry, existing);
	if (flags & ~(u32)RENAME_NOREPLACE)
		return -EINVAL;
	if (!dir->is_hashed && dir != root)
		return -ENOENT;
	if (existing && S_ISDIR(existing->inode->mode) && !tree_is_empty(existing))
		return -ENOTEMPTY;
	new_name = kstrdup(name);
	if (!new_name)
		return -ENOSPC;
	dentry_get(entry);
	error = directory_reserve(dir->inode->directory);
	if (!error)
		error = tree_take_out(entry, true);
	if (error) {
		dentry_put(entry);
		kfree(new_name);
		return error;
	}
	/* The same entry goes on under the new name: files are open by it. */
	if (existing) {
		hides = existing->hides_image;
		dentry_get(existing);
		tree_take_out(existing, false);
		tree_forget(existing);
		dentry_put(existing);
	}
	if (entry->name != entry->first_name)
		kfree(entry->name);
	entry->name = new_name;
	entry->hash = name_hash(name);
	dentry_get(dir);
	entry->parent = dir;
	tree_place(dir, entry); /* cannot fail: there is room for it */
	entry->hides_image |= hides;
	if (S_ISDIR(i->mode)) {
		old_dir->inode->nlink--;
		dir->inode->nlink++;
	}
	i->ctime = now_ns();
	dentry_put(old_dir);
	dentry_put(entry);
	return 0;
}
