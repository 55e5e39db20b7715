/* POSIX message queues: what a queue is, its names, its open files, and mq_notify(2). */
#include "../calls.h"
#include "../netlink.h"
#include "mqueue.h"

static struct list queues = LIST_INIT(queues); /* those that have a name */
static u64 reserved; /* bytes of all queues */

static const struct file_ops queue_ops;

struct message_queue *queue_of(const struct file *f)
{
	return f->ops == &queue_ops ? f->inode->data : NULL;
}

/* -------------------------------------------------------------------------------------- names */

static struct message_queue *find(const char *name)
{
	struct message_queue *q;

	list_each(q, &queues, all)
		if (!strcmp(q->name, name))
			return q;
	return NULL;
}

static void queue_destroy(struct inode *i)
{
	struct message_queue *q = i->data;
	struct queued_message *m, *after;

	list_each_safe(m, after, &q->messages, link)
		kfree(m);
	reserved -= q->reserved;
	kfree(q);
}

static const struct inode_ops queue_inode_ops = { .destroy = queue_destroy };

/* What Linux counts against RLIMIT_MSGQUEUE: 48 bytes for each message and each priority. */
static long reserve(const struct mq_attr *a, u64 *n)
{
	*n = (u64)a->mq_maxmsg * 48 + MIN((u64)a->mq_maxmsg, PRIORITIES) * 48 +
	     (u64)a->mq_maxmsg * (u64)a->mq_msgsize;
	if (*n + reserved > limits[RLIMIT_MSGQUEUE].rlim_cur)
		return -EMFILE;
	reserved += *n;
	return 0;
}

static long create(const char *name, u32 mode, const struct mq_attr *a, struct message_queue **made)
{
	static const struct mq_attr usual = { .mq_maxmsg = 10, .mq_msgsize = 8192 };
	struct message_queue *q;
	u64 bytes;
	long error;

	a = a ? a : &usual;
	if (a->mq_maxmsg <= 0 || a->mq_msgsize <= 0 || a->mq_maxmsg > MESSAGES_MAX ||
	    a->mq_msgsize > MESSAGE_BYTES_MAX)
		return -EINVAL;
	error = reserve(a, &bytes);
	if (error)
		return error;
	q = kalloc(sizeof(*q));
	if (q)
		q->inode = inode_create(&queue_inode_ops, S_IFREG | (mode & 0777 & ~umask_bits), DEVICE_ANON);
	if (!q || !q->inode) {
		kfree(q);
		reserved -= bytes;
		return -ENOMEM;
	}
	q->inode->data = q;
	q->inode->size = 80; /* the text's that read(2) gives */
	format(q->name, sizeof(q->name), "%s", name);
	q->messages_max = a->mq_maxmsg;
	q->bytes_max = a->mq_msgsize;
	q->reserved = bytes;
	q->notify = -1;
	list_init(&q->messages);
	waitq_init(&q->senders);
	waitq_init(&q->receivers);
	waitq_init(&q->pollers);
	list_add(&queues, &q->all);
	*made = q;
	return 0;
}

long queue_open(const char *name, u32 flags, u32 mode, const struct mq_attr *a, struct file **f)
{
	struct message_queue *q = find(name);
	long error;

	if (q && (flags & (O_CREAT | O_EXCL)) == (O_CREAT | O_EXCL))
		return -EEXIST;
	if (q && (flags & O_ACCMODE) == O_ACCMODE)
		return -EINVAL;
	if (!q && !(flags & O_CREAT))
		return -ENOENT;
	error = q ? 0 : create(name, mode, a, &q);
	if (error)
		return error;
	*f = file_create(&queue_ops, flags & (O_ACCMODE | O_NONBLOCK), NULL);
	if (!*f)
		return -ENOMEM;
	inode_get(q->inode);
	(*f)->inode = q->inode;
	(*f)->path = kalloc(NAME_MAX_LENGTH + 2);
	if ((*f)->path)
		format((*f)->path, NAME_MAX_LENGTH + 2, "/%s", q->name);
	return 0;
}

