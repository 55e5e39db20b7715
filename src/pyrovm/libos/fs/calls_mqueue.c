/* The system calls about POSIX message queues. */
#include "calls.h"
#include "mqueue.h"

/* A name as libc passes it on: without the slash at its beginning. */
static long take_name(u64 address, char name[NAME_MAX_LENGTH + 1])
{
	long n = user_string((char *)address, PATH_MAX_LENGTH);

	if (n < 0)
		return n;
	if (n > NAME_MAX_LENGTH)
		return -ENAMETOOLONG;
	memcpy(name, (char *)address, (size_t)n);
	name[n] = 0;
	if (!n)
		return -ENOENT;
	return strchr(name, '/') || !strcmp(name, ".") || !strcmp(name, "..") ? -EACCES : 0;
}

CALL4(mq_open, name_address, flags, mode, attributes)
{
	const struct mq_attr *given = (void *)attributes;
	char name[NAME_MAX_LENGTH + 1];
	struct mq_attr a;
	struct file *f;
	long error;

	if (given && user_check(given, sizeof(a), false))
		return -EFAULT;
	if (given)
		a = *given;
	error = take_name(name_address, name);
	if (!error)
		error = queue_open(name, (u32)flags, (u32)mode, given ? &a : NULL, &f);
	return error ? error : file_install(f, true);
}

CALL1(mq_unlink, name_address)
{
	char name[NAME_MAX_LENGTH + 1];
	long error = take_name(name_address, name);

	return error ? error : queue_unlink(name);
}

/* Until when to wait: FOREVER, or a time of CLOCK_REALTIME as one of the monotonic clock. */
static long take_deadline(u64 address, u64 *deadline)
{
	const struct __kernel_timespec *t = (void *)address;
	u64 until, now = clock_realtime();
	long error;

	*deadline = FOREVER;
	if (!t)
		return 0;
	if (user_check(t, sizeof(*t), false))
		return -EFAULT;
	error = time_to_ns(t, &until);
	*deadline = clock_monotonic() + (until > now ? until - now : 0);
	return error;
}

/* A queue that is open in the wanted way, with a reference to its file. */
static long take_queue(u64 fd, u32 not_mode, struct file **f)
{
	long error = fd_take_io((int)fd, f);

	if (error)
		return error;
	if (queue_of(*f) && ((*f)->flags & O_ACCMODE) != not_mode)
		return 0;
	file_put(*f);
	return -EBADF;
}

static long wait(struct file *f, struct waitq *q, u64 deadline)
{
	long error = f->flags & O_NONBLOCK ? -EAGAIN : sleep_on(q, deadline);

	return error == -EINTR ? -ERESTARTSYS : error;
}

static struct queued_message *make_message(u64 from, u64 n, u64 priority)
{
	struct queued_message *m = kalloc(sizeof(*m) + n);

	if (!m)
		return NULL;
	m->priority = (u32)priority;
	m->length = n;
	memcpy(m->bytes, (void *)from, n);
	return m;
}

static long put(struct file *f, struct queued_message *m, u64 deadline)
{
	struct message_queue *q = queue_of(f);
	struct queued_message *at;

	while (q->count >= q->messages_max) {
		long error = wait(f, &q->senders, deadline);

		if (error)
			return error;
	}
	list_each(at, &q->messages, link) /* behind all of its priority */
		if (at->priority < m->priority)
			break;
	list_add(&at->link, &m->link);
	if (!q->count++)
		queue_notify(q);
	waitq_wake(&q->receivers, ~0u);
	waitq_wake(&q->pollers, ~0u);
	return 0;
}

CALL5(mq_timedsend, fd, from, n, priority, timeout)
{
	struct queued_message *m;
	struct file *f;
	u64 deadline;
	long result;

	if (priority >= PRIORITIES)
		return -EINVAL;
	result = take_deadline(timeout, &deadline);
	if (!result)
		result = take_queue(fd, O_RDONLY, &f);
	if (result)
		return result;
	if ((s64)n < 0 || n > (u64)queue_of(f)->bytes_max) {
		result = -EMSGSIZE;
	} else {
		result = user_check((void *)from, n, false);
		m = result ? NULL : make_message(from, n, priority);
		if (!result)
			result = m ? put(f, m, deadline) : -ENOMEM;
		if (result)
			kfree(m);
	}
	file_put(f);
	return result;
}

static long get(struct file *f, u64 to, u32 *priority, u64 deadline)
{
	struct message_queue *q = queue_of(f);
	struct queued_message *m;
	long result = 0;

	while (!q->count && !result) {
		q->receiving++;
		result = wait(f, &q->receivers, deadline);
		q->receiving--;
	}
	if (result)
		return result;
	m = list_first(&q->messages, struct queued_message, link);
	if (user_check((void *)to, m->length, true) || (priority && user_check(priority, sizeof(*priority), true)))
		return -EFAULT;
	list_remove(&m->link);
	q->count--;
	memcpy((void *)to, m->bytes, m->length);
	if (priority)
		*priority = m->priority;
	result = (long)m->length;
	kfree(m);
	waitq_wake(&q->senders, ~0u);
	waitq_wake(&q->pollers, ~0u);
	return result;
}

CALL5(mq_timedreceive, fd, to, n, priority, timeout)
{
	struct file *f;
	u64 deadline;
	long result = take_deadline(timeout, &deadline);

	if (!result)
		result = take_queue(fd, O_WRONLY, &f);
	if (result)
		return result;
	if (n < (u64)queue_of(f)->bytes_max)
		result = -EMSGSIZE;
	else
		result = get(f, to, (u32 *)priority, deadline);
	file_put(f);
	return result;
}

CALL2(mq_notify, fd, event)
{
	struct file *f;
	long result;

	if (event && user_check((void *)event, sizeof(sigevent_t), false))
		return -EFAULT;
	result = take_queue(fd, O_ACCMODE, &f);
	if (result)
		return result;
	result = queue_set_notification(queue_of(f), (const sigevent_t *)event);
	file_put(f);
	return result;
}

CALL3(mq_getsetattr, fd, new_address, old_address)
{
	const struct mq_attr *new = (void *)new_address;
	struct mq_attr *old = (void *)old_address;
	const struct message_queue *q;
	u32 flags = 0;
	struct file *f;
	long result;

	if (new && user_check(new, sizeof(*new), false))
		return -EFAULT;
	if (new) {
		if (new->mq_flags & ~(long)O_NONBLOCK)
			return -EINVAL;
		flags = (u32)new->mq_flags;
	}
	result = take_queue(fd, O_ACCMODE, &f);
	if (result)
		return result;
	q = queue_of(f);
	if (old && user_check(old, sizeof(*old), true)) {
		result = -EFAULT;
	} else if (old) {
		*old = (struct mq_attr){ .mq_flags = f->flags & O_NONBLOCK, .mq_maxmsg = q->messages_max,
					 .mq_msgsize = q->bytes_max, .mq_curmsgs = q->count };
	}
	if (!result && new)
		f->flags = (f->flags & ~(u32)O_NONBLOCK) | flags;
	file_put(f);
	return result;
}
