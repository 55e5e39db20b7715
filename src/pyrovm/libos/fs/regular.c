/*
 * Regular files of the tree: pages in memory over the bytes of the root image.
 *
 * A page is copied from the image when it is first written to.  image.size says up to where the image
 * still shows through; a file that gets shorter loses it there.
 */
#include <linux/falloc.h>

#include "calls.h"
#include "erofs.h"

/* The page to write to. */
static u8 *writable_page(struct inode *i, u64 index)
{
	u64 offset = index << PAGE_SHIFT, *slot;
	u8 *page = ram_page(&i->ram, index);

	if (page)
		return page;
	slot = ram_slot(&i->ram, index);
	if (!slot)
		return NULL;
	page = phys_to_virt(*slot);
	if (offset < i->image.size)
		erofs_read(&i->image, page, MIN(PAGE_SIZE, i->image.size - offset), offset);
	return page;
}

static long regular_read(struct file *f, struct io *io, u64 *position)
{
	struct inode *i = f->inode;
	long done = 0;

	if (*position >= i->size)
		return 0;
	while (io->length && *position < i->size) {
		u64 offset = *position & PAGE_MASK, index = *position >> PAGE_SHIFT;
		size_t n = MIN(io->length, i->size - *position);
		const u8 *page = ram_page(&i->ram, index);

		if (page) {
			n = io_put(io, page + offset, MIN(n, PAGE_SIZE - offset));
		} else if (*position < i->image.size) {
			const struct image_data *d = &i->image;

			/* As far as the image goes, in one piece where no page of ours is in between. */
			n = MIN(n, d->size - *position);
			if (i->ram.pages)
				n = MIN(n, PAGE_SIZE - offset);
			if (*position < d->tail_start)
				n = MIN(n, d->tail_start - *position);
			n = io_put(io, erofs_at(d, *position), n);
		} else {
			n = io_clear(io, MIN(n, PAGE_SIZE - offset));
		}
		*position += n;
		done += (long)n;
	}
	return done;
}

static u64 size_limit(void)
{
	return MIN(limits[RLIMIT_FSIZE].rlim_cur, FILE_SIZE_MAX);
}

static long refuse_size(void)
{
	if (limits[RLIMIT_FSIZE].rlim_cur < FILE_SIZE_MAX)
		signal_send(current(), SIGXFSZ, SI_USER, 0, PROCESS_ID);
	return -EFBIG;
}

