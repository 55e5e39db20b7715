/* eventfd: a counter to wait for. */
#include "calls.h"
#include "fs.h"

#define EFD_SEMAPHORE 1
#define COUNTER_MAX 0xfffffffffffffffeULL

struct event_counter {
	u64 value;
	bool is_semaphore;
	struct waitq waiters;
};

static long eventfd_read(struct file *f, struct io *io, u64 *position)
{
	struct event_counter *e = f->data;
	u64 value = e->is_semaphore ? 1 : e->value;

	(void)position;
	if (io->length < sizeof(value))
		return -EINVAL;
	if (!e->value)
		return -EAGAIN;
	e->value -= value;
	io_put(io, &value, sizeof(value));
	waitq_wake(&e->waiters, ~0u);
	return sizeof(value);
}

static long eventfd_write(struct file *f, struct io *io, u64 *position)
{
	struct event_counter *e = f->data;
	struct io start = *io;
	u64 value;

	(void)position;
	if (io->length < sizeof(value))
		return -EINVAL;
	if (start.pieces->iov_len < sizeof(value))
		return -EINVAL; /* in pieces: nobody does */
	memcpy(&value, start.pieces->iov_base, sizeof(value));
	if (value > COUNTER_MAX)
		return -EINVAL;
	if (value > COUNTER_MAX - e->value)
		return -EAGAIN;
	e->value += value;
	io_advance(io, io->length); /* what is longer than the number is not looked at */
	if (value)
		waitq_wake(&e->waiters, ~0u);
	return sizeof(value);
}

static u32 eventfd_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct event_counter *e = f->data;

	poll_add(&e->waiters, w);
	return ((e->value ? POLLIN | POLLRDNORM : 0) |
		(e->value < COUNTER_MAX ? POLLOUT | POLLWRNORM : 0)) & wanted;
}

static void eventfd_release(struct file *f)
{
	kfree(f->data);
}

static const struct file_ops eventfd_ops = {
	.kind = "eventfd",
	.read = eventfd_read,
	.write = eventfd_write,
	.poll = eventfd_poll,
	.release = eventfd_release,
};

static long make(u32 value, u32 flags)
{
	struct event_counter *e;
	struct file *f;

	if (flags & ~(u32)(O_CLOEXEC | O_NONBLOCK | EFD_SEMAPHORE))
		return -EINVAL;
	e = kalloc(sizeof(*e));
	f = e ? file_anonymous(&eventfd_ops, O_RDWR | (flags & O_NONBLOCK), e) : NULL;
	if (!f) {
		kfree(e);
		return -ENOMEM;
	}
	e->value = value;
	e->is_semaphore = flags & EFD_SEMAPHORE;
	waitq_init(&e->waiters);
	return file_install(f, flags & O_CLOEXEC);
}

CALL1(eventfd, value)
{
	return make((u32)value, 0);
}

CALL2(eventfd2, value, flags)
{
	return make((u32)value, (u32)flags);
}
