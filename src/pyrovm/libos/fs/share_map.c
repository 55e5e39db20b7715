/*
 * Mapped files of the host's folders.
 *
 * Their pages are copies in the VM's memory, one for each page of a file however often it is open or
 * mapped, so that all that the program does with a file fits together: what it maps, reads and writes.
 * What was written to mapped pages goes to the host at msync, fsync, read and write of the file, at
 * munmap with close, and when the program ends.  Which pages that are is found by a check sum: page
 * tables do not tell on every engine.  What others write to the file on the host is not seen in pages
 * that are there already.
 */
#include "share.h"

#define AT_ONCE 16 /* pages that are read together */

struct share_map {
	struct list link;
	u32 device, references; /* open files that have mapped it */
	u64 number;
	struct ram pages;
	struct list files; /* struct share_file, by same_map */
};

static struct list maps = LIST_INIT(maps);

static u64 sum_of(const u8 *page)
{
	const u64 *words = (const u64 *)page;
	u64 a = 0x9e3779b97f4a7c15, b = 0xc2b2ae3d27d4eb4f;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i += 2) {
		a = (a ^ words[i]) * 0xff51afd7ed558ccd;
		b = (b ^ words[i + 1]) * 0xc4ceb9fe1a85ec53;
		a ^= a >> 29;
		b ^= b >> 31;
	}
	return (a ^ (b << 1)) | 1; /* never 0 */
}

static struct share_map *find_map(const struct inode *i)
{
	struct share_map *m;

	list_each(m, &maps, link)
		if (m->device == i->device && m->number == i->number)
			return m;
	return NULL;
}

static struct share_map *map_of(struct file *f)
{
	struct share_file *open = f->data;

	if (open->map)
		return open->map;
	open->map = find_map(f->inode);
	if (!open->map) {
		open->map = kalloc(sizeof(*open->map));
		if (!open->map)
			return NULL;
		open->map->device = f->inode->device;
		open->map->number = f->inode->number;
		list_init(&open->map->files);
		list_add(&maps, &open->map->link);
	}
	open->map->references++;
	list_add(&open->map->files, &open->same_map);
	return open->map;
}

/* Bytes of the host's file to pages that are there, from offset on; the rest of them is zeros. */
static long read_pages(struct share_map *m, u64 offset, unsigned count)
{
	const struct share_file *reader = list_first(&m->files, struct share_file, same_map);
	struct share_request *r = share_request_create();
	u64 index = offset >> PAGE_SHIFT;
	long n;

	if (!r)
		return -ENOMEM;
	for (unsigned i = 0; i < count; i++)
		r->pieces[i] = (struct pv_iovec){ virt_to_phys(ram_page(&m->pages, index + i)), PAGE_SIZE };
	n = host_call(PV_READ, reader->handle, virt_to_phys(r->pieces), count, offset, 0, 0);
	kfree(r);
	if (n < 0)
		return -EIO;
	for (u64 at = (u64)n; at < count * PAGE_SIZE; at = ALIGN_DOWN(at, PAGE_SIZE) + PAGE_SIZE)
		memset(ram_page(&m->pages, index + (at >> PAGE_SHIFT)) + (at & PAGE_MASK), 0,
		       PAGE_SIZE - (at & PAGE_MASK));
	return 0;
}

/* The page, and those behind it that are not there yet, as far as the file goes. */
static long bring(struct file *f, struct share_map *m, u64 offset)
{
	u64 index = offset >> PAGE_SHIFT, end = ALIGN_UP(f->inode->size, PAGE_SIZE) >> PAGE_SHIFT;
	unsigned count = 0;
	long error;

	while (count < AT_ONCE && index + count < end && !ram_page(&m->pages, index + count)) {
		if (!ram_slot(&m->pages, index + count))
			break;
		count++;
	}
	error = count ? read_pages(m, offset, count) : -ENOMEM;
	if (error)
		ram_cut(&m->pages, index, index + count, false);
	return error;
}

/* Where the sum of a page is, as it was when it and the host's were the same; 0: not lent. */
static u64 *sum_at(struct share_file *open, u64 index)
{
	u64 *sums = (u64 *)ram_page(&open->sums, index >> 9);

	return sums ? &sums[index & 511] : NULL;
}

static long lend(struct share_file *open, u64 index, const u8 *page)
{
	if (!ram_slot(&open->sums, index >> 9))
		return -ENOMEM;
	if (!*sum_at(open, index))
		*sum_at(open, index) = sum_of(page);
	open->lent_end = MAX(open->lent_end, index + 1);
	return 0;
}

