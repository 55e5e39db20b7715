/*
 * What is in a directory of the tree, for getdents.
 *
 * Positions: 0 is ".", 1 is "..", then what the image has and nothing hides (IN_IMAGE + its position
 * there), then what was made since, by the entry's id.  So reading goes on rightly whatever is made or
 * removed in between.
 */
#include "fs.h"

#define IN_IMAGE 2
#define IN_MEMORY (1ULL << 48)

static const u8 types_of_image[] = { 0, 8, 4, 2, 6, 1, 12, 10 }; /* EROFS_FT_* to DT_* */

u8 dirent_type(u32 mode)
{
	return (u8)(mode >> 12 & 15); /* DT_* are so chosen */
}

bool dirent_put(struct dirent_sink *s, const char *name, u64 number, u64 next, u8 type)
{
	size_t n = strlen(name) + 1, head = s->is_old ? 18 : 19;
	size_t length = ALIGN_UP(head + n + s->is_old, 8);
	u16 record_length = (u16)length;

	if (length > (size_t)(s->end - s->at)) {
		s->is_full = true;
		return false;
	}
	memset(s->at, 0, length);
	memcpy(s->at, &number, 8);
	memcpy(s->at + 8, &next, 8);
	memcpy(s->at + 16, &record_length, 2);
	memcpy(s->at + head, name, n);
	s->at[s->is_old ? length - 1 : 18] = type;
	s->at += length;
	s->written += length;
	return true;
}

static long from_image(struct file *f, struct dirent_sink *to)
{
	struct directory *d = f->inode->directory;
	u64 position = f->position - IN_IMAGE, nid;
	char name[NAME_MAX_LENGTH + 1];
	u8 type;

	while (d->image_nid) {
		long found = erofs_entry(d->image_nid, &position, name, &nid, &type);
		struct dentry *entry;

		if (found <= 0)
			return found;
		entry = directory_find(d, name);
		if (strcmp(name, ".") && strcmp(name, "..") && (!entry || entry->from_image) &&
		    !dirent_put(to, name, nid, IN_IMAGE + position, types_of_image[type]))
			return 0;
		f->position = IN_IMAGE + position;
	}
	return 0;
}

long tree_readdir(struct file *f, struct dirent_sink *to)
{
	struct dentry *entry, *me = f->entry;
	long error = 0;

	if (f->position == 0 && dirent_put(to, ".", f->inode->number, 1, 4))
		f->position = 1;
	if (f->position == 1 && dirent_put(to, "..", me->parent->inode->number, IN_IMAGE, 4))
		f->position = IN_IMAGE;
	if (f->position < IN_IMAGE)
		return 0;
	if (f->position < IN_MEMORY) {
		error = from_image(f, to);
		if (error || to->is_full)
			return error;
		f->position = IN_MEMORY;
	}
	list_each(entry, &f->inode->directory->order, order) {
		if (IN_MEMORY + entry->id <= f->position || !entry->inode || entry->from_image)
			continue;
		if (!dirent_put(to, entry->name, entry->inode->number, IN_MEMORY + entry->id,
				dirent_type(entry->inode->mode)))
			break;
		f->position = IN_MEMORY + entry->id;
	}
	return 0;
}

/* ------------------------------------------------------------------------- directories as files */

static long directory_readdir(struct file *f, struct dirent_sink *to)
{
	return f->inode->ops->readdir ? f->inode->ops->readdir(f, to) : -ENOTDIR;
}

static long directory_read(struct file *f, struct io *io, u64 *position)
{
	(void)f, (void)io, (void)position;
	return -EISDIR;
}

static long directory_seek(struct file *f, s64 offset, int whence)
{
	s64 to = whence == SEEK_CUR ? (s64)f->position + offset : offset;

	if ((whence != SEEK_SET && whence != SEEK_CUR) || to < 0)
		return -EINVAL;
	f->position = (u64)to;
	return to;
}

static long directory_sync(struct file *f)
{
	(void)f;
	return 0;
}

const struct file_ops directory_ops = {
	.kind = "directory",
	.read = directory_read,
	.seek = directory_seek,
	.readdir = directory_readdir,
	.sync = directory_sync,
	.poll = file_poll_always,
	.has_position = true,
};
