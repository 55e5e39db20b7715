/* Scheduling policies, priorities and niceness: kept and told, but threads take turns as equals. */
#include <linux/sched/types.h>

#include "calls.h"
#include "thread.h"

#define PRIORITY_MAX 99
#define ATTRIBUTES_SIZE 48U /* SCHED_ATTR_SIZE_VER0 */

static bool is_real_time(int policy)
{
	return policy == SCHED_FIFO || policy == SCHED_RR;
}

static bool is_known(int policy)
{
	return is_real_time(policy) || policy == SCHED_NORMAL || policy == SCHED_BATCH || policy == SCHED_IDLE;
}

static struct thread *find(int pid)
{
	return pid ? thread_find(pid) : current();
}

static long set(int pid, int policy, int priority)
{
	bool resets = policy & SCHED_RESET_ON_FORK;
	struct thread *t;

	policy &= ~SCHED_RESET_ON_FORK;
	if (pid < 0 || !is_known(policy))
		return -EINVAL;
	t = find(pid);
	if (!t)
		return -ESRCH;
	if (is_real_time(policy) ? priority < 1 || priority > PRIORITY_MAX : priority != 0)
		return -EINVAL;
	if (is_real_time(policy) && boot_info->uid)
		return -EPERM;
	t->policy = (u8)policy;
	t->priority = (u8)priority;
	t->policy_resets = resets;
	return 0;
}

SYSCALL(sched_setscheduler)
{
	const int *priority = (int *)c;

	if (!priority || (int)b < 0)
		return -EINVAL;
	if (user_check(priority, sizeof(*priority), false))
		return -EFAULT;
	return set((int)a, (int)b, *priority);
}

SYSCALL(sched_setparam)
{
	const int *priority = (int *)b;
	struct thread *t = (int)a < 0 ? NULL : find((int)a);

	if (!priority || (int)a < 0)
		return -EINVAL;
	if (user_check(priority, sizeof(*priority), false))
		return -EFAULT;
	return t ? set((int)a, t->policy, *priority) : -ESRCH;
}

SYSCALL(sched_getscheduler)
{
	const struct thread *t = (int)a < 0 ? NULL : find((int)a);

	if ((int)a < 0)
		return -EINVAL;
	return t ? t->policy | (t->policy_resets ? SCHED_RESET_ON_FORK : 0) : -ESRCH;
}

SYSCALL(sched_getparam)
{
	const struct thread *t = (int)a < 0 ? NULL : find((int)a);
	int *priority = (int *)b;

	if (!priority || (int)a < 0)
		return -EINVAL;
	if (!t)
		return -ESRCH;
	if (user_check(priority, sizeof(*priority), true))
		return -EFAULT;
	*priority = t->priority;
	return 0;
}

static int nice; /* of all threads */

SYSCALL(sched_setattr)
{
	struct sched_attr *given = (void *)b;
	long error;

	if (!given || (int)a < 0 || c)
		return -EINVAL;
	if (user_check(given, ATTRIBUTES_SIZE, true))
		return -EFAULT;
	if (given->size && given->size < ATTRIBUTES_SIZE) {
		given->size = ATTRIBUTES_SIZE;
		return -E2BIG;
	}
	if ((int)given->sched_policy < 0)
		return -EINVAL;
	error = set((int)a, (int)given->sched_policy, (int)given->sched_priority);
	if (!error && !is_real_time((int)given->sched_policy))
		nice = MAX(-20, MIN(given->sched_nice, 19));
	return error;
}

SYSCALL(sched_getattr)
{
	const struct thread *t = (int)a < 0 ? NULL : find((int)a);
	struct sched_attr *to = (void *)b;

	if (!to || (int)a < 0 || (u32)c < ATTRIBUTES_SIZE || (u32)c > PAGE_SIZE || d)
		return -EINVAL;
	if (!t)
		return -ESRCH;
	if (user_check(to, ATTRIBUTES_SIZE, true))
		return -EFAULT;
	memset(to, 0, ATTRIBUTES_SIZE);
	to->size = ATTRIBUTES_SIZE;
	to->sched_policy = t->policy;
	to->sched_priority = t->priority;
	to->sched_flags = t->policy_resets;
	to->sched_nice = is_real_time(t->policy) ? 0 : nice;
	return 0;
}

static long priority_limit(int policy, int of_real_time)
{
	return is_real_time(policy) ? of_real_time : is_known(policy) || policy == SCHED_DEADLINE ? 0 : -EINVAL;
}

SYSCALL(sched_priority_max)
{
	return priority_limit((int)a, PRIORITY_MAX);
}

SYSCALL(sched_priority_min)
{
	return priority_limit((int)a, 1);
}

SYSCALL(getpriority)
{
	return a > PRIO_USER ? -EINVAL : 20 - nice;
}

SYSCALL(setpriority)
{
	if (a > PRIO_USER)
		return -EINVAL;
	nice = MAX(-20, MIN((int)c, 19));
	return 0;
}

SYSCALL(sched_rr_get_interval)
{
	const struct thread *t = (int)a < 0 ? NULL : find((int)a);
	struct __kernel_timespec *to = (void *)b;

	if ((int)a < 0)
		return -EINVAL;
	if (!t)
		return -ESRCH;
	if (user_check(to, sizeof(*to), true))
		return -EFAULT;
	*to = (struct __kernel_timespec){ .tv_nsec = t->policy == SCHED_FIFO ? 0 : PV_TICK_NS };
	return 0;
}
