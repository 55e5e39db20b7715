/* futex(2): one address space, so an address is the key, private or not. */
#include "calls.h"
#include "thread.h"

#define BUCKETS 64

struct futex_waiter {
	struct list link;
	struct thread *thread;
	u64 address;
	u32 bits;
	bool woken;
};

static struct list buckets[BUCKETS];

static struct list *bucket_of(u64 address)
{
	struct list *bucket = &buckets[(address >> 2) * 0x9e3779b97f4a7c15ULL >> 58];

	_Static_assert(BUCKETS == 1 << (64 - 58), "the hash's width");
	if (!bucket->next)
		list_init(bucket);
	return bucket;
}

static long deadline_of(u64 user, bool absolute, bool realtime, u64 *deadline)
{
	const struct __kernel_timespec *t = (const void *)user;
	u64 ns;

	*deadline = FOREVER;
	if (!user)
		return 0;
	if (user_check(t, sizeof(*t), false))
		return -EFAULT;
	if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= 1000000000)
		return -EINVAL;
	if (t->tv_sec > 9000000000LL)
		return 0; /* 285 years */
	ns = (u64)t->tv_sec * 1000000000 + (u64)t->tv_nsec;
	if (!absolute) {
		*deadline = clock_monotonic() + ns;
	} else if (realtime) {
		u64 now = clock_realtime();

		*deadline = clock_monotonic() + (ns > now ? ns - now : 0);
	} else {
		*deadline = ns;
	}
	return 0;
}

static long wait(u64 address, u32 value, u32 bits, u64 deadline)
{
	struct futex_waiter w = { .thread = current(), .address = address, .bits = bits };
	long result;

	if (!bits)
		return -EINVAL;
	if (user_check((void *)address, 4, false))
		return -EFAULT;
	if (*(volatile u32 *)address != value)
		return -EAGAIN;
	list_add(bucket_of(address), &w.link);
	result = thread_sleep(deadline);
	list_remove(&w.link);
	if (w.woken)
		return 0;
	/* Woken by nobody: a signal restarts it only where there is no time limit. */
	return result == -EINTR && deadline == FOREVER ? -ERESTARTSYS : result;
}

long futex_wake(u64 address, u32 n, u32 bits)
{
	struct futex_waiter *w, *after;
	struct list *bucket = bucket_of(address);
	u32 woken = 0;

	list_each_safe(w, after, bucket, link) {
		if (woken >= n)
			break;
		if (w->address != address || !(w->bits & bits))
			continue;
		list_remove(&w->link);
		w->woken = true;
		thread_wake(w->thread);
		woken++;
	}
	return woken;
}

static long requeue(u64 from, u64 to, u32 wake, u32 move)
{
	struct futex_waiter *w, *after;
	long done = futex_wake(from, wake, ~0u);
	u32 moved = 0;

	list_each_safe(w, after, bucket_of(from), link) {
		if (moved >= move)
			break;
		if (w->address != from)
			continue;
		list_remove(&w->link);
		w->address = to;
		list_add(bucket_of(to), &w->link);
		moved++;
	}
	return done + moved;
}

static long wake_op(u64 address, u64 address2, u32 wake, u32 wake2, u32 encoded)
{
	u32 operation = encoded >> 28 & 7, comparison = encoded >> 24 & 15, *at = (u32 *)address2, old;
	const int order = __ATOMIC_SEQ_CST;
	s32 operand = (s32)(encoded << 8) >> 20, compared = (s32)(encoded << 20) >> 20;
	bool holds;

	if (encoded >> 31)
		operand = 1 << (operand & 31);
	if (user_check(at, 4, true))
		return -EFAULT;
	switch (operation) {
	case FUTEX_OP_SET: old = __atomic_exchange_n(at, (u32)operand, order); break;
	case FUTEX_OP_ADD: old = __atomic_fetch_add(at, (u32)operand, order); break;
	case FUTEX_OP_OR: old = __atomic_fetch_or(at, (u32)operand, order); break;
	case FUTEX_OP_ANDN: old = __atomic_fetch_and(at, ~(u32)operand, order); break;
	case FUTEX_OP_XOR: old = __atomic_fetch_xor(at, (u32)operand, order); break;
	default: return -ENOSYS;
	}
	switch (comparison) {
	case FUTEX_OP_CMP_EQ: holds = (s32)old == compared; break;
	case FUTEX_OP_CMP_NE: holds = (s32)old != compared; break;
	case FUTEX_OP_CMP_LT: holds = (s32)old < compared; break;
	case FUTEX_OP_CMP_LE: holds = (s32)old <= compared; break;
	case FUTEX_OP_CMP_GT: holds = (s32)old > compared; break;
	case FUTEX_OP_CMP_GE: holds = (s32)old >= compared; break;
	default: return -ENOSYS;
	}
	return futex_wake(address, wake, ~0u) + (holds ? futex_wake(address2, wake2, ~0u) : 0);
}