long share_page(struct file *f, u64 offset, bool write, u64 *gpa)
{
	struct share_map *m = map_of(f);
	long error = 0;
	u8 *page;

	if (!m)
		return -ENOMEM;
	if (write && f->flags & O_APPEND) /* the host would not write where it was changed */
		return -EACCES;
	if (offset >= ALIGN_UP(f->inode->size, PAGE_SIZE)) { /* another open file may have made it longer */
		error = share_refresh(f->entry, f->inode, f);
		if (error || offset >= ALIGN_UP(f->inode->size, PAGE_SIZE))
			return -ENXIO;
	}
	page = ram_page(&m->pages, offset >> PAGE_SHIFT);
	if (!page)
		error = bring(f, m, offset);
	if (error)
		return error;
	page = ram_page(&m->pages, offset >> PAGE_SHIFT);
	/* mprotect() may make it writable later */
	if ((f->flags & O_ACCMODE) == O_RDWR)
		error = lend(f->data, offset >> PAGE_SHIFT, page);
	*gpa = virt_to_phys(page);
	return error;
}

/* Write what has changed of these pages; never beyond the file's end, which others may have moved. */
static long flush(struct share_map *m, struct share_file *open, u64 first, u64 end)
{
	struct share_request *r = share_request_create();
	long error = r ? share_ask(r, PV_FILE_FSTAT, open->handle) : -ENOMEM;
	u64 size = r ? r->args.stat.size : 0;

	end = MIN(end, (ALIGN_UP(size, PAGE_SIZE)) >> PAGE_SHIFT);
	for (u64 index = first; !error && index < end; index++) {
		u64 *sum = sum_at(open, index), now, offset = index << PAGE_SHIFT;
		u8 *page = ram_page(&m->pages, index);
		long n;

		if (!sum) {
			index |= 511; /* none of its neighbours either */
			continue;
		}
		now = *sum ? sum_of(page) : 0;
		if (now == *sum)
			continue;
		r->pieces[0] = (struct pv_iovec){ virt_to_phys(page), MIN(PAGE_SIZE, size - offset) };
		n = host_call(PV_WRITE, open->handle, virt_to_phys(r->pieces), 1, offset, 0, 0);
		if (n < 0)
			error = n;
		else
			*sum = now;
	}
	kfree(r);
	return error;
}

static long flush_map(struct share_map *m, u64 first, u64 end)
{
	struct share_file *open;
	long error = 0, result = 0;

	list_each(open, &m->files, same_map) {
		if (first < open->lent_end)
			error = flush(m, open, first, MIN(end, open->lent_end));
		result = result ? result : error;
	}
	return result;
}

long share_map_flush(struct file *f, u64 offset, u64 n)
{
	struct share_map *m = list_empty(&maps) ? NULL : find_map(f->inode);
	u64 last;

	if (!m)
		return 0;
	if (__builtin_add_overflow(offset, n, &last))
		last = FOREVER;
	return flush_map(m, offset >> PAGE_SHIFT, (last >> PAGE_SHIFT) + 1);
}

void share_map_flush_all(void)
{
	struct share_map *m;

	list_each(m, &maps, link)
		flush_map(m, 0, FOREVER);
}

void share_map_changed(struct file *f, u64 offset, u64 n)
{
	struct share_map *m = list_empty(&maps) ? NULL : find_map(f->inode);
	struct share_file *open;

	if (!m || !n)
		return;
	for (u64 index = offset >> PAGE_SHIFT; index <= (offset + n - 1) >> PAGE_SHIFT; index++) {
		const u8 *page = ram_page(&m->pages, index);

		if (!page || read_pages(m, index << PAGE_SHIFT, 1))
			continue;
		list_each(open, &m->files, same_map) {
			u64 *sum = sum_at(open, index);

			if (sum && *sum)
				*sum = sum_of(page);
		}
	}
}

void share_map_release(struct share_file *open)
{
	struct share_map *m = open->map;

	if (!m)
		return;
	flush_map(m, 0, FOREVER);
	ram_cut(&open->sums, 0, FILE_SIZE_MAX >> PAGE_SHIFT, false);
	list_remove(&open->same_map);
	if (--m->references)
		return;
	list_remove(&m->link);
	ram_cut(&m->pages, 0, FILE_SIZE_MAX >> PAGE_SHIFT, false);
	kfree(m);
}
