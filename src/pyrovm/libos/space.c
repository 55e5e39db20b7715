/*
 * The program's address space: mmap and what belongs to it.
 *
 * Pages are mapped when the area is made, as far as memory is plentiful, since a page that the host
 * has not given yet costs nothing, and a page fault costs 30 us on a software-only KVM.  Only large
 * reservations are filled in by faults, a cluster at a time.
 */
#include "file.h"
#include "pagetable.h"
#include "vma.h"

#define CLUSTER (16 * PAGE_SIZE) /* mapped by a fault */
#define MANY (256UL << 10) /* an area that a small program would not fill */
#define COPY_AT_ONCE (8UL << 20) /* private writable mappings of files: copied when they are made */

u64 space_top = USER_END - (64UL << 20); /* mmap goes down from here; the stack is above */

static bool is_plentiful(u64 bytes)
{
	return bytes >> PAGE_SHIFT <= page_count_free() / 4;
}

/* ------------------------------------------------------------------------------ pages of areas */

static long map_file_page(const struct vma *v, u64 address, u64 *entry, bool copy)
{
	bool is_shared = v->flags & MAP_SHARED;
	u64 gpa, offset = v->offset + (address - v->start), bits = pte_bits(v->prot);
	long error = v->file->ops->page(v->file, offset, is_shared && v->prot & PROT_WRITE, &gpa);

	if (error)
		return error;
	if (!(v->prot & PROT_WRITE)) {
		*entry = gpa | (bits & ~PTE_ACCESSED);
	} else if (is_shared) {
		*entry = gpa | bits;
	} else if (copy) {
		u64 own = page_alloc();

		if (!own)
			return -ENOMEM;
		memcpy(phys_to_virt(own), phys_to_virt(gpa), PAGE_SIZE);
		*entry = own | bits | PTE_OWNED;
	} else {
		*entry = gpa | (bits & ~PTE_WRITE) | PTE_COPY;
	}
	return 0;
}

static long map_page(const struct vma *v, u64 address, bool copy)
{
	u64 *entry = pte_make(address), gpa;

	if (!entry)
		return -ENOMEM;
	if (*entry & PTE_PRESENT)
		return 0;
	if (v->file)
		return map_file_page(v, address, entry, copy);
	gpa = page_alloc();
	if (!gpa)
		return -ENOMEM;
	*entry = gpa | pte_bits(v->prot) | PTE_OWNED;
	return 0;
}

static bool map_huge(const struct vma *v, u64 address)
{
	u64 *entry = pte_make_huge(address), gpa;

	if (!entry)
		return false;
	if (*entry & PTE_PRESENT)
		return true;
	gpa = page_alloc_order(9);
	if (!gpa)
		return false;
	*entry = gpa | pte_bits(v->prot) | PTE_OWNED | PTE_HUGE;
	return true;
}

static long map_range(const struct vma *v, u64 start, u64 end, bool copy)
{
	for (u64 address = start; address < end;) {
		bool huge = false;
		long error;

		if (v->file && (address == start || !(address & (HUGE_SIZE - 1))))
			pte_find(address, &huge);
		if (huge) { /* as pte_collapse() has left it */
			address = ALIGN_DOWN(address, HUGE_SIZE) + HUGE_SIZE;
			continue;
		}
		if (!v->file && !(address & (HUGE_SIZE - 1)) && end - address >= HUGE_SIZE &&
		    map_huge(v, address)) {
			address += HUGE_SIZE;
			continue;
		}
		error = map_page(v, address, copy);
		if (error)
			return error;
		address += PAGE_SIZE;
	}
	return 0;
}

static void populate(const struct vma *v, u64 start, u64 end)
{
	/* Files open for writing may have holes, which get pages as well. */
	bool takes_memory = !v->file || v->prot & PROT_WRITE || (v->file->flags & O_ACCMODE) != O_RDONLY;

	if (v->prot == PROT_NONE || v->flags & MAP_GROWSDOWN)
		return;
	if (takes_memory && !is_plentiful(end - start))
		return;
	if (takes_memory && end - start >= MANY)
		page_expect_many();
	if (v->file) /* nothing behind the file's end */
		end = MIN(end, v->start + ALIGN_UP(MAX(file_size(v->file), v->offset) - v->offset, PAGE_SIZE));
	/* What does not work out now is left to a fault, which can say so. */
	map_range(v, start, end, end - start <= COPY_AT_ONCE);
}

static void forget(u64 *entry, u64 address, bool huge, void *context)
{
	bool *was_used = context;
	u64 old = __atomic_exchange_n(entry, 0, __ATOMIC_RELAXED);

	*was_used |= old & PTE_ACCESSED;
	if (old & PTE_OWNED)
		page_free_order(old & PTE_ADDRESS, huge ? 9 : 0);
}

