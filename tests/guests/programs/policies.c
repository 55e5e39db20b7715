/* Scheduling policies and priorities: what is set is told again, and inherited by threads. */
#include "case.h"
#include <pthread.h>
#include <sched.h>
#include <sys/resource.h>

struct attributes { /* struct sched_attr, which glibc has since 2.41 */
	uint32_t size, policy;
	uint64_t flags;
	int32_t nice;
	uint32_t priority;
	uint64_t runtime, deadline, period;
};

static void show(const char *name, int pid)
{
	struct sched_param p = { -1 };
	int result = sched_getparam(pid, &p);

	TEXT(name, "policy %d, %d: priority %d", sched_getscheduler(pid), result, p.sched_priority);
}
static void *in_thread(void *unused)
{
	show("in a thread", 0);
	return NULL;
}

int main(void)
{
	struct sched_param p = { 0 };
	struct attributes a = { 0 };
	struct timespec t;
	pthread_t thread;

	show("at first", 0);
	CALL("lowest of FIFO", sched_get_priority_min(SCHED_FIFO));
	CALL("highest of RR", sched_get_priority_max(SCHED_RR));
	CALL("of others", sched_get_priority_max(SCHED_BATCH));
	CALL("of none", sched_get_priority_max(77));
	p.sched_priority = 5;
	CALL("priority of others", sched_setscheduler(0, SCHED_OTHER, &p));
	CALL("FIFO", sched_setscheduler(0, SCHED_FIFO, &p));
	show("as set", 0);
	show("by number", getpid());
	pthread_create(&thread, NULL, in_thread, NULL);
	pthread_join(thread, NULL);
	p.sched_priority = 100;
	CALL("too high", sched_setparam(0, &p));
	p.sched_priority = 9;
	CALL("another", sched_setparam(0, &p));
	show("changed", 0);
	CALL("getattr", syscall(SYS_sched_getattr, 0, &a, sizeof(a), 0));
	TEXT("is", "policy %d, priority %d, nice %d", a.policy, a.priority, a.nice);
	CALL("reset", sched_setscheduler(0, SCHED_RR | SCHED_RESET_ON_FORK, &p));
	show("with a bit", 0);
	pthread_create(&thread, NULL, in_thread, NULL);
	pthread_join(thread, NULL);
	a = (struct attributes){ .size = sizeof(a), .policy = SCHED_BATCH, .nice = 3 };
	CALL("setattr", syscall(SYS_sched_setattr, 0, &a, 0));
	CALL("batch", sched_getscheduler(0));
	CALL("nice", getpriority(PRIO_PROCESS, 0));
	a.size = 4;
	CALL("short", syscall(SYS_sched_setattr, 0, &a, 0));
	CALL("policy of none", sched_getscheduler(99999));
	CALL("negative", sched_getscheduler(-1));
	CALL("unknown policy", sched_setscheduler(0, 77, &p));
	CALL("no parameter", sched_setscheduler(0, SCHED_OTHER, NULL));
	CALL("parameter of none", sched_getparam(99999, &p));
	CALL("interval", sched_rr_get_interval(0, &t));
	CALL("interval of none", sched_rr_get_interval(99999, &t));
	return 0;
}
