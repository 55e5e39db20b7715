/*
 * Physical memory: a bit for each page, lowest pages first, so that a guest touches little of it.
 *
 * Pages are handed out as zeros.  What was never used is zero already (fresh_end), and costs the host
 * nothing until the program writes to it; the rest is cleared when it is handed out again.  Runs of
 * freed pages that are long enough go back to the host, and are fresh when it gives them again.
 *
 * Below PV_RAM_HUGE the host gives single pages, above it huge ones, at a tenth of the cost for each
 * 4 KiB.  A small program stays below, so that its VM remains small.
 */
#include "os.h"

static u64 *used; /* bit n: page n is in use */
static u64 *dirty; /* bit n: page n is not in use and not zero */
static u64 page_total, page_free_count, fresh_end, hint;
static u64 first_page;
static u64 preferred; /* pages below are taken when there are no others */

#define DISCARD_PAGES 64 /* the shortest run worth a call */
/* So much is kept for the next who needs memory: clearing a page is ten times cheaper than having
 * the host find a new one. */
#define KEPT_PAGES 2048 /* 8 MiB */
static u64 dirty_count, freed_low = ~0ULL, freed_high; /* what was freed since the last look */

static inline bool bit(const u64 *map, u64 n) { return map[n / 64] >> (n % 64) & 1; }
static inline void set_bit(u64 *map, u64 n) { map[n / 64] |= 1ULL << (n % 64); }
static inline void clear_bit(u64 *map, u64 n) { map[n / 64] &= ~(1ULL << (n % 64)); }

void page_init(void)
{
	u64 map_bytes, start = ALIGN_UP(boot_info->free_start, PAGE_SIZE);

	page_total = boot_info->ram_size >> PAGE_SHIFT;
	map_bytes = ALIGN_UP(page_total, 64) / 8;
	used = phys_to_virt(start);
	dirty = phys_to_virt(start + map_bytes);
	first_page = ALIGN_UP(start + 2 * map_bytes, PAGE_SIZE) >> PAGE_SHIFT;
	for (u64 n = page_total; n < ALIGN_UP(page_total, 64); n++)
		set_bit(used, n);
	for (u64 n = 0; n < first_page; n++)
		set_bit(used, n);
	page_free_count = page_total - first_page;
	fresh_end = hint = first_page;
}

static u64 take(u64 n, u64 count)
{
	u64 gpa = n << PAGE_SHIFT;

	for (u64 i = n; i < n + count; i++) {
		set_bit(used, i);
		if (i < fresh_end && bit(dirty, i)) {
			memset(phys_to_virt(i << PAGE_SHIFT), 0, PAGE_SIZE);
			clear_bit(dirty, i);
			dirty_count--;
		}
	}
	fresh_end = MAX(fresh_end, n + count);
	page_free_count -= count;
	return gpa;
}

static u64 find_free(void) /* from hint on; or page_total */
{
	for (u64 w = hint / 64; w < ALIGN_UP(page_total, 64) / 64; w++)
		if (used[w] != ~0ULL)
			return w * 64 + (u64)__builtin_ctzll(~used[w]);
	return page_total;
}

u64 page_alloc(void)
{
	hint = find_free();
	if (hint == page_total && preferred) {
		preferred = 0;
		hint = first_page;
		hint = find_free();
	}
	return hint < page_total ? take(hint, 1) : 0;
}

void page_expect_many(void)
{
	static bool is_expected;

	if (is_expected || page_total < 2 * (PV_RAM_HUGE >> PAGE_SHIFT))
		return;
	is_expected = true;
	preferred = PV_RAM_HUGE >> PAGE_SHIFT;
	hint = MAX(hint, preferred);
}

u64 page_alloc_order(unsigned order)
{
	u64 count = 1ULL << order, n = ALIGN_UP(first_page, count);

	if (order == 0)
		return page_alloc();
	while (n + count <= page_total) {
		u64 i = n;

		while (i < n + count && !bit(used, i))
			i = i % 64 == 0 && i + 64 <= n + count && !used[i / 64] ? i + 64 : i + 1;
		if (i == n + count)
			return take(n, count);
		n = ALIGN_UP(i + 1, count);
	}
	return 0;
}

void page_free_order(u64 gpa, unsigned order)
{
	u64 n = gpa >> PAGE_SHIFT, count = 1ULL << order;

	if (n < first_page || n + count > page_total)
		panic("page_free of %lx", gpa);
	for (u64 i = n; i < n + count; i++) {
		if (!bit(used, i))
			panic("page_free of %lx, which is free", i << PAGE_SHIFT);
		clear_bit(used, i);
		set_bit(dirty, i);
	}
	page_free_count += count;
	dirty_count += count;
	freed_low = MIN(freed_low, n);
	freed_high = MAX(freed_high, n + count);
	hint = MIN(hint, MAX(n, preferred));
}

void page_free(u64 gpa)
{
	page_free_order(gpa, 0);
}

void page_discard_freed(void)
{
	u64 start = 0, length = 0;

	if (dirty_count < KEPT_PAGES)
		return;
	for (u64 n = freed_low; n <= freed_high; n++) {
		if (n < freed_high && bit(dirty, n)) {
			if (length++ == 0)
				start = n;
			continue;
		}
		if (length >= DISCARD_PAGES &&
		    host_call(PV_DISCARD, start << PAGE_SHIFT, length << PAGE_SHIFT, 0, 0, 0, 0) == 0) {
			for (u64 i = start; i < start + length; i++)
				clear_bit(dirty, i);
			dirty_count -= length;
		}
		length = 0;
	}
	freed_low = ~0ULL;
	freed_high = 0;
}

u64 page_count_free(void)
{
	return page_free_count;
}

u64 page_count_total(void)
{
	return page_total - first_page;
}