static long unmap_pages(u64 start, u64 end)
{
	bool was_used = false;
	long error = pte_split_borders(start, end);

	if (error)
		return error;
	pte_walk(start, end, forget, &was_used);
	if (was_used)
		flush_tlb();
	page_discard_freed();
	return 0;
}

/* -------------------------------------------------------------------------------------- faults */

static int copy_on_write(const struct vma *v, u64 *entry)
{
	u64 own = page_alloc();

	if (!own)
		return -ENOMEM;
	memcpy(phys_to_virt(own), phys_to_virt(*entry & PTE_ADDRESS), PAGE_SIZE);
	*entry = own | pte_bits(v->prot) | PTE_OWNED;
	flush_tlb();
	return 0;
}

/* Few programs need more of it. */
static bool is_usual_stack(const struct vma *v, u64 address)
{
	return v->flags & MAP_GROWSDOWN && address >= v->end - HUGE_SIZE;
}

#define BUS_ERROR 100

int space_fault(u64 address, u32 error_code)
{
	struct vma *v = vma_find(address);
	u64 page = ALIGN_DOWN(address, PAGE_SIZE), start, end, *entry;
	bool huge;
	long error;

	if (!v || v->start > address)
		return SEGV_MAPERR;
	if ((error_code & FAULT_WRITE && !(v->prot & PROT_WRITE)) ||
	    (error_code & FAULT_FETCH && !(v->prot & PROT_EXEC)) ||
	    !(v->prot & (PROT_READ | PROT_WRITE | PROT_EXEC)))
		return SEGV_ACCERR;
	entry = pte_find(address, &huge);
	if (entry && *entry & PTE_PRESENT) {
		if (*entry & PTE_COPY && error_code & FAULT_WRITE && copy_on_write(v, entry))
			process_out_of_memory();
		return 0; /* or it was a stale translation */
	}
	if (!v->file && is_plentiful(HUGE_SIZE) && v->end - v->start >= 4 * HUGE_SIZE &&
	    !is_usual_stack(v, address)) {
		start = MAX(v->start, ALIGN_DOWN(address, HUGE_SIZE));
		end = MIN(v->end, ALIGN_DOWN(address, HUGE_SIZE) + HUGE_SIZE);
		if (map_range(v, start, end, false) == 0)
			return 0;
	}
	error = map_page(v, page, error_code & FAULT_WRITE);
	if (error == -ENOMEM)
		process_out_of_memory();
	if (error)
		return BUS_ERROR + BUS_ADRERR;
	/* Its neighbours will be next; that there is no memory for them is no error. */
	start = MAX(v->start, ALIGN_DOWN(address, CLUSTER));
	end = MIN(v->end, ALIGN_DOWN(address, CLUSTER) + CLUSTER);
	if (is_plentiful(CLUSTER))
		map_range(v, start, end, false);
	return 0;
}

/* --------------------------------------------------------------------------- the system's calls */

static bool is_range(u64 address, u64 length)
{
	return !(address & PAGE_MASK) && length && address >= USER_START &&
	       address < USER_END && length <= USER_END - address;
}

long space_unmap(u64 address, u64 length)
{
	u64 end;
	long error;

	length = ALIGN_UP(length, PAGE_SIZE);
	end = address + length;
	if (!is_range(address, length))
		return -EINVAL;
	error = vma_split(address, end);
	if (!error)
		error = unmap_pages(address, end);
	return error ? error : vma_remove(address, end);
}

/* gpa is that of what is mapped, or 0: where both lie alike, huge pages can be used. */
static u64 choose_address(u64 hint, u64 length, u64 gpa)
{
	u64 found;

	hint = ALIGN_DOWN(hint, PAGE_SIZE);
	if (hint && is_range(hint, length) && vma_range_is_free(hint, hint + length))
		return hint;
	if (length < (gpa ? HUGE_SIZE : 4 * HUGE_SIZE))
		return vma_find_gap(length, space_top);
	found = vma_find_gap(length + HUGE_SIZE, space_top);
	return found ? found + ((gpa - found) & (HUGE_SIZE - 1)) : vma_find_gap(length, space_top);
}

/* Use huge pages for the mappings of a file that lie one after the other up to end. */
static void collapse_below(u64 end, const struct inode *inode)
{
	u64 start = end;

	for (struct vma *v; (v = vma_at(start - 1)) && v->file && v->file->inode == inode;)
		start = v->start;
	for (u64 at = ALIGN_UP(start, HUGE_SIZE); at + HUGE_SIZE <= end; at += HUGE_SIZE)
		pte_collapse(at);
}

