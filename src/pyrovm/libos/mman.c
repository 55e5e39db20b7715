/* The system calls about memory. */
#include "calls.h"
#include "file.h"
#include "pagetable.h"
#include "vma.h"

static u64 heap_start, heap_end;

void space_init(u64 image_end)
{
	heap_start = heap_end = ALIGN_UP(image_end, PAGE_SIZE);
}

long sys_brk(u64 wanted, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	u64 old = ALIGN_UP(heap_end, PAGE_SIZE), new = ALIGN_UP(wanted, PAGE_SIZE);

	if (wanted < heap_start || wanted >= USER_END)
		return (long)heap_end;
	if (new > old) {
		/* Ahead of what is asked for: a heap that grows, grows on. */
		if (!vma_range_is_free(old, new) ||
		    space_map(old, new - old, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, NULL, 0) < 0)
			return (long)heap_end;
		vma_at(old)->name = "[heap]";
		vma_join(heap_start, new);
	} else if (new < old && space_unmap(new, old - new)) {
		return (long)heap_end;
	}
	heap_end = wanted;
	return (long)wanted;
}

long sys_mmap(u64 address, u64 length, u64 prot, u64 flags, u64 fd, u64 offset)
{
	struct file *file = NULL;
	u64 type = flags & MAP_TYPE;

	if (type != MAP_SHARED && type != MAP_PRIVATE && type != MAP_SHARED_VALIDATE)
		return -EINVAL;
	if (flags & MAP_HUGETLB)
		return -ENOMEM; /* no huge pages are reserved; programs fall back */
	if (!(flags & MAP_ANONYMOUS)) {
		u32 mode;

		file = fd_get((int)fd);
		if (!file || file->flags & O_PATH)
			return -EBADF;
		mode = file->flags & O_ACCMODE;
		if (mode == O_WRONLY || (type != MAP_PRIVATE && prot & PROT_WRITE && mode != O_RDWR))
			return -EACCES;
	}
	if (type == MAP_SHARED_VALIDATE)
		flags = (flags & ~(u64)MAP_TYPE) | MAP_SHARED;
	return space_map(address, length, (int)prot, (int)flags, file, file ? offset : 0);
}

long sys_munmap(u64 address, u64 length, u64 c, u64 d, u64 e, u64 f)
{
	return space_unmap(address, length);
}

long sys_mprotect(u64 address, u64 length, u64 prot, u64 d, u64 e, u64 f)
{
	return space_protect(address, length, (int)prot);
}

/* ------------------------------------------------------------------------------------ mremap */

struct move {
	u64 from, to;
	long error;
};

static void move_entry(u64 *entry, u64 address, bool huge, void *context)
{
	struct move *m = context;
	u64 to = m->to + (address - m->from), *new;

	if (m->error)
		return;
	new = huge ? pte_make_huge(to) : pte_make(to);
	if (!new) {
		m->error = -ENOMEM;
		return;
	}
	*new = *entry;
	*entry = 0;
}

/* Move an area's pages to another place, which is free. */
static long move_area(const struct vma *old, u64 start, u64 old_length, u64 to, u64 new_length)
{
	struct vma area = *old;
	struct move m = { start, to, 0 };
	long error;

	area.offset += start - old->start;
	area.start = to;
	area.end = to + new_length;
	error = vma_split(start, start + old_length);
	/* Huge entries stay whole only where both places are aligned. */
	if (!error && ((start ^ to) & (HUGE_SIZE - 1)))
		for (u64 at = ALIGN_UP(start, HUGE_SIZE); !error && at < start + old_length; at += HUGE_SIZE)
			error = pte_split_borders(at + PAGE_SIZE, at + PAGE_SIZE);
	if (!error)
		error = pte_split_borders(start, start + old_length);
	if (!error)
		error = pte_split_files(start, start + old_length);
	if (!error)
		error = vma_insert(&area);
	if (error)
		return error;
	pte_walk(start, start + old_length, move_entry, &m);
	flush_tlb();
	if (m.error)
		process_out_of_memory(); /* half is there, half is here: nothing good can follow */
	vma_remove(start, start + old_length);
	if (new_length > old_length) {
		/* Fills what is new; what was moved is there already. */
		error = space_protect(to, new_length, area.prot);
	}
	return error ? error : (long)to;
}

