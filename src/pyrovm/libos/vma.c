#include "file.h"
#include "vma.h"

/* An array: programs have a few hundred areas, and looking is far more frequent than changing. */
static struct vma *areas;
static unsigned count, capacity;

static unsigned search(u64 address) /* the first area that ends above address */
{
	unsigned low = 0, high = count;

	while (low < high) {
		unsigned middle = (low + high) / 2;

		if (areas[middle].end > address)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

struct vma *vma_find(u64 address)
{
	return vma_number(search(address));
}

struct vma *vma_at(u64 address)
{
	struct vma *v = vma_find(address);

	return v && v->start <= address ? v : NULL;
}

unsigned vma_index(const struct vma *v)
{
	return (unsigned)(v - areas);
}

struct vma *vma_number(unsigned index)
{
	return index < count ? &areas[index] : NULL;
}

static long make_room(unsigned more)
{
	unsigned wanted = MAX(capacity * 2, 64U);
	struct vma *bigger;

	if (count + more <= capacity)
		return 0;
	bigger = krealloc(areas, count * sizeof(*areas), wanted * sizeof(*areas));
	if (!bigger)
		return -ENOMEM;
	areas = bigger;
	capacity = wanted;
	return 0;
}

static void put_at(unsigned index, const struct vma *area)
{
	memmove(&areas[index + 1], &areas[index], (count - index) * sizeof(*areas));
	areas[index] = *area;
	count++;
	if (area->file)
		file_get(area->file);
}

static void take_from(unsigned index)
{
	struct file *file = areas[index].file;

	count--;
	memmove(&areas[index], &areas[index + 1], (count - index) * sizeof(*areas));
	if (file)
		file_put(file);
}

static bool agree(const struct vma *a, const struct vma *b)
{
	return a->end == b->start && a->prot == b->prot && a->flags == b->flags &&
	       a->file == b->file && a->name == b->name &&
	       (!a->file || a->offset + (a->end - a->start) == b->offset);
}

static void join(unsigned index) /* with the next one */
{
	if (index + 1 < count && agree(&areas[index], &areas[index + 1])) {
		areas[index].end = areas[index + 1].end;
		take_from(index + 1);
	}
}

long vma_insert(const struct vma *area)
{
	unsigned index = search(area->start);
	long error = make_room(1);

	if (error)
		return error;
	put_at(index, area);
	join(index);
	if (index > 0)
		join(index - 1);
	return 0;
}

static long split_at(u64 address)
{
	unsigned index = search(address);
	struct vma upper;
	long error;

	if (index == count || areas[index].start >= address)
		return 0;
	error = make_room(1);
	if (error)
		return error;
	upper = areas[index];
	upper.start = address;
	upper.offset += address - areas[index].start;
	areas[index].end = address;
	put_at(index + 1, &upper);
	return 0;
}

long vma_split(u64 start, u64 end)
{
	long error = split_at(start);

	return error ? error : split_at(end);
}

long vma_remove(u64 start, u64 end)
{
	long error = vma_split(start, end);
	unsigned index;

	if (error)
		return error;
	index = search(start);
	while (index < count && areas[index].end <= end)
		take_from(index);
	return 0;
}

void vma_join(u64 start, u64 end)
{
	unsigned index = search(start);

	if (index > 0)
		index--;
	while (index + 1 < count && areas[index].end <= end) {
		unsigned before = count;

		join(index);
		if (count == before)
			index++;
	}
}

bool vma_range_is_free(u64 start, u64 end)
{
	const struct vma *v = vma_find(start);

	return (!v || v->start >= end) && (end <= HOLE_START || start >= HOLE_END);
}

/* The upper end of [low, high), without the library OS's addresses, if length fits; or 0. */
static u64 fit(u64 low, u64 high, u64 length)
{
	if (high > HOLE_START && low < HOLE_END) {
		u64 above = MAX(low, HOLE_END);

		if (above < high && high - above >= length)
			return high - length;
		high = MIN(high, HOLE_START);
	}
	return low < high && high - low >= length ? high - length : 0;
}

u64 vma_find_gap(u64 length, u64 limit)
{
	unsigned i = search(limit - 1);
	u64 high = i < count ? MIN(limit, areas[i].start) : limit;

	for (;; i--) {
		u64 found = fit(i > 0 ? areas[i - 1].end : USER_START, high, length);

		if (found || i == 0)
			return found;
		high = MIN(high, areas[i - 1].start);
	}
}
