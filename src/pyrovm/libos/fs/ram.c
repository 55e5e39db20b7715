/* Pages of files in memory: a tree of pages with 512 addresses each, as deep as the file needs. */
#include "fs.h"

#define FANOUT_BITS 9
#define FANOUT 512

u64 ram_page_count;

static u64 reach(unsigned height) /* how many pages such a tree can hold */
{
	return 1ULL << (FANOUT_BITS * height);
}

u8 *ram_page(struct ram *r, u64 index)
{
	u64 at = r->root;

	if (index >= reach(r->height))
		return NULL;
	for (unsigned h = r->height; at && h > 0; h--)
		at = ((u64 *)phys_to_virt(at))[index >> (FANOUT_BITS * (h - 1)) & (FANOUT - 1)];
	return at ? phys_to_virt(at) : NULL;
}

u64 *ram_slot(struct ram *r, u64 index)
{
	u64 *slot = &r->root;

	while (index >= reach(r->height)) {
		u64 above = r->root ? page_alloc() : 0;

		if (r->root) {
			if (!above)
				return NULL;
			*(u64 *)phys_to_virt(above) = r->root;
			r->root = above;
		}
		r->height++;
	}
	for (unsigned h = r->height; h > 0; h--) {
		if (!*slot)
			*slot = page_alloc();
		if (!*slot)
			return NULL;
		slot = (u64 *)phys_to_virt(*slot) + (index >> (FANOUT_BITS * (h - 1)) & (FANOUT - 1));
	}
	if (!*slot) {
		*slot = page_alloc();
		if (!*slot)
			return NULL;
		r->pages++;
		ram_page_count++;
	}
	return slot;
}

static void cut_below(struct ram *r, u64 *slot, unsigned height, u64 base, u64 first, u64 end, bool keep)
{
	if (!*slot || base >= end || base + reach(height) <= first)
		return;
	if (height > 0) {
		u64 *below = phys_to_virt(*slot), step = reach(height - 1);

		for (u64 i = 0; i < FANOUT; i++)
			cut_below(r, &below[i], height - 1, base + i * step, first, end, keep);
		if (!keep && first <= base && end >= base + reach(height)) {
			page_free(*slot);
			*slot = 0;
		}
		return;
	}
	if (keep) {
		memset(phys_to_virt(*slot), 0, PAGE_SIZE);
		return;
	}
	page_free(*slot);
	*slot = 0;
	r->pages--;
	ram_page_count--;
}

void ram_cut(struct ram *r, u64 first, u64 end, bool keep)
{
	cut_below(r, &r->root, r->height, 0, first, end, keep);
	if (!r->root)
		r->height = 0;
}
