/*
 * The library OS's own small objects: power-of-two size classes cut from pages.
 *
 * A page of objects starts with a header that says their size, so that an object's address alone
 * finds it.  Larger requests are whole pages, with the header in front too.
 */
#include "os.h"

#define HEADER 64
#define SMALLEST 5 /* 32 bytes */
#define LARGEST 10 /* 1024; above, whole pages */

struct page_header {
	u32 magic;
	u16 class; /* log2 of the objects' size, or 0 */
	u16 order; /* of a block of pages */
	u8 unused[HEADER - 8]; /* so that what follows is aligned as XSAVE wants it */
};

struct object {
	struct object *next;
};

#define MAGIC 0x70a11ec8
_Static_assert(sizeof(struct page_header) == HEADER, "objects start behind it");

static struct object *partial[LARGEST + 1]; /* free objects of every class */

static struct page_header *header_of(const void *p)
{
	struct page_header *header = (struct page_header *)((u64)p & ~PAGE_MASK);

	if (header->magic != MAGIC)
		panic("kfree of %p, which is no object", p);
	return header;
}

static bool refill(unsigned class)
{
	u64 gpa = page_alloc();
	struct page_header *header;
	size_t size = 1UL << class;

	if (!gpa)
		return false;
	header = phys_to_virt(gpa);
	*header = (struct page_header){ .magic = MAGIC, .class = (u16)class };
	/* From the end, so that the list goes upwards. */
	for (size_t at = PAGE_SIZE; at >= HEADER + size;) {
		struct object *o = (struct object *)((char *)header + (at -= size));

		o->next = partial[class];
		partial[class] = o;
	}
	return true;
}

void *kalloc(size_t size)
{
	unsigned class = SMALLEST;
	struct object *o;

	if (size > (1UL << LARGEST)) {
		unsigned order = 0;
		struct page_header *header;
		u64 gpa;

		while ((PAGE_SIZE << order) < size + HEADER)
			order++;
		gpa = page_alloc_order(order);
		if (!gpa)
			return NULL;
		header = phys_to_virt(gpa);
		header->magic = MAGIC;
		header->order = (u16)order;
		return (char *)header + HEADER;
	}
	while ((1UL << class) < size)
		class++;
	if (!partial[class] && !refill(class))
		return NULL;
	o = partial[class];
	partial[class] = o->next;
	memset(o, 0, 1UL << class);
	return o;
}

void kfree(void *p)
{
	struct page_header *header;
	struct object *o = p;

	if (!p)
		return;
	header = header_of(p);
	if (!header->class) {
		header->magic = 0;
		page_free_order(virt_to_phys(header), header->order);
		return;
	}
	o->next = partial[header->class];
	partial[header->class] = o;
}

void *krealloc(void *p, size_t old_size, size_t size)
{
	void *q = kalloc(size);

	if (q && p) {
		memcpy(q, p, MIN(old_size, size));
		kfree(p);
	}
	return q;
}

char *kstrdup(const char *s)
{
	size_t n = strlen(s) + 1;
	char *copy = kalloc(n);

	if (copy)
		memcpy(copy, s, n);
	return copy;
}
