/* poll: waiting for several descriptors at once. */
#include "calls.h"
#include "../signal.h"
#include "poll.h"

#define ALWAYS (POLLERR | POLLHUP)
#define ON_STACK 8

/* What a file can tell now, and whom to tell of changes. */
static u32 ask(struct file *f, struct poll_waiter *w, u32 wanted)
{
	u32 all = wanted | ALWAYS;

	if (f->flags & O_PATH)
		return POLLNVAL;
	return f->ops->poll ? f->ops->poll(f, w ? &w->waiter : NULL, all) & all : file_poll_always(f, NULL, all);
}

/* Look at all; with a table, be told of changes until something is found.  How many have events. */
static long look(struct poll_slot *slots, u64 count, struct poll_table *table)
{
	long found = 0;

	for (u64 i = 0; i < count; i++) {
		struct poll_slot *s = &slots[i];
		bool waits = table && !found;

		s->found = 0;
		if (s->fd < 0)
			continue;
		s->file = fd_get(s->fd);
		if (!s->file) {
			s->found = POLLNVAL;
		} else {
			file_get(s->file);
			if (waits)
				poll_waiter_init(&s->waiter, table);
			s->found = ask(s->file, waits ? &s->waiter : NULL, s->wanted);
		}
		found += s->found != 0;
	}
	return found;
}

static void forget(struct poll_slot *slots, u64 count)
{
	for (u64 i = 0; i < count; i++) {
		if (!slots[i].file)
			continue;
		if (slots[i].waiter.table)
			poll_waiter_deinit(&slots[i].waiter);
		slots[i].waiter.table = NULL;
		file_put(slots[i].file);
		slots[i].file = NULL;
	}
}

long poll_slots(struct poll_slot *slots, u64 count, u64 deadline)
{
	struct poll_table table;

	poll_table_init(&table);
	for (bool asked = false;; asked = true) {
		long found = look(slots, count, deadline ? &table : NULL), error = 0;

		if (!found && deadline)
			error = poll_sleep(&table, deadline);
		forget(slots, count);
		if (!found && !deadline && !asked && host_is_armed()) {
			host_wait(0); /* who does not sleep asks the host here */
			continue;
		}
		if (found || !deadline || error == -ETIMEDOUT)
			return found;
		if (error)
			return error;
	}
}

/* --------------------------------------------------------------------------------- signals */

long mask_replace(u64 mask_address, u64 size)
{
	struct thread *me = current();

	if (!mask_address)
		return 0;
	if (size != sizeof(u64))
		return -EINVAL;
	if (user_check((void *)mask_address, sizeof(u64), false))
		return -EFAULT;
	me->saved_mask = me->signal_mask;
	me->restore_mask = true; /* if a handler runs, after it */
	signal_set_mask(me, *(u64 *)mask_address & ~UNBLOCKABLE);
	return 0;
}

void mask_restore(u64 mask_address, long result)
{
	struct thread *me = current();

	if (!mask_address || result == -EINTR || !me->restore_mask)
		return;
	me->restore_mask = false;
	signal_set_mask(me, me->saved_mask);
}

/* ------------------------------------------------------------------------------------ poll */

static long do_poll(u64 fds_address, u64 count, u64 deadline)
{
	struct pollfd *fds = (void *)fds_address;
	struct poll_slot few[ON_STACK] = { 0 }, *slots = few;
	long result;

	if (count > fd_limit())
		return -EINVAL;
	if (user_check(fds, count * sizeof(*fds), true))
		return -EFAULT;
	if (count > ON_STACK) {
		slots = kalloc(count * sizeof(*slots));
		if (!slots)
			return -ENOMEM;
	}
	for (u64 i = 0; i < count; i++) {
		slots[i].fd = fds[i].fd;
		slots[i].wanted = (u16)fds[i].events;
	}
	result = poll_slots(slots, count, deadline);
	if (user_check(fds, count * sizeof(*fds), true))
		result = -EFAULT;
	for (u64 i = 0; i < count && result >= 0; i++)
		fds[i].revents = (short)slots[i].found;
	if (slots != few)
		kfree(slots);
	return result;
}

u64 deadline_after(u64 ns)
{
	u64 now = clock_monotonic();

	return ns == 0 ? 0 : ns > FOREVER - 1 - now ? FOREVER - 1 : now + ns;
}

long deadline_of(u64 timespec_address, u64 *deadline)
{
	const struct __kernel_timespec *t = (void *)timespec_address;
	u64 ns;

	*deadline = FOREVER;
	if (!t)
		return 0;
	if (user_check(t, sizeof(*t), false))
		return -EFAULT;
	if (time_to_ns(t, &ns))
		return -EINVAL;
	*deadline = deadline_after(ns);
	return 0;
}

CALL3(poll, fds, count, timeout)
{
	int ms = (int)timeout;

	return do_poll(fds, (u32)count, ms < 0 ? FOREVER : deadline_after((u64)ms * 1000000));
}

void tell_time_left(u64 timespec_address, u64 deadline)
{
	struct __kernel_timespec *t = (void *)timespec_address;
	u64 now = clock_monotonic(), left = deadline > now ? deadline - now : 0;

	if (!t || user_check(t, sizeof(*t), true))
		return; /* read-only ones are allowed */
	t->tv_sec = (s64)(left / NSEC_PER_SEC);
	t->tv_nsec = (long long)(left % NSEC_PER_SEC);
}

CALL5(ppoll, fds, count, timeout, mask, mask_size)
{
	u64 deadline;
	long result = deadline_of(timeout, &deadline);

	if (!result)
		result = mask_replace(mask, mask_size);
	if (result)
		return result;
	result = do_poll(fds, (u32)count, deadline);
	mask_restore(mask, result);
	tell_time_left(timeout, deadline);
	return result;
}