/* What a word becomes from what it was; nothing where another thread has changed it meanwhile. */
static bool change(u32 *word, u32 from, u32 to)
{
	return __atomic_compare_exchange_n(word, &from, to, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

/* Priority inheritance means nothing where all threads are equal: the kernel's part of a PI mutex is
 * to hand it over. */
static long lock_pi(u64 address, u64 deadline, bool only_try)
{
	u32 *word = (u32 *)address, tid = (u32)current()->tid;

	for (;;) {
		u32 value, owner;
		long result;

		if (user_check(word, 4, true))
			return -EFAULT;
		value = __atomic_load_n(word, __ATOMIC_SEQ_CST);
		owner = value & FUTEX_TID_MASK;
		if (!owner) {
			if (change(word, value, (value & FUTEX_WAITERS) | tid))
				return 0;
			continue;
		}
		if (owner == tid)
			return -EDEADLK;
		if (only_try)
			return -EAGAIN;
		if (!change(word, value, value | FUTEX_WAITERS))
			continue;
		result = wait(address, value | FUTEX_WAITERS, ~0u, deadline);
		if (result && result != -EAGAIN)
			return result == -ERESTARTSYS ? -EINTR : result;
	}
}

static long unlock_pi(u64 address)
{
	u32 *word = (u32 *)address;

	if (user_check(word, 4, true))
		return -EFAULT;
	if ((__atomic_load_n(word, __ATOMIC_SEQ_CST) & FUTEX_TID_MASK) != (u32)current()->tid)
		return -EPERM;
	/* Whoever is woken takes it: with those waiting, nobody does so without the library OS. */
	__atomic_store_n(word, futex_wake(address, 1, ~0u) ? FUTEX_WAITERS : 0, __ATOMIC_SEQ_CST);
	return 0;
}

long sys_futex(u64 address, u64 operation, u64 value, u64 timeout, u64 address2, u64 value3)
{
	u32 command = operation & FUTEX_CMD_MASK, count = (u32)value;
	bool realtime = operation & FUTEX_CLOCK_REALTIME;
	u64 deadline;
	long error;

	if (address & 3)
		return -EINVAL;
	switch (command) {
	case FUTEX_WAIT:
		error = deadline_of(timeout, false, false, &deadline);
		return error ? error : wait(address, count, ~0u, deadline);
	case FUTEX_WAIT_BITSET:
		error = deadline_of(timeout, true, realtime, &deadline);
		return error ? error : wait(address, count, (u32)value3, deadline);
	case FUTEX_WAKE:
		return futex_wake(address, count, ~0u);
	case FUTEX_WAKE_BITSET:
		return value3 ? futex_wake(address, count, (u32)value3) : -EINVAL;
	case FUTEX_CMP_REQUEUE:
		if (user_check((void *)address, 4, false))
			return -EFAULT;
		if (*(volatile u32 *)address != (u32)value3)
			return -EAGAIN;
		return requeue(address, address2, count, (u32)timeout);
	case FUTEX_REQUEUE:
		return requeue(address, address2, count, (u32)timeout);
	case FUTEX_WAKE_OP:
		return wake_op(address, address2, count, (u32)timeout, (u32)value3);
	case FUTEX_LOCK_PI:
	case FUTEX_LOCK_PI2:
		error = deadline_of(timeout, true, command == FUTEX_LOCK_PI || realtime, &deadline);
		return error ? error : lock_pi(address, deadline, false);
	case FUTEX_TRYLOCK_PI:
		return lock_pi(address, 0, true);
	case FUTEX_UNLOCK_PI:
		return unlock_pi(address);
	default:
		return -ENOSYS;
	}
}
