/* Directories of the root image. */
#include "erofs.h"

/*
 * Blocks of: dirents (12 bytes each, the first one's name_offset tells how many), then their names,
 * one after the other, the last one ended by NUL or by the block.  Names are in order throughout.
 */
struct image_dirent {
	u64 nid;
	u16 name_offset;
	u8 type, reserved;
} __attribute__((packed));

struct block {
	const u8 *start;
	size_t size;
	unsigned count;
};

static long get_block(const struct erofs_node *dir, u64 index, struct block *b)
{
	u64 offset = index << BLOCK_SHIFT;
	struct image_dirent first;

	b->size = MIN(BLOCK, dir->size - offset);
	b->start = erofs_at(&dir->data, offset);
	if (b->size < sizeof(first))
		return erofs_damaged("a folder's block that is too short");
	memcpy(&first, b->start, sizeof(first));
	b->count = first.name_offset / sizeof(first);
	if (!b->count || first.name_offset % sizeof(first) || first.name_offset >= b->size)
		return erofs_damaged("a folder's block without order");
	return 0;
}

static long get_entry(const struct block *b, unsigned n, struct image_dirent *e, const char **name,
		      size_t *length)
{
	size_t end = b->size;
	const u8 *nul;

	memcpy(e, b->start + n * sizeof(*e), sizeof(*e));
	if (n + 1 < b->count) {
		struct image_dirent after;

		memcpy(&after, b->start + (n + 1) * sizeof(*e), sizeof(after));
		end = after.name_offset;
	}
	if (e->name_offset >= end || end > b->size || e->name_offset < b->count * sizeof(*e))
		return erofs_damaged("a folder's name outside");
	*name = (const char *)b->start + e->name_offset;
	*length = end - e->name_offset;
	for (nul = b->start + e->name_offset; nul < b->start + end && *nul; nul++)
		;
	*length = (size_t)(nul - (const u8 *)*name);
	if (!*length || *length > NAME_MAX_LENGTH)
		return erofs_damaged("a folder's name of no or too much length");
	for (size_t i = 0; i < *length; i++)
		if ((*name)[i] == '/')
			return erofs_damaged("a folder's name with a slash");
	return 0;
}

static int compare(const char *wanted, const char *name, size_t length)
{
	size_t n = strlen(wanted);
	int order = memcmp(wanted, name, MIN(n, length));

	return order ? order : n < length ? -1 : n > length;
}

long erofs_lookup(u64 nid, const char *wanted, u64 *found)
{
	struct erofs_node dir;
	struct image_dirent e;
	struct block b;
	const char *name;
	size_t length;
	long error = erofs_load(nid, &dir);
	u64 low = 0, high;
	unsigned first = 0, last;

	if (error)
		return error;
	if (!S_ISDIR(dir.mode))
		return erofs_damaged("a folder that is none");
	/* The last block whose first name is not behind the wanted one. */
	high = ALIGN_UP(dir.size, BLOCK) >> BLOCK_SHIFT;
	if (!high)
		return -ENOENT;
	while (high - low > 1) {
		u64 middle = low + (high - low) / 2;

		error = get_block(&dir, middle, &b);
		if (!error)
			error = get_entry(&b, 0, &e, &name, &length);
		if (error)
			return error;
		if (compare(wanted, name, length) < 0)
			high = middle;
		else
			low = middle;
	}
	error = get_block(&dir, low, &b);
	if (error)
		return error;
	for (last = b.count; first < last;) {
		unsigned middle = first + (last - first) / 2;
		int order;

		error = get_entry(&b, middle, &e, &name, &length);
		if (error)
			return error;
		order = compare(wanted, name, length);
		if (!order) {
			*found = e.nid;
			return 0;
		}
		if (order < 0)
			last = middle;
		else
			first = middle + 1;
	}
	return -ENOENT;
}

long erofs_entry(u64 nid, u64 *position, char to[NAME_MAX_LENGTH + 1], u64 *found, u8 *type)
{
	struct erofs_node dir;
	struct image_dirent e;
	struct block b;
	const char *name;
	size_t length;
	long error = erofs_load(nid, &dir);
	u64 block = *position >> 16, index = *position & 0xffff; /* a block has at most 341 entries */

	if (error)
		return error;
	if (!S_ISDIR(dir.mode))
		return erofs_damaged("a folder that is none");
	for (;; block++, index = 0) {
		if (block >= ALIGN_UP(dir.size, BLOCK) >> BLOCK_SHIFT)
			return 0;
		error = get_block(&dir, block, &b);
		if (error)
			return error;
		if (index < b.count)
			break;
	}
	error = get_entry(&b, (unsigned)index, &e, &name, &length);
	if (error)
		return error;
	memcpy(to, name, length);
	to[length] = 0;
	*found = e.nid;
	*type = MIN(e.type, 7);
	*position = block << 16 | (index + 1);
	return 1;
}
