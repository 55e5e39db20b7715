/* The system calls about time: clocks, sleeping, timers that send signals. */
#include "calls.h"
#include "signal.h"
#include "thread.h"

#define UNTIL_THE_END (9000000000ULL * NSEC_PER_SEC) /* 285 years; longer is for ever */

long time_to_ns(const struct __kernel_timespec *t, u64 *ns)
{
	if (t->tv_sec < 0 || t->tv_nsec < 0 || (u64)t->tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	*ns = (u64)t->tv_sec >= UNTIL_THE_END / NSEC_PER_SEC ? UNTIL_THE_END
							     : (u64)t->tv_sec * NSEC_PER_SEC + (u64)t->tv_nsec;
	return 0;
}

static long read_clock(u64 clock, u64 *ns)
{
	switch (clock) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_TAI:
	case CLOCK_REALTIME_ALARM:
		*ns = clock_realtime();
		return 0;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
	case CLOCK_BOOTTIME_ALARM:
		*ns = clock_monotonic();
		return 0;
	case CLOCK_PROCESS_CPUTIME_ID:
		*ns = threads_cpu_ns();
		return 0;
	case CLOCK_THREAD_CPUTIME_ID:
		*ns = thread_cpu_ns(current());
		return 0;
	}
	if ((s32)clock < 0) { /* pthread_getcpuclockid: ~tid << 3 | 6; of a process | 2 */
		struct thread *t = thread_find((int)~((s32)clock >> 3));

		if ((clock & 7) == 6 && (t || !(u32)~((s32)clock >> 3))) {
			*ns = thread_cpu_ns(t ? t : current());
			return 0;
		}
		if ((clock & 7) == 2) {
			*ns = threads_cpu_ns();
			return 0;
		}
	}
	return -EINVAL;
}

static long put_time(u64 user, u64 ns)
{
	struct __kernel_timespec *t = (void *)user;

	if (user_check(t, sizeof(*t), true))
		return -EFAULT;
	t->tv_sec = (s64)(ns / NSEC_PER_SEC);
	t->tv_nsec = (s64)(ns % NSEC_PER_SEC);
	return 0;
}

long sys_clock_gettime(u64 clock, u64 user, u64 c, u64 d, u64 e, u64 f)
{
	u64 ns;
	long error = read_clock((u32)clock, &ns);

	return error ? error : put_time(user, ns);
}

long sys_clock_settime(u64 clock, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	u64 ns;

	return read_clock((u32)clock, &ns) ? -EINVAL : -EPERM;
}

long sys_clock_getres(u64 clock, u64 user, u64 c, u64 d, u64 e, u64 f)
{
	u64 ns;
	long error = read_clock((u32)clock, &ns);

	return error || !user ? error : put_time(user, 1);
}

long sys_gettimeofday(u64 user, u64 zone, u64 c, u64 d, u64 e, u64 f)
{
	s64 *t = (s64 *)user;
	int *z = (int *)zone;
	u64 ns = clock_realtime();

	if (user_check(t, t ? 16 : 0, true) || user_check(z, z ? 8 : 0, true))
		return -EFAULT;
	if (t) {
		t[0] = (s64)(ns / NSEC_PER_SEC);
		t[1] = (s64)(ns % NSEC_PER_SEC / 1000);
	}
	if (z)
		z[0] = z[1] = 0;
	return 0;
}

long sys_time(u64 user, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	s64 now = (s64)(clock_realtime() / NSEC_PER_SEC);

	if (user_check((void *)user, user ? 8 : 0, true))
		return -EFAULT;
	if (user)
		*(s64 *)user = now;
	return now;
}

/* ------------------------------------------------------------------------------------ sleeping */

static long sleep_until(u64 deadline, u64 user_rest)
{
	for (;;) {
		long result = thread_sleep(deadline);
		u64 now = clock_monotonic();

		if (now >= deadline || result == -ETIMEDOUT)
			return 0;
		if (result == -EINTR)
			return user_rest && put_time(user_rest, deadline - now) ? -EFAULT : -EINTR;
	}
}