long sys_mremap(u64 address, u64 old_length, u64 new_length, u64 flags, u64 new_address, u64 f)
{
	struct vma *v, area;
	u64 to;

	if (address & PAGE_MASK || !new_length ||
	    flags & ~(u64)(MREMAP_MAYMOVE | MREMAP_FIXED | MREMAP_DONTUNMAP) ||
	    (flags & (MREMAP_FIXED | MREMAP_DONTUNMAP) && !(flags & MREMAP_MAYMOVE)))
		return -EINVAL;
	if (flags & MREMAP_DONTUNMAP)
		return -EINVAL;
	old_length = ALIGN_UP(old_length, PAGE_SIZE);
	new_length = ALIGN_UP(new_length, PAGE_SIZE);
	v = vma_at(address);
	if (!v || !old_length || address + old_length > v->end)
		return -EFAULT;
	if (!(flags & MREMAP_FIXED)) {
		if (new_length <= old_length) {
			if (new_length < old_length)
				space_unmap(address + new_length, old_length - new_length);
			return (long)address;
		}
		area = *v;
		to = address + old_length;
		if (to == v->end && address + new_length < USER_END &&
		    vma_range_is_free(to, address + new_length)) {
			long error;

			area.offset += to - area.start;
			area.start = to;
			area.end = address + new_length;
			error = vma_insert(&area);
			if (error)
				return error;
			return space_protect(to, area.end - to, area.prot) ?: (long)address;
		}
		if (!(flags & MREMAP_MAYMOVE))
			return -ENOMEM;
		to = new_length >= HUGE_SIZE ? vma_find_gap(new_length + HUGE_SIZE, space_top) : 0;
		if (to) /* aligned like the old place, so that 2 MiB pages move as they are */
			to += (address - to) & (HUGE_SIZE - 1);
		else
			to = vma_find_gap(new_length, space_top);
		if (!to)
			return -ENOMEM;
	} else {
		if (new_address & PAGE_MASK || new_address >= USER_END ||
		    new_length > USER_END - new_address ||
		    (new_address < address + old_length && address < new_address + new_length))
			return -EINVAL;
		space_unmap(new_address, new_length);
		to = new_address;
		v = vma_at(address);
		if (new_length < old_length) {
			space_unmap(address + new_length, old_length - new_length);
			old_length = new_length;
			v = vma_at(address);
		}
	}
	area = *v;
	return move_area(&area, address, old_length, to, new_length);
}

/* ------------------------------------------------------------------------------------ madvise */

static void clear_entry(u64 *entry, u64 address, bool huge, void *context)
{
	u64 gpa = *entry & PTE_ADDRESS, size = huge ? HUGE_SIZE : PAGE_SIZE;

	if (!(*entry & PTE_OWNED)) {
		if (*entry & PTE_COPY)
			return;
	} else if (!huge || host_call(PV_DISCARD, gpa, size, 0, 0, 0, 0)) {
		memset(phys_to_virt(gpa), 0, size);
	}
}

static void drop_copy(u64 *entry, u64 address, bool huge, void *context)
{
	if (*entry & PTE_OWNED) {
		page_free_order(*entry & PTE_ADDRESS, huge ? 9 : 0);
		*entry = 0;
	}
}

#define DROP_AT_LEAST (64 * PAGE_SIZE) /* less is cleared where it is */

static void drop_entry(u64 *entry, u64 address, bool huge, void *context)
{
	if (*entry & PTE_OWNED)
		page_free_order(*entry & PTE_ADDRESS, huge ? 9 : 0);
	*entry = 0;
}

void space_cut_file(const struct inode *i, u64 size)
{
	struct vma *v;

	size = ALIGN_UP(size, PAGE_SIZE);
	for (unsigned n = 0; (v = vma_number(n)); n++) {
		u64 kept = size > v->offset ? size - v->offset : 0;

		if (v->file && v->file->inode == i && kept < v->end - v->start &&
		    !pte_split_borders(v->start + kept, v->end))
			pte_walk(v->start + kept, v->end, drop_entry, NULL);
	}
	flush_tlb();
}

