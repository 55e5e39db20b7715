/* Page tables (Intel SDM vol. 3, 4.5), reached through the linear map. */
#ifndef PYROVM_LIBOS_PAGETABLE_H
#define PYROVM_LIBOS_PAGETABLE_H

#include "os.h"

#define PTE_PRESENT 0x1ULL
#define PTE_WRITE   0x2ULL
#define PTE_USER    0x4ULL /* missing where the page is there, but PROT_NONE */
/* Both are set from the start, for with shadow page tables (software-only KVM) a page that is read
 * first and written then would cost two faults of some 3 us.  But not for pages of read-only files:
 * where it is missing, no CPU can have the translation in its TLB. */
#define PTE_ACCESSED 0x20ULL
#define PTE_DIRTY    0x40ULL
#define PTE_HUGE    0x80ULL
#define PTE_OWNED   0x200ULL /* ours: the page is the mapping's own and freed with it */
#define PTE_COPY    0x400ULL /* ours: to be copied before it is written */
#define PTE_NX      (1ULL << 63)
#define PTE_ADDRESS 0x000ffffffffff000ULL

#define FAULT_WRITE 2 /* in the error code of a page fault */
#define FAULT_FETCH 16

/* The entry for a page; NULL where no table is.  A huge entry comes as itself, *huge set. */
u64 *pte_find(u64 address, bool *huge);
/* The same, making the tables on the way; NULL where memory is short.  Splits a huge entry. */
u64 *pte_make(u64 address);
/* The entry for 2 MiB, where tables may have to be made; NULL if a table of small pages is there. */
u64 *pte_make_huge(u64 address);
u64 pte_bits(int prot);
/* Walks what is mapped from address to end: one call for each present entry. */
typedef void (*pte_visit)(u64 *entry, u64 address, bool huge, void *context);
void pte_walk(u64 address, u64 end, pte_visit visit, void *context);
/* So that an entry below spans no more than [address, end): splits huge entries at the borders. */
long pte_split_borders(u64 address, u64 end);
/* So that there are no huge entries of files between the two (which nobody may write to). */
long pte_split_files(u64 address, u64 end);
/* Make one entry of the 512 of an aligned 2 MiB, if they are 2 MiB of the image.  If a part of it may
 * be executed, all may: a loader has put that beside it, as if its file had one segment less. */
void pte_collapse(u64 address);

#endif