long sys_clock_nanosleep(u64 clock, u64 flags, u64 user, u64 user_rest, u64 e, u64 f)
{
	const struct __kernel_timespec *t = (const void *)user;
	u64 ns, now;
	long error = read_clock((u32)clock, &now);

	if (error || clock == CLOCK_THREAD_CPUTIME_ID)
		return -EINVAL;
	if (user_check(t, sizeof(*t), false))
		return -EFAULT;
	error = time_to_ns(t, &ns);
	if (error)
		return error;
	if (!(flags & TIMER_ABSTIME))
		return sleep_until(clock_monotonic() + ns, user_rest);
	return sleep_until(clock_monotonic() + (ns > now ? ns - now : 0), 0);
}

long sys_nanosleep(u64 user, u64 user_rest, u64 c, u64 d, u64 e, u64 f)
{
	return sys_clock_nanosleep(CLOCK_MONOTONIC, 0, user, user_rest, e, f);
}

/* ---------------------------------------------------------------------- timers that send signals */

struct alarm {
	struct timer timer;
	u64 interval; /* ns; 0: once */
	int signal, code, id;
	int tid; /* whom to tell; 0: the process */
	u64 value;
	u32 overrun;
	bool in_use, is_set, is_silent;
	u64 clock;
};

/* setitimer(2) knows three; time is the program's running time for two of them, which here is the
 * time that passes: nothing else runs. */
static struct alarm interval_timers[3];

#define TIMERS_MAX 64
static struct alarm *posix_timers[TIMERS_MAX];

/* Is its last signal still among those that the program has to see? */
static bool is_unseen(const struct alarm *a, struct thread *t)
{
	struct queued *q;

	list_each(q, t ? &t->signal_queue : &process_queue, link)
		if (q->info.si_signo == a->signal && q->info.si_code == SI_TIMER && q->info.si_tid == a->id)
			return true;
	return false;
}

static void ring(struct timer *timer)
{
	struct alarm *a = container_of(timer, struct alarm, timer);
	struct thread *t = a->tid ? thread_find(a->tid) : NULL;
	bool is_told = !is_unseen(a, t); /* else this is an overrun */
	u64 now = clock_monotonic();

	a->is_set = a->interval != 0;
	if (is_told)
		a->overrun = 0;
	else
		a->overrun++;
	if (a->interval) {
		u64 missed = (now - timer->deadline) / a->interval;

		a->overrun += (u32)missed;
		timer_start(timer, timer->deadline + (missed + 1) * a->interval);
	}
	if (is_told && !a->is_silent && (t || !a->tid)) /* its thread may have ended */
		signal_send(t, a->signal, a->code, a->value, a->id);
}

static void set(struct alarm *a, u64 deadline, u64 interval)
{
	timer_stop(&a->timer);
	a->timer.expire = ring;
	a->interval = interval;
	a->is_set = deadline != 0;
	if (deadline)
		timer_start(&a->timer, deadline);
	tick_update();
}

static u64 rest_of(const struct alarm *a)
{
	u64 now = clock_monotonic();

	return !a->is_set ? 0 : a->timer.deadline > now ? a->timer.deadline - now : 1;
}

static const int interval_signals[] = { SIGALRM, SIGVTALRM, SIGPROF };

long sys_setitimer(u64 which, u64 user_new, u64 user_old, u64 d, u64 e, u64 f)
{
	s64 *new = (s64 *)user_new; /* interval, value: seconds and microseconds each */
	u64 value = 0, interval = 0;
	long error;

	if (which > 2)
		return -EINVAL;
	if (new) {
		if (user_check(new, 32, false))
			return -EFAULT;
		if (new[0] < 0 || new[1] < 0 || new[1] >= 1000000 || new[2] < 0 || new[3] < 0 || new[3] >= 1000000)
			return -EINVAL;
		interval = MIN((u64)new[0], 9000000000ULL) * NSEC_PER_SEC + (u64)new[1] * 1000;
		value = MIN((u64)new[2], 9000000000ULL) * NSEC_PER_SEC + (u64)new[3] * 1000;
	}
	error = user_old ? sys_getitimer(which, user_old, 0, d, e, f) : 0;
	if (error)
		return error;
	interval_timers[which].signal = interval_signals[which];
	interval_timers[which].code = SI_KERNEL;
	set(&interval_timers[which], value ? clock_monotonic() + value : 0, interval);
	return 0;
}