static long dont_need(u64 address, u64 end)
{
	while (address < end) {
		struct vma *v = vma_find(address);
		u64 last;
		long error;

		if (!v || v->start >= end)
			break;
		address = MAX(address, v->start);
		last = MIN(end, v->end);
		error = pte_split_borders(address, last);
		if (error)
			return error;
		if (v->file) /* its own copies go, the file's contents show again */
			pte_walk(address, last, drop_copy, NULL);
		else if (last - address < DROP_AT_LEAST)
			pte_walk(address, last, clear_entry, NULL);
		else
			pte_walk(address, last, drop_copy, NULL);
		address = last;
	}
	flush_tlb();
	page_discard_freed();
	return 0;
}

long sys_madvise(u64 address, u64 length, u64 advice, u64 d, u64 e, u64 f)
{
	u64 end = address + ALIGN_UP(length, PAGE_SIZE);

	if (address & PAGE_MASK || end < address)
		return -EINVAL;
	switch (advice) {
	case MADV_DONTNEED:
	case MADV_DONTNEED_LOCKED:
		return dont_need(address, end);
	case MADV_FREE:
		/* The contents may stay: only what is worth giving back goes. */
		return length >= DROP_AT_LEAST ? dont_need(address, end) : 0;
	case MADV_REMOVE:
	case MADV_HWPOISON:
		return -EINVAL;
	case MADV_NORMAL ... MADV_WILLNEED:
	case MADV_DONTFORK ... MADV_WIPEONFORK:
	case MADV_KEEPONFORK ... MADV_POPULATE_WRITE:
	case MADV_COLLAPSE:
		return 0; /* advice */
	default:
		return -EINVAL;
	}
}

/* --------------------------------------------------------------------------------- the others */

long sys_mincore(u64 address, u64 length, u64 vector, u64 d, u64 e, u64 f)
{
	u64 pages = ALIGN_UP(length, PAGE_SIZE) >> PAGE_SHIFT;
	u8 *out = (u8 *)vector;

	if (address & PAGE_MASK)
		return -EINVAL;
	if (user_check(out, pages, true))
		return -EFAULT;
	for (u64 i = 0; i < pages; i++) {
		if (!vma_at(address + i * PAGE_SIZE))
			return -ENOMEM;
		out[i] = user_phys(address + i * PAGE_SIZE) != 0;
	}
	return 0;
}

static bool is_mapped(u64 address, u64 length)
{
	for (u64 at = address; at < address + length;) {
		struct vma *v = vma_at(at);

		if (!v)
			return false;
		at = v->end;
	}
	return true;
}

long sys_msync(u64 address, u64 length, u64 flags, u64 d, u64 e, u64 f)
{
	long error = 0;

	if (address & PAGE_MASK || flags & ~(u64)(MS_ASYNC | MS_INVALIDATE | MS_SYNC) ||
	    (flags & MS_ASYNC && flags & MS_SYNC))
		return -EINVAL;
	if (!is_mapped(address, length))
		return -ENOMEM;
	/* Shared mappings are the file's own pages; those of the host's files are copies. */
	for (u64 at = address; at < address + length && !error;) {
		struct vma *v = vma_at(at);

		at = v->end;
		if (v->file && v->flags & MAP_SHARED && v->prot & PROT_WRITE && v->file->ops->sync)
			error = v->file->ops->sync(v->file);
	}
	return error;
}

/* Pages never leave memory. */
long sys_mlock(u64 address, u64 length, u64 c, u64 d, u64 e, u64 f)
{
	return is_mapped(ALIGN_DOWN(address, PAGE_SIZE), length + (address & PAGE_MASK)) ? 0 : -ENOMEM;
}

long sys_mlockall(u64 flags, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	return flags && !(flags & ~(u64)(MCL_CURRENT | MCL_FUTURE | MCL_ONFAULT)) ? 0 : -EINVAL;
}
