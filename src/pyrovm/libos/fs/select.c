/* select: poll with sets of bits. */
#include "calls.h"
#include "poll.h"

#define READ_EVENTS (POLLIN | POLLRDNORM | POLLRDBAND | POLLHUP | POLLERR)
#define WRITE_EVENTS (POLLOUT | POLLWRNORM | POLLWRBAND | POLLERR)
#define OTHER_EVENTS POLLPRI
#define BITS 64

static bool bit_of(const u64 *set, u64 fd)
{
	return set && set[fd / BITS] >> (fd % BITS) & 1;
}

static u64 collect(struct poll_slot *slots, u64 count, u64 *const sets[3])
{
	static const u32 events[] = { POLLIN | POLLRDNORM | POLLRDBAND, POLLOUT | POLLWRNORM, POLLPRI };
	u64 used = 0;

	for (u64 fd = 0; fd < count; fd++) {
		u32 wanted = 0;

		for (int k = 0; k < 3; k++)
			wanted |= bit_of(sets[k], fd) ? events[k] : 0;
		if (wanted)
			slots[used++] = (struct poll_slot){ .fd = (int)fd, .wanted = wanted };
	}
	return used;
}

/* Sets keep the bits of what has events; how many. */
static long report(const struct poll_slot *slots, u64 used, u64 *const sets[3])
{
	static const u32 events[] = { READ_EVENTS, WRITE_EVENTS, OTHER_EVENTS };
	long total = 0;

	for (int k = 0; k < 3; k++) {
		if (!sets[k])
			continue;
		for (u64 i = 0; i < used; i++) {
			u64 fd = (u64)slots[i].fd, mask = 1ULL << (fd % BITS);

			if (!(sets[k][fd / BITS] & mask))
				continue;
			if (slots[i].found & events[k])
				total++;
			else
				sets[k][fd / BITS] &= ~mask;
		}
	}
	return total;
}

static long do_select(u64 count, u64 *const sets[3], u64 deadline)
{
	size_t bytes = ALIGN_UP(count, BITS) / 8;
	struct poll_slot *slots;
	long result;
	u64 used;

	for (int k = 0; k < 3; k++)
		if (sets[k] && user_check(sets[k], bytes, true))
			return -EFAULT;
	slots = kalloc(MAX(count, 1UL) * sizeof(*slots));
	if (!slots)
		return -ENOMEM;
	used = collect(slots, count, sets);
	for (u64 i = 0; i < used; i++) {
		if (!fd_get(slots[i].fd)) {
			kfree(slots);
			return -EBADF;
		}
	}
	result = poll_slots(slots, used, deadline);
	for (int k = 0; k < 3 && result >= 0; k++)
		if (sets[k] && user_check(sets[k], bytes, true))
			result = -EFAULT;
	if (result >= 0)
		result = report(slots, used, sets);
	kfree(slots);
	return result;
}

static long select_sets(u64 count, u64 read, u64 write, u64 other, u64 deadline)
{
	u64 *const sets[3] = { (u64 *)read, (u64 *)write, (u64 *)other };

	if ((int)count < 0)
		return -EINVAL;
	/* Nothing is open above. */
	return do_select(MIN((u32)count, ALIGN_UP(fd_count(), BITS)), sets, deadline);
}

CALL5(select, count, read, write, other, timeout)
{
	struct __kernel_old_timeval *t = (void *)timeout;
	u64 deadline = FOREVER;
	long result;

	if (t) {
		if (user_check(t, sizeof(*t), false))
			return -EFAULT;
		if (t->tv_sec < 0 || t->tv_usec < 0)
			return -EINVAL;
		deadline = deadline_after((u64)MIN(t->tv_sec, 1L << 33) * NSEC_PER_SEC +
					  (u64)MIN(t->tv_usec, 1L << 40) * 1000);
	}
	result = select_sets(count, read, write, other, deadline);
	if (t && user_check(t, sizeof(*t), true) == 0) { /* Linux tells how much time was left */
		u64 now = clock_monotonic(), left = deadline > now ? deadline - now : 0;

		t->tv_sec = (long)(left / NSEC_PER_SEC);
		t->tv_usec = (long)(left % NSEC_PER_SEC / 1000);
	}
	return result;
}

long sys_pselect6(u64 count, u64 read, u64 write, u64 other, u64 timeout, u64 mask_pair)
{
	u64 deadline, mask = 0, size = sizeof(u64);
	const u64 *pair = (u64 *)mask_pair;
	long result = deadline_of(timeout, &deadline);

	if (!result && pair) {
		if (user_check(pair, 2 * sizeof(*pair), false))
			return -EFAULT;
		mask = pair[0];
		size = pair[1];
	}
	if (!result)
		result = mask_replace(mask, size);
	if (result)
		return result;
	result = select_sets(count, read, write, other, deadline);
	mask_restore(mask, result);
	tell_time_left(timeout, deadline);
	return result;
}
