/* What poll, select and epoll share. */
#ifndef PYROVM_LIBOS_FS_POLL_H
#define PYROVM_LIBOS_FS_POLL_H

#include "fs.h"

struct poll_slot {
	struct poll_waiter waiter;
	struct file *file; /* with a reference, while asleep */
	int fd; /* negative: not looked at */
	u32 wanted, found; /* POLLIN ... */
};

/* Wait until one of them has events, or the deadline (0: do not wait): how many; -EINTR. */
long poll_slots(struct poll_slot *slots, u64 count, u64 deadline);
/* Deadlines from timeouts of the program's: FOREVER without one, 0 for no time at all. */
u64 deadline_after(u64 ns);
long deadline_of(u64 timespec_address, u64 *deadline);
/* As ppoll and pselect6 leave it to the program; 0: it has given none. */
void tell_time_left(u64 timespec_address, u64 deadline);
/* ppoll and its like: another signal mask during the call. */
long mask_replace(u64 mask_address, u64 size);
void mask_restore(u64 mask_address, long result);

#endif