long queue_unlink(const char *name)
{
	struct message_queue *q = find(name);

	if (!q)
		return -ENOENT;
	list_remove(&q->all);
	inode_put(q->inode);
	return 0;
}

/* ------------------------------------------------------------------------------- notification */

static void tell(struct message_queue *q, u8 why)
{
	if (q->notify_socket) {
		q->cookie[NOTIFY_COOKIE_LEN - 1] = why;
		netlink_deliver(q->notify_socket, q->cookie, sizeof(q->cookie)); /* full: as Linux, not told */
		file_put(q->notify_socket);
		q->notify_socket = NULL;
	} else if (q->notify == SIGEV_SIGNAL && why == NOTIFY_WOKENUP) {
		signal_send(NULL, q->signal, SI_MESGQ, q->value, PROCESS_ID);
	}
	q->notify = -1;
}

void queue_notify(struct message_queue *q)
{
	if (q->notify >= 0 && !q->receiving)
		tell(q, NOTIFY_WOKENUP);
}

long queue_set_notification(struct message_queue *q, const sigevent_t *event)
{
	struct file *socket = NULL;
	const u8 *cookie;

	if (!event) {
		if (q->notify >= 0)
			tell(q, NOTIFY_REMOVED);
		return 0;
	}
	if (event->sigev_notify != SIGEV_NONE && event->sigev_notify != SIGEV_SIGNAL &&
	    event->sigev_notify != SIGEV_THREAD)
		return -EINVAL;
	if (event->sigev_notify == SIGEV_SIGNAL && (u32)event->sigev_signo > 64)
		return -EINVAL;
	if (event->sigev_notify == SIGEV_THREAD) {
		socket = fd_get(event->sigev_signo);
		if (!socket)
			return -EBADF;
		if (!is_netlink(socket))
			return -EINVAL;
		cookie = event->sigev_value.sival_ptr;
		if (user_check(cookie, NOTIFY_COOKIE_LEN, false))
			return -EFAULT;
	}
	if (q->notify >= 0)
		return -EBUSY;
	if (socket) {
		memcpy(q->cookie, cookie, NOTIFY_COOKIE_LEN);
		file_get(socket);
		q->notify_socket = socket;
	}
	q->notify = event->sigev_notify;
	q->signal = event->sigev_signo;
	q->value = (u64)event->sigev_value.sival_ptr;
	return 0;
}

/* --------------------------------------------------------------------------------- open files */

static long queue_read(struct file *f, struct io *io, u64 *position)
{
	const struct message_queue *q = queue_of(f);
	char text[100];
	const struct queued_message *m;
	u64 bytes = 0;
	size_t n;

	list_each(m, &q->messages, link)
		bytes += m->length;
	/* mq_overview(7): bytes of all messages, and who is to be notified how */
	n = format(text, sizeof(text), "QSIZE:%-10lu NOTIFY:%-5d SIGNO:%-5d NOTIFY_PID:%-6d\n", bytes,
		   q->notify < 0 ? 0 : q->notify, q->notify == SIGEV_SIGNAL ? q->signal : 0,
		   q->notify < 0 ? 0 : PROCESS_ID);
	if (*position >= n)
		return 0;
	n = io_put(io, text + *position, n - *position);
	*position += n;
	return (long)n;
}

static u32 queue_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct message_queue *q = queue_of(f);

	poll_add(&q->pollers, w);
	return ((q->count ? POLLIN | POLLRDNORM : 0) |
		(q->count < q->messages_max ? POLLOUT | POLLWRNORM : 0)) & wanted;
}

static void queue_release(struct file *f)
{
	struct message_queue *q = queue_of(f);

	if (q->notify >= 0)
		tell(q, NOTIFY_REMOVED);
}

static const struct file_ops queue_ops = {
	.kind = "mqueue",
	.read = queue_read,
	.seek = file_seek,
	.poll = queue_poll,
	.release = queue_release,
	.has_position = true,
};