long sys_getitimer(u64 which, u64 user, u64 c, u64 d, u64 e, u64 f)
{
	s64 *out = (s64 *)user;
	u64 rest;

	if (which > 2)
		return -EINVAL;
	if (user_check(out, 32, true))
		return -EFAULT;
	rest = rest_of(&interval_timers[which]);
	out[0] = (s64)(interval_timers[which].interval / NSEC_PER_SEC);
	out[1] = (s64)(interval_timers[which].interval % NSEC_PER_SEC / 1000);
	out[2] = (s64)(rest / NSEC_PER_SEC);
	out[3] = (s64)(rest % NSEC_PER_SEC / 1000);
	return 0;
}

long sys_alarm(u64 seconds, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct alarm *a = &interval_timers[0];
	u64 rest = rest_of(a);

	a->signal = SIGALRM;
	a->code = SI_KERNEL;
	set(a, seconds ? clock_monotonic() + (u32)seconds * NSEC_PER_SEC : 0, 0);
	return (long)((rest + NSEC_PER_SEC - 1) / NSEC_PER_SEC);
}

static struct alarm *posix_timer(u64 id)
{
	return id < TIMERS_MAX ? posix_timers[id] : NULL;
}

long sys_timer_create(u64 clock, u64 user_event, u64 user_id, u64 d, u64 e, u64 f)
{
	sigevent_t *event = (sigevent_t *)user_event;
	struct alarm *a;
	u64 now;
	int id = 0;

	if (read_clock((u32)clock, &now))
		return -EINVAL;
	if (user_check(event, event ? sizeof(*event) : 0, false) || user_check((void *)user_id, 4, true))
		return -EFAULT;
	while (id < TIMERS_MAX && posix_timers[id])
		id++;
	a = id < TIMERS_MAX ? kalloc(sizeof(*a)) : NULL;
	if (!a)
		return -EAGAIN;
	a->id = id;
	a->clock = clock;
	a->code = SI_TIMER;
	a->signal = SIGALRM;
	a->value = (u64)id;
	if (event) {
		a->signal = event->sigev_signo;
		a->value = (u64)event->sigev_value.sival_ptr;
		a->is_silent = (event->sigev_notify & ~SIGEV_THREAD_ID) == SIGEV_NONE;
		if (event->sigev_notify & SIGEV_THREAD_ID)
			a->tid = event->_sigev_un._tid;
		if (!a->is_silent && (a->signal < 1 || a->signal > 64 ||
				      (event->sigev_notify & SIGEV_THREAD_ID && !thread_find(a->tid)))) {
			kfree(a);
			return -EINVAL;
		}
	}
	posix_timers[id] = a;
	*(int *)user_id = id;
	return 0;
}

long sys_timer_gettime(u64 id, u64 user, u64 c, u64 d, u64 e, u64 f)
{
	struct alarm *a = posix_timer(id);

	if (!a)
		return -EINVAL;
	return put_time(user, a->interval) ?: put_time(user + 16, rest_of(a));
}

long sys_timer_settime(u64 id, u64 flags, u64 user_new, u64 user_old, u64 e, u64 f)
{
	const struct __kernel_timespec *t = (const void *)user_new;
	struct alarm *a = posix_timer(id);
	u64 interval, value, now;
	long error;

	if (!a)
		return -EINVAL;
	if (user_check(t, 32, false))
		return -EFAULT;
	error = time_to_ns(t, &interval) ?: time_to_ns(t + 1, &value);
	if (!error && user_old)
		error = sys_timer_gettime(id, user_old, 0, 0, e, f);
	if (error)
		return error;
	if (value && flags & TIMER_ABSTIME) {
		read_clock((u32)a->clock, &now);
		value = value > now ? value - now : 1;
	}
	set(a, value ? clock_monotonic() + value : 0, interval);
	return 0;
}

long sys_timer_getoverrun(u64 id, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct alarm *a = posix_timer(id);

	return a ? (long)a->overrun : -EINVAL;
}

long sys_timer_delete(u64 id, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	struct alarm *a = posix_timer(id);

	if (!a)
		return -EINVAL;
	timer_stop(&a->timer);
	posix_timers[id] = NULL;
	kfree(a);
	return 0;
}