long space_map(u64 address, u64 length, int prot, int flags, struct file *file, u64 offset)
{
	struct vma area = { .prot = prot & (PROT_READ | PROT_WRITE | PROT_EXEC),
			    .flags = (u32)flags & (MAP_SHARED | MAP_PRIVATE | MAP_GROWSDOWN |
						   MAP_NORESERVE | MAP_ANONYMOUS),
			    .file = file, .offset = offset };
	u64 gpa = 0;
	long error;

	if (!length || offset & PAGE_MASK)
		return -EINVAL;
	if (length > USER_END)
		return -ENOMEM;
	length = ALIGN_UP(length, PAGE_SIZE);
	if (file) {
		if (!file->ops->page)
			return -ENODEV;
		error = file->ops->page(file, offset, flags & MAP_SHARED && prot & PROT_WRITE, &gpa);
		if (error == -ENODEV || error == -EPERM)
			return error;
	}
	if (flags & (MAP_FIXED | MAP_FIXED_NOREPLACE)) {
		if (!is_range(address, length))
			return address & PAGE_MASK ? -EINVAL : -ENOMEM;
		if (address < HOLE_END && address + length > HOLE_START)
			return -ENOMEM;
		if (flags & MAP_FIXED_NOREPLACE && !vma_range_is_free(address, address + length))
			return -EEXIST;
	} else {
		address = choose_address(address, length, gpa >= PV_IMAGE_GPA ? gpa : 0);
		if (!address)
			return -ENOMEM;
	}
	if (flags & MAP_FIXED) {
		error = space_unmap(address, length);
		if (error)
			return error;
	}
	area.start = address;
	area.end = address + length;
	error = vma_insert(&area);
	if (error)
		return error;
	populate(&area, area.start, area.end);
	/* A loader maps what is written last: the rest of the file is in its place now. */
	if (file && area.prot & PROT_WRITE && area.flags & MAP_PRIVATE)
		collapse_below(area.start, file->inode);
	return (long)address;
}

u64 space_map_copy(const void *from, u64 length, int prot, const char *name)
{
	u64 start = vma_find_gap(ALIGN_UP(length, PAGE_SIZE), space_top);
	struct vma area = { .start = start, .end = start + ALIGN_UP(length, PAGE_SIZE), .prot = prot,
			    .flags = MAP_PRIVATE | MAP_ANONYMOUS, .name = name };

	if (!start || vma_insert(&area))
		return 0;
	for (u64 at = 0; at < length; at += PAGE_SIZE) {
		u64 *entry = pte_make(start + at), own = entry ? page_alloc() : 0;

		if (!own)
			return 0;
		memcpy(phys_to_virt(own), (const char *)from + at, MIN(length - at, PAGE_SIZE));
		*entry = own | pte_bits(prot) | PTE_OWNED;
	}
	return start;
}

struct protection {
	int prot;
	bool is_less; /* something is forbidden now that was not */
};

static void protect_entry(u64 *entry, u64 address, bool huge, void *context)
{
	struct protection *p = context;
	u64 old = *entry, kept = old & (PTE_ADDRESS | PTE_OWNED | PTE_COPY | PTE_HUGE);

	*entry = kept | (pte_bits(p->prot) & (old & PTE_COPY ? ~PTE_WRITE : ~0ULL));
	p->is_less |= (old & ~*entry & (PTE_WRITE | PTE_USER)) || (*entry & ~old & PTE_NX);
}

static void mark_copy(u64 *entry, u64 address, bool huge, void *context)
{
	if (!(*entry & PTE_OWNED))
		*entry |= PTE_COPY;
}

long space_protect(u64 address, u64 length, int prot)
{
	struct protection p = { .prot = prot & (PROT_READ | PROT_WRITE | PROT_EXEC) };
	u64 end;
	long error;

	length = ALIGN_UP(length, PAGE_SIZE);
	end = address + length;
	if (address & PAGE_MASK)
		return -EINVAL;
	if (!length)
		return 0;
	if (!is_range(address, length))
		return -ENOMEM;
	for (u64 at = address; at < end;) {
		struct vma *v = vma_at(at);

		if (!v)
			return -ENOMEM;
		if (v->file && v->flags & MAP_SHARED && prot & PROT_WRITE &&
		    (v->file->flags & O_ACCMODE) != O_RDWR)
			return -EACCES;
		at = v->end;
	}
	error = vma_split(address, end);
	if (!error)
		error = pte_split_borders(address, end);
	if (!error && p.prot & PROT_WRITE)
		error = pte_split_files(address, end);
	if (error)
		return error;
	for (u64 at = address; at < end;) {
		struct vma area = *vma_at(at);
		u64 last = MIN(area.end, end);

		/* Pages of a private file mapping that becomes writable are copied on the first write. */
		if (area.file && !(area.flags & MAP_SHARED) && !(area.prot & PROT_WRITE) &&
		    p.prot & PROT_WRITE)
			pte_walk(at, last, mark_copy, NULL);
		pte_walk(at, last, protect_entry, &p);
		vma_at(at)->prot = p.prot;
		area.prot = p.prot;
		populate(&area, at, last);
		at = last;
	}
	if (p.is_less)
		flush_tlb();
	vma_join(address, end);
	return 0;
}
