#include "pagetable.h"

#define TABLE_BITS (PTE_PRESENT | PTE_WRITE | PTE_USER | PTE_ACCESSED)

static u64 *root(void)
{
	static u64 *top;

	if (!top)
		top = phys_to_virt(boot_info->page_table_gpa);
	return top;
}

static inline u64 *table_of(u64 entry)
{
	return phys_to_virt(entry & PTE_ADDRESS);
}

static inline unsigned index_of(u64 address, unsigned level) /* level 1: pages of 4 KiB */
{
	return address >> (PAGE_SHIFT + 9 * (level - 1)) & 511;
}

u64 *pte_find(u64 address, bool *huge)
{
	u64 *table = root();

	*huge = false;
	for (unsigned level = 4; level > 1; level--) {
		u64 *entry = &table[index_of(address, level)];

		if (!(*entry & PTE_PRESENT))
			return NULL;
		if (*entry & PTE_HUGE) {
			*huge = true;
			return entry;
		}
		table = table_of(*entry);
	}
	return &table[index_of(address, 1)];
}

static bool split(u64 *entry)
{
	u64 gpa = page_alloc(), *table = phys_to_virt(gpa);
	u64 bits = *entry & ~PTE_ADDRESS & ~PTE_HUGE;

	if (!gpa)
		return false;
	for (unsigned i = 0; i < 512; i++)
		table[i] = ((*entry & PTE_ADDRESS) + i * PAGE_SIZE) | bits;
	*entry = gpa | TABLE_BITS;
	flush_tlb();
	return true;
}

static u64 *make(u64 address, unsigned bottom)
{
	u64 *table = root();

	for (unsigned level = 4; level > bottom; level--) {
		u64 *entry = &table[index_of(address, level)];

		if (!(*entry & PTE_PRESENT)) {
			u64 gpa = page_alloc();

			if (!gpa)
				return NULL;
			*entry = gpa | TABLE_BITS;
		} else if (*entry & PTE_HUGE && !split(entry)) {
			return NULL;
		}
		table = table_of(*entry);
	}
	return &table[index_of(address, bottom)];
}

u64 *pte_make(u64 address)
{
	return make(address, 1);
}

u64 *pte_make_huge(u64 address)
{
	u64 *entry = make(address, 2);

	return entry && *entry & PTE_PRESENT && !(*entry & PTE_HUGE) ? NULL : entry;
}

u64 pte_bits(int prot)
{
	u64 bits = PTE_PRESENT | PTE_ACCESSED;

	if (prot & (PROT_READ | PROT_WRITE | PROT_EXEC))
		bits |= PTE_USER;
	if (prot & PROT_WRITE)
		bits |= PTE_WRITE | PTE_DIRTY;
	if (!(prot & PROT_EXEC))
		bits |= PTE_NX;
	return bits;
}

static void walk(u64 *table, unsigned level, u64 base, u64 address, u64 end, pte_visit visit,
		 void *context)
{
	u64 span = PAGE_SIZE << (9 * (level - 1));

	for (unsigned i = 0; i < 512; i++, base += span) {
		if (base + span <= address || !(table[i] & PTE_PRESENT))
			continue;
		if (base >= end)
			return;
		if (level == 1 || table[i] & PTE_HUGE)
			visit(&table[i], base, level > 1, context);
		else
			walk(table_of(table[i]), level - 1, base, address, end, visit, context);
	}
}

void pte_walk(u64 address, u64 end, pte_visit visit, void *context)
{
	walk(root(), 4, 0, address, end, visit, context);
}

static void split_file(u64 *entry, u64 address, bool huge, void *context)
{
	long *error = context;

	if (huge && !(*entry & PTE_OWNED) && !split(entry))
		*error = -ENOMEM;
}

long pte_split_files(u64 address, u64 end)
{
	long error = 0;

	pte_walk(address, end, split_file, &error);
	return error;
}

void pte_collapse(u64 address)
{
	u64 *entry = root(), *table, gpa, nx = PTE_NX;

	for (unsigned level = 4; level > 2; level--) {
		entry = &entry[index_of(address, level)];
		if (!(*entry & PTE_PRESENT))
			return;
		entry = table_of(*entry);
	}
	entry = &entry[index_of(address, 2)];
	if (!(*entry & PTE_PRESENT) || *entry & PTE_HUGE)
		return;
	table = table_of(*entry);
	gpa = table[0] & PTE_ADDRESS;
	if (gpa & (HUGE_SIZE - 1) || gpa < PV_IMAGE_GPA || gpa >= PV_CALL_GPA)
		return;
	for (unsigned i = 0; i < 512; i++) {
		if ((table[i] & ~(PTE_ACCESSED | PTE_NX)) != ((gpa + i * PAGE_SIZE) | PTE_PRESENT | PTE_USER))
			return;
		nx &= table[i];
	}
	*entry = gpa | PTE_PRESENT | PTE_USER | PTE_ACCESSED | PTE_HUGE | nx;
	flush_tlb();
	page_free(virt_to_phys(table));
}

static long split_border(u64 address)
{
	bool huge;
	u64 *entry = pte_find(address, &huge);

	if (!entry || !huge || !(address & (HUGE_SIZE - 1)))
		return 0;
	return split(entry) ? 0 : -ENOMEM;
}

long pte_split_borders(u64 address, u64 end)
{
	long error = split_border(address);

	return error ? error : split_border(end);
}
