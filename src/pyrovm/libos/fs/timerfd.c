/* timerfd: expirations of a timer to wait for. */
#include <linux/timerfd.h>

#include "calls.h"
#include "fs.h"
#include "../thread.h"

struct timer_file {
	struct timer timer;
	u64 next, interval; /* ns, monotonic; next 0: not started */
	u64 expirations;
	int clock;
	struct waitq waiters;
};

static u64 clock_now(int clock)
{
	return clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_ALARM ? clock_realtime() : clock_monotonic();
}

/* Count what has expired by now, and when the next one will. */
static void catch_up(struct timer_file *t)
{
	u64 now = clock_monotonic(), missed;

	if (!t->next || t->next > now)
		return;
	missed = t->interval ? (now - t->next) / t->interval + 1 : 1;
	t->expirations += missed;
	t->next = t->interval ? t->next + missed * t->interval : 0;
	if (t->next)
		timer_start(&t->timer, t->next);
}

static void expire(struct timer *timer)
{
	struct timer_file *t = container_of(timer, struct timer_file, timer);

	catch_up(t);
	waitq_wake(&t->waiters, ~0u);
}

static long timerfd_read(struct file *f, struct io *io, u64 *position)
{
	struct timer_file *t = f->data;
	u64 value;

	(void)position;
	if (io->length < sizeof(value))
		return -EINVAL;
	catch_up(t);
	value = t->expirations;
	if (!value)
		return -EAGAIN;
	t->expirations = 0;
	io_put(io, &value, sizeof(value));
	return sizeof(value);
}

static u32 timerfd_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct timer_file *t = f->data;

	poll_add(&t->waiters, w);
	catch_up(t);
	return t->expirations ? (POLLIN | POLLRDNORM) & wanted : 0;
}

static void timerfd_release(struct file *f)
{
	struct timer_file *t = f->data;

	timer_stop(&t->timer);
	kfree(t);
}

static const struct file_ops timerfd_ops = {
	.kind = "timerfd",
	.read = timerfd_read,
	.poll = timerfd_poll,
	.release = timerfd_release,
};

CALL2(timerfd_create, clock, flags)
{
	struct timer_file *t;
	struct file *f;

	if (flags & ~(u64)(TFD_CLOEXEC | TFD_NONBLOCK))
		return -EINVAL;
	if (clock != CLOCK_REALTIME && clock != CLOCK_MONOTONIC && clock != CLOCK_BOOTTIME &&
	    clock != CLOCK_REALTIME_ALARM && clock != CLOCK_BOOTTIME_ALARM)
		return -EINVAL;
	t = kalloc(sizeof(*t));
	f = t ? file_anonymous(&timerfd_ops, O_RDWR | ((u32)flags & O_NONBLOCK), t) : NULL;
	if (!f) {
		kfree(t);
		return -ENOMEM;
	}
	t->clock = (int)clock;
	t->timer.expire = expire;
	list_init(&t->timer.link);
	waitq_init(&t->waiters);
	return file_install(f, flags & TFD_CLOEXEC);
}

static long get(int fd, struct timer_file **t)
{
	struct file *f = fd_get(fd);

	if (!f || f->flags & O_PATH)
		return -EBADF;
	if (f->ops != &timerfd_ops)
		return -EINVAL;
	*t = f->data;
	return 0;
}

static struct __kernel_timespec to_timespec(u64 ns)
{
	return (struct __kernel_timespec){ (s64)(ns / NSEC_PER_SEC), (s64)(ns % NSEC_PER_SEC) };
}

static struct __kernel_itimerspec describe(struct timer_file *t)
{
	u64 now = clock_monotonic();

	catch_up(t);
	return (struct __kernel_itimerspec){
		.it_interval = to_timespec(t->interval),
		.it_value = to_timespec(t->next > now ? t->next - now : 0),
	};
}

static long ns_of(const struct __kernel_timespec *t, u64 *ns)
{
	if (t->tv_sec < 0 || t->tv_nsec < 0 || t->tv_nsec >= NS_PER_S)
		return -EINVAL;
	*ns = t->tv_sec >= 1LL << 33 ? (1ULL << 33) * NSEC_PER_SEC :
				       (u64)t->tv_sec * NSEC_PER_SEC + (u64)t->tv_nsec;
	return 0;
}

CALL4(timerfd_settime, fd, flags, new_address, old_address)
{
	const struct __kernel_itimerspec *new = (void *)new_address;
	struct __kernel_itimerspec *old = (void *)old_address, before;
	struct timer_file *t;
	u64 value, interval, now;
	long error;

	if (user_check(new, sizeof(*new), false))
		return -EFAULT;
	if (flags & ~(u64)(TFD_TIMER_ABSTIME | TFD_TIMER_CANCEL_ON_SET) ||
	    ns_of(&new->it_value, &value) || ns_of(&new->it_interval, &interval))
		return -EINVAL;
	error = get((int)fd, &t);
	if (error)
		return error;
	if (old && user_check(old, sizeof(*old), true))
		return -EFAULT;
	before = describe(t);
	now = clock_monotonic();
	timer_stop(&t->timer);
	t->expirations = 0;
	t->interval = interval;
	t->next = 0;
	if (value) {
		u64 zero = clock_now(t->clock);

		/* An absolute time of any clock becomes one of the monotonic clock; the past is now. */
		if (flags & TFD_TIMER_ABSTIME)
			value = value > zero ? value - zero : 0;
		t->next = now + value;
		timer_start(&t->timer, t->next);
		if (thread_count > 1)
			tick_update(); /* for who waits, if we do not */
	}
	if (old)
		*old = before;
	return 0;
}

CALL2(timerfd_gettime, fd, to)
{
	struct timer_file *t;
	long error = get((int)fd, &t);

	if (error)
		return error;
	if (user_check((void *)to, sizeof(struct __kernel_itimerspec), true))
		return -EFAULT;
	*(struct __kernel_itimerspec *)to = describe(t);
	return 0;
}
