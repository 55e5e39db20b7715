/* The areas of the program's address space, in order of address. */
#ifndef PYROVM_LIBOS_VMA_H
#define PYROVM_LIBOS_VMA_H

#include "os.h"

/* Addresses that programs may map; the library OS lies in the middle (abi.h). */
#define USER_START 0x10000ULL
#define USER_END   0x7ffffffff000ULL
#define HOLE_START 0x3e0000000000ULL
#define HOLE_END   0x3f8000000000ULL

struct vma {
	u64 start, end;
	int prot;
	u32 flags; /* MAP_SHARED or MAP_PRIVATE, MAP_ANONYMOUS, MAP_GROWSDOWN, MAP_NORESERVE */
	struct file *file; /* holds a reference */
	u64 offset;
	const char *name; /* "[heap]", "[stack]", "[vdso]" or NULL */
};

struct vma *vma_find(u64 address); /* the first that ends above address; may start above it */
struct vma *vma_at(u64 address); /* the one that covers it */
unsigned vma_index(const struct vma *v);
struct vma *vma_number(unsigned index); /* NULL behind the last */
/* Add an area where none is, joined with its neighbours where they agree. */
long vma_insert(const struct vma *area);
/* Take out what lies in [start, end), splitting areas at the borders. */
long vma_remove(u64 start, u64 end);
/* So that areas begin and end at these borders. */
long vma_split(u64 start, u64 end);
/* Join what agrees, from start to end. */
void vma_join(u64 start, u64 end);
/* The highest free range of that length below limit, or 0. */
u64 vma_find_gap(u64 length, u64 limit);
bool vma_range_is_free(u64 start, u64 end);

#endif
