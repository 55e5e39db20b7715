/* The program's memory, as the library OS may touch it. */
#include "pagetable.h"

static bool make_accessible(u64 address, bool write)
{
	for (int attempt = 0; attempt < 2; attempt++) {
		bool huge;
		u64 *entry = pte_find(address, &huge);

		if (entry && (*entry & (PTE_PRESENT | PTE_USER)) == (PTE_PRESENT | PTE_USER) &&
		    (!write || *entry & PTE_WRITE))
			return true;
		if (space_fault(address, write ? 2 : 0))
			return false;
	}
	return false;
}

static bool is_outside(u64 address, size_t n)
{
	return address >= PV_USER_LIMIT || n > PV_USER_LIMIT - address ||
	       (address < PV_LIBOS_VA + PV_LIBOS_SIZE && address + n > PV_PHYSMAP);
}

long user_check(const void *address, size_t n, bool write)
{
	u64 start = (u64)address;

	if (!n)
		return 0;
	if (is_outside(start, n))
		return -EFAULT;
	for (u64 page = ALIGN_DOWN(start, PAGE_SIZE); page < start + n; page += PAGE_SIZE)
		if (!make_accessible(page, write))
			return -EFAULT;
	return 0;
}

long user_string(const char *address, size_t max)
{
	size_t n = 0;

	while (n < max) {
		size_t in_page = PAGE_SIZE - ((u64)(address + n) & PAGE_MASK);

		if (user_check(address + n, 1, false))
			return -EFAULT;
		for (; in_page > 0 && n < max; in_page--, n++)
			if (!address[n])
				return (long)n;
	}
	return -ENAMETOOLONG;
}

u64 user_phys(u64 address)
{
	bool huge;
	u64 *entry = pte_find(address, &huge);

	if (!entry || !(*entry & PTE_PRESENT))
		return 0;
	if (huge)
		return (*entry & PTE_ADDRESS & ~(HUGE_SIZE - 1)) | (address & (HUGE_SIZE - 1));
	return (*entry & PTE_ADDRESS) | (address & PAGE_MASK);
}

long user_to_host(const void *address, size_t n, bool write, struct pv_iovec *pieces, unsigned max)
{
	u64 at = (u64)address, end = at + n;
	unsigned count = 0;

	if (is_outside(at, n))
		return -EFAULT;
	while (at < end) {
		u64 length = MIN(end, ALIGN_DOWN(at, PAGE_SIZE) + PAGE_SIZE) - at, gpa;

		if (!make_accessible(at, write))
			return count ? (long)count : -EFAULT;
		gpa = user_phys(at);
		if (count && pieces[count - 1].gpa + pieces[count - 1].length == gpa)
			pieces[count - 1].length += length;
		else if (count == max)
			break;
		else
			pieces[count++] = (struct pv_iovec){ gpa, length };
		at += length;
	}
	return (long)count;
}
