/*
 * The root image: EROFS as mkfs.erofs writes it without compression, read where it is mapped.
 *
 * Every number in it is checked before it leads anywhere, once, when an inode is loaded: what
 * struct image_data says lies within the image.  What does not fit fails with EUCLEAN, as Linux has
 * it, and erofs_problem says what it was.
 *
 *      1024              superblock
 *      meta_blkaddr      inodes, 32 bytes (compact) or 64 (extended), at 32 * nid; behind an inode
 *                        its xattrs (skipped) and, for flat-inline files, the file's last part
 */
#include "erofs.h"

#define SUPER_OFFSET 1024
#define SUPER_MAGIC 0xE0F5E1E2u
/* The only incompatible feature that says nothing about flat files: LZ4 clusters padded at the start. */
#define FEATURES_KNOWN 1u
#define LAYOUT_PLAIN 0
#define LAYOUT_INLINE 2

struct super {
	u32 magic, checksum, feature_compat;
	u8 block_bits, extension_slots;
	u16 root_nid;
	u64 inode_count, build_time;
	u32 build_time_ns, blocks, meta_block, xattr_block;
	u8 uuid[16], volume_name[16];
	u32 feature_incompat;
	u8 unused[44];
} __attribute__((packed));
_Static_assert(sizeof(struct super) == 128, "as on disk");

struct compact {
	u16 format, xattr_count, mode, nlink;
	u32 size, reserved, block, number;
	u16 uid, gid;
	u32 reserved2;
} __attribute__((packed));

struct extended {
	u16 format, xattr_count, mode, reserved;
	u64 size;
	u32 block, number, uid, gid;
	u64 mtime;
	u32 mtime_ns, nlink;
	u8 reserved2[16];
} __attribute__((packed));

static const u8 *image;
static u64 image_size, meta_offset, root_nid;
static s64 build_time;
const char *erofs_problem;

long erofs_damaged(const char *what)
{
	erofs_problem = what;
	return -EUCLEAN;
}

u64 erofs_size(void)
{
	return image_size;
}

u64 erofs_root(void)
{
	return root_nid;
}

/* Is [offset, offset + n) in the image? */
static bool is_within(u64 offset, u64 n)
{
	return n <= image_size && offset <= image_size - n;
}

static s64 to_ns(u64 seconds, u32 ns)
{
	return (s64)MIN(seconds, 1ULL << 33) * NS_PER_S + (s64)MIN(ns, 999999999u);
}

long erofs_init(const u8 *start, u64 size)
{
	struct super super;

	image = start;
	image_size = size;
	if (!is_within(SUPER_OFFSET, sizeof(super)))
		return erofs_damaged("too short for a superblock");
	memcpy(&super, image + SUPER_OFFSET, sizeof(super));
	if (super.magic != SUPER_MAGIC)
		return erofs_damaged("not an EROFS image");
	if (super.block_bits != BLOCK_SHIFT)
		return erofs_damaged("blocks are not of 4096 bytes");
	if (super.feature_incompat & ~FEATURES_KNOWN)
		return erofs_damaged("compressed, or with features that are not known");
	meta_offset = (u64)super.meta_block << BLOCK_SHIFT;
	root_nid = super.root_nid;
	build_time = to_ns(super.build_time, super.build_time_ns);
	erofs_problem = NULL;
	return 0;
}

/* What is common to both forms of inodes; extent: the inode's size and its xattrs'. */
static long read_inode(u64 offset, struct erofs_node *node, u64 *extent, unsigned *layout, u32 *block)
{
	struct extended x;
	struct compact c;
	u16 xattrs;

	if (!is_within(offset, sizeof(c)))
		return erofs_damaged("an inode outside");
	memcpy(&c, image + offset, sizeof(c));
	*layout = c.format >> 1 & 7;
	if (c.format & 0xfff0)
		return erofs_damaged("an inode of unknown format");
	xattrs = c.xattr_count;
	*node = (struct erofs_node){ .size = c.size, .mode = c.mode, .nlink = c.nlink, .uid = c.uid,
				     .gid = c.gid, .mtime = build_time };
	*block = c.block;
	*extent = sizeof(c);
	if (c.format & 1) {
		if (!is_within(offset, sizeof(x)))
			return erofs_damaged("an inode outside");
		memcpy(&x, image + offset, sizeof(x));
		*node = (struct erofs_node){ .size = x.size, .mode = x.mode, .nlink = x.nlink,
					     .uid = x.uid, .gid = x.gid,
					     .mtime = to_ns(x.mtime, x.mtime_ns) };
		*block = x.block;
		*extent = sizeof(x);
	}
	if (xattrs)
		*extent += 12 + 4 * ((u64)xattrs - 1);
	return 0;
}

static long place_data(u64 behind_inode, unsigned layout, u32 block, u64 size, struct image_data *d)
{
	u64 blocks;

	if (size > image_size)
		return erofs_damaged("a file larger than the image");
	*d = (struct image_data){ .plain = (u64)block << BLOCK_SHIFT, .tail_start = size, .size = size };
	if (!size)
		return 0;
	blocks = ALIGN_UP(size, BLOCK) >> BLOCK_SHIFT;
	if (layout == LAYOUT_INLINE) {
		blocks--;
		d->tail = behind_inode;
		d->tail_start = blocks << BLOCK_SHIFT;
		if ((behind_inode & (BLOCK - 1)) + (size - d->tail_start) > BLOCK)
			return erofs_damaged("a file's end that crosses a block");
		if (!is_within(d->tail, size - d->tail_start))
			return erofs_damaged("a file's end outside");
	} else if (layout != LAYOUT_PLAIN) {
		return erofs_damaged("a compressed file");
	}
	if (blocks && !is_within(d->plain, blocks << BLOCK_SHIFT))
		return erofs_damaged("a file's blocks outside");
	return 0;
}

long erofs_load(u64 nid, struct erofs_node *node)
{
	u64 offset, extent;
	unsigned layout;
	u32 block;
	long error;

	if (nid > image_size / 32)
		return erofs_damaged("an inode number that is too large");
	offset = meta_offset + nid * 32;
	error = read_inode(offset, node, &extent, &layout, &block);
	if (error)
		return error;
	switch (node->mode & S_IFMT) {
	case S_IFREG:
	case S_IFDIR:
	case S_IFLNK:
		return place_data(offset + extent, layout, block, node->size, &node->data);
	case S_IFCHR:
	case S_IFBLK: /* encoded as stat() has it */
		node->rdev = block;
		node->size = 0;
		return 0;
	case S_IFIFO:
	case S_IFSOCK:
		node->size = 0;
		return 0;
	default:
		return erofs_damaged("a file of unknown type");
	}
}

/* ---------------------------------------------------------------------------------- contents */

void erofs_read(const struct image_data *d, void *to, size_t n, u64 offset)
{
	size_t plain = offset < d->tail_start ? MIN(n, d->tail_start - offset) : 0;

	memcpy(to, image + d->plain + offset, plain);
	if (plain < n)
		memcpy((char *)to + plain, image + d->tail + (offset + plain - d->tail_start), n - plain);
}

const u8 *erofs_at(const struct image_data *d, u64 offset)
{
	return image + (offset < d->tail_start ? d->plain + offset : d->tail + (offset - d->tail_start));
}

const u8 *erofs_page(const struct image_data *d, u64 offset)
{
	/* The last block of a plain file is there as a whole, with zeros behind its end. */
	return offset < d->tail_start ? image + d->plain + offset : NULL;
}