static long regular_write(struct file *f, struct io *io, u64 *position)
{
	struct inode *i = f->inode;
	long done = 0;

	if (f->flags & O_APPEND)
		*position = i->size;
	if (i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	if (i->seals & F_SEAL_GROW && *position + io->length > i->size)
		return -EPERM;
	if (*position >= size_limit())
		return io->length ? refuse_size() : 0;
	while (io->length && *position < size_limit()) {
		u64 offset = *position & PAGE_MASK;
		u8 *page = writable_page(i, *position >> PAGE_SHIFT);
		size_t n;

		if (!page)
			return done ? done : -ENOSPC;
		n = io_get(io, page + offset, MIN(PAGE_SIZE - offset, size_limit() - *position));
		*position += n;
		done += (long)n;
		i->size = MAX(i->size, *position);
	}
	if (done)
		i->mtime = i->ctime = now_ns();
	return done;
}

/* Zeros in [start, end), as far as the file has bytes there. */
static long clear_range(struct inode *i, u64 start, u64 end)
{
	u64 first = ALIGN_UP(start, PAGE_SIZE) >> PAGE_SHIFT, last = end >> PAGE_SHIFT;

	if (start & PAGE_MASK || first > last) {
		u8 *page = writable_page(i, start >> PAGE_SHIFT);

		if (!page)
			return -ENOSPC;
		memset(page + (start & PAGE_MASK), 0, MIN(end, ALIGN_UP(start, PAGE_SIZE)) - start);
	}
	if (end & PAGE_MASK && last >= first) {
		u8 *page = writable_page(i, last);

		if (!page)
			return -ENOSPC;
		memset(page, 0, end & PAGE_MASK);
	}
	if (first >= last)
		return 0;
	ram_cut(&i->ram, first, last, i->is_mapped);
	/* Where the image would show through, pages of zeros hide it. */
	for (u64 n = first; n < last && n << PAGE_SHIFT < i->image.size; n++)
		if (!ram_slot(&i->ram, n))
			return -ENOSPC;
	return 0;
}

long regular_truncate(struct inode *i, u64 size)
{
	if (size > i->size && size > size_limit())
		return refuse_size();
	if ((i->seals & F_SEAL_SHRINK && size < i->size) || (i->seals & F_SEAL_GROW && size > i->size))
		return -EPERM;
	if (size < i->size) {
		u64 pages = ALIGN_UP(size, PAGE_SIZE) >> PAGE_SHIFT;

		if (size & PAGE_MASK) { /* what follows must read as zeros if the file grows again */
			u8 *page = writable_page(i, size >> PAGE_SHIFT);

			if (!page)
				return -ENOSPC;
			memset(page + (size & PAGE_MASK), 0, PAGE_SIZE - (size & PAGE_MASK));
		}
		if (i->is_mapped)
			space_cut_file(i, size);
		/* Pages that the program had mapped stay what they are: memory. */
		ram_cut(&i->ram, pages, FILE_SIZE_MAX >> PAGE_SHIFT, i->is_mapped);
		i->image.size = MIN(i->image.size, size);
		i->image.tail_start = MIN(i->image.tail_start, size);
	}
	i->size = size;
	i->mtime = i->ctime = now_ns();
	return 0;
}

long regular_allocate(struct inode *i, int mode, u64 offset, u64 length)
{
	u64 end = offset + length, inside;

	if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE))
		return -EOPNOTSUPP;
	if (mode & FALLOC_FL_PUNCH_HOLE && mode != (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE))
		return -EOPNOTSUPP;
	if (end > FILE_SIZE_MAX)
		return -EFBIG;
	if (i->seals & F_SEAL_WRITE && mode & FALLOC_FL_PUNCH_HOLE)
		return -EPERM;
	if (i->seals & F_SEAL_GROW && !(mode & FALLOC_FL_KEEP_SIZE) && end > i->size)
		return -EPERM;
	inside = MIN(end, i->size);
	if (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && offset < inside) {
		long error = clear_range(i, offset, inside);

		if (error)
			return error;
	}
	/* Nothing is set aside: memory is given as it is written to.  But it must be there now. */
	if (!(mode & FALLOC_FL_PUNCH_HOLE) && length >> PAGE_SHIFT > page_count_free())
		return -ENOSPC;
	if (!(mode & FALLOC_FL_KEEP_SIZE))
		i->size = MAX(i->size, end);
	i->mtime = i->ctime = now_ns();
	return 0;
}

static long regular_truncate_file(struct file *f, u64 size)
{
	return regular_truncate(f->inode, size);
}

static long regular_page(struct file *f, u64 offset, bool write, u64 *gpa)
{
	struct inode *i = f->inode;
	const u8 *page = NULL;

	if (offset >= ALIGN_UP(i->size, PAGE_SIZE))
		return -ENXIO; /* the program gets SIGBUS */
	if (write && i->seals & (F_SEAL_WRITE | F_SEAL_FUTURE_WRITE))
		return -EPERM;
	/* The image's own page is handed out only where it can never be written to through this file, also
	 * not after mprotect().  Who maps it so keeps it if the file is written to later. */
	if (!write && (f->flags & O_ACCMODE) == O_RDONLY) {
		page = ram_page(&i->ram, offset >> PAGE_SHIFT);
		if (!page && offset < i->image.size)
			page = erofs_page(&i->image, offset);
	}
	if (!page)
		page = writable_page(i, offset >> PAGE_SHIFT);
	if (!page)
		return -ENOMEM;
	i->is_mapped = true;
	*gpa = virt_to_phys(page);
	return 0;
}

static long regular_sync(struct file *f)
{
	(void)f;
	return 0;
}

const struct file_ops regular_ops = {
	.kind = "file",
	.read = regular_read,
	.write = regular_write,
	.seek = file_seek,
	.poll = file_poll_always,
	.truncate = regular_truncate_file,
	.sync = regular_sync,
	.page = regular_page,
	.has_position = true,
};
