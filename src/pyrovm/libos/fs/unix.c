/* AF_UNIX: sockets within the guest, by socketpair() or by a name in the tree. */
#include <asm/ioctls.h>

#include "unix.h"
#include "calls.h"

bool unix_is_full(const struct unix_socket *s)
{
	return s->queued >= UNIX_QUEUE_MAX || s->packet_count >= UNIX_PACKETS_MAX;
}

void unix_wake_senders(struct unix_socket *s)
{
	struct unix_socket *other;

	if (s->socket.type != SOCK_DGRAM) { /* each is the other's peer */
		if (s->peer)
			waitq_wake(&s->peer->waiters, ~0u);
		return;
	}
	list_each(other, &unix_sockets, all)
		if (other->peer == s)
			waitq_wake(&other->waiters, ~0u);
}

static void lose_peer(struct unix_socket *s, bool unread)
{
	s->peer = NULL;
	s->is_reset |= unread;
	waitq_wake(&s->waiters, ~0u);
}

/* --------------------------------------------------------------------------------- life */

static const struct file_ops unix_ops;
static const struct inode_ops unix_inode_ops = { 0 };

static struct unix_socket *unix_socket_create(int type)
{
	struct unix_socket *s = kalloc(sizeof(*s));

	if (!s)
		return NULL;
	socket_init(&s->socket, AF_UNIX, type, 0);
	list_init(&s->packets);
	list_init(&s->pending);
	waitq_init(&s->waiters);
	list_add(&unix_sockets, &s->all);
	return s;
}

static void unix_socket_destroy(struct unix_socket *s)
{
	struct unix_socket *other, *after;
	struct unix_packet *p, *next;

	list_remove(&s->all);
	list_each_safe(other, after, &s->pending, pending) {
		list_remove(&other->pending);
		unix_socket_destroy(other);
	}
	if (s->socket.type != SOCK_DGRAM) {
		if (s->peer)
			lose_peer(s->peer, !list_empty(&s->packets));
	} else {
		list_each(other, &unix_sockets, all)
			if (other->peer == s)
				lose_peer(other, false);
	}
	list_each_safe(p, next, &s->packets, link) {
		list_remove(&p->link);
		unix_packet_destroy(p);
	}
	if (s->bound)
		inode_put(s->bound);
	kfree(s);
}

static void unix_release(struct file *f)
{
	unix_socket_destroy(unix_of(f));
}

static struct file *make_file(struct unix_socket *s, u32 flags)
{
	struct file *f = file_create(&unix_ops, O_RDWR | flags, s);

	if (!f)
		return NULL;
	f->inode = inode_create(&unix_inode_ops, S_IFSOCK | 0777, DEVICE_PIPE);
	if (f->inode)
		return f;
	kfree(f);
	return NULL;
}

long unix_create(int type, int protocol, u32 flags, struct file **f)
{
	struct unix_socket *s;

	if (protocol && protocol != AF_UNIX)
		return -EPROTONOSUPPORT;
	if (type != SOCK_STREAM && type != SOCK_DGRAM && type != SOCK_SEQPACKET)
		return -ESOCKTNOSUPPORT;
	s = unix_socket_create(type);
	*f = s ? make_file(s, flags) : NULL;
	if (!*f && s)
		unix_socket_destroy(s);
	return *f ? 0 : -ENOMEM;
}

static void join(struct unix_socket *a, struct unix_socket *b)
{
	a->peer = b;
	b->peer = a;
	a->is_connected = b->is_connected = true;
}

CALL4(socketpair, family, type_and_flags, protocol, to)
{
	u32 flags = (u32)type_and_flags & (SOCK_NONBLOCK | SOCK_CLOEXEC);
	int type = (int)type_and_flags & 0xf;
	struct file *a, *b;
	long error;

	if ((u32)type_and_flags & ~(u32)(SOCK_NONBLOCK | SOCK_CLOEXEC | 0xf))
		return -EINVAL;
	if ((int)family != AF_UNIX)
		return (int)family == AF_INET || (int)family == AF_INET6 ? -EOPNOTSUPP : -EAFNOSUPPORT;
	error = unix_create(type, (int)protocol, flags & SOCK_NONBLOCK, &a);
	if (error)
		return error;
	error = unix_create(type, (int)protocol, flags & SOCK_NONBLOCK, &b);
	if (error) {
		file_put(a);
		return error;
	}
	join(unix_of(a), unix_of(b));
	return fd_install_pair(a, b, flags & SOCK_CLOEXEC, (int *)to);
}

/* -------------------------------------------------------------------------- connections */

static long unix_listen(struct file *f, int backlog)
{
	struct unix_socket *s = unix_of(f);

	if (s->socket.type == SOCK_DGRAM)
		return -EOPNOTSUPP;
	if (!s->address_length || s->is_connected)
		return -EINVAL;
	s->is_listening = true;
	s->backlog = backlog < 0 ? 4096 : (u32)MIN(backlog, 4096);
	waitq_wake(&s->waiters, ~0u);
	return 0;
}

static long connect_datagram(struct unix_socket *s, const u8 *address, u32 length)
{
	__kernel_sa_family_t family = AF_UNSPEC;
	struct unix_socket *target;
	long error;

	memcpy(&family, address, MIN(sizeof(family), length));
	if (family == AF_UNSPEC) { /* not connected any more */
		s->peer = NULL;
		s->is_connected = false;
		return 0;
	}
	error = unix_find(address, length, &target);
	if (error)
		return error;
	if (target->socket.type != SOCK_DGRAM)
		return -EPROTOTYPE;
	s->peer = target;
	s->is_connected = true;
	return 0;
}

static long unix_connect(struct file *f, const u8 *address, u32 length)
{
	struct unix_socket *s = unix_of(f), *target, *other;
	long error;

	if (s->socket.type == SOCK_DGRAM)
		return connect_datagram(s, address, length);
	if (s->is_connected)
		return -EISCONN;
	if (s->is_listening)
		return -EINVAL;
	error = unix_find(address, length, &target);
	if (error)
		return error;
	if (target->socket.type != s->socket.type)
		return -EPROTOTYPE;
	if (!target->is_listening || target->no_more_in)
		return -ECONNREFUSED;
	if (target->pending_count > target->backlog)
		return f->flags & O_NONBLOCK ? -EAGAIN : -ECONNREFUSED; /* nobody would tell when there is room */
	other = unix_socket_create(s->socket.type);
	if (!other)
		return -ENOMEM;
	memcpy(other->address, target->address, target->address_length);
	other->address_length = target->address_length;
	if (target->bound) {
		inode_get(target->bound);
		other->bound = target->bound;
	}
	join(s, other);
	list_add(&target->pending, &other->pending);
	target->pending_count++;
	waitq_wake(&target->waiters, ~0u);
	waitq_wake(&s->waiters, ~0u);
	return 0;
}

static long unix_accept(struct file *f, struct file **made, u8 *address, u32 *length)
{
	struct unix_socket *s = unix_of(f), *other;

	if (!s->is_listening)
		return s->socket.type == SOCK_DGRAM ? -EOPNOTSUPP : -EINVAL;
	if (list_empty(&s->pending))
		return s->no_more_in ? -EINVAL : -EAGAIN;
	other = list_first(&s->pending, struct unix_socket, pending);
	*made = make_file(other, 0);
	if (!*made)
		return -ENOMEM;
	list_remove(&other->pending);
	s->pending_count--;
	if (unix_name(*made, true, address, length)) { /* it has gone already, and still can be read */
		u16 family = AF_UNIX;

		memcpy(address, &family, sizeof(family));
		*length = sizeof(family);
	}
	return 0;
}

static long unix_shutdown(struct file *f, int how)
{
	struct unix_socket *s = unix_of(f);

	if (!s->is_connected && !s->is_listening)
		return -ENOTCONN;
	s->no_more_in |= how != 1; /* SHUT_WR */
	s->no_more_out |= how != 0; /* SHUT_RD */
	waitq_wake(&s->waiters, ~0u);
	unix_wake_senders(s);
	return 0;
}

/* ------------------------------------------------------------------------- the rest of a file */

static u32 stream_events(const struct unix_socket *s)
{
	u32 events = 0;

	if (s->is_listening)
		return list_empty(&s->pending) ? 0 : POLLIN | POLLRDNORM;
	if (!s->is_connected)
		return POLLOUT | POLLWRNORM | POLLHUP;
	if (!s->peer || s->peer->no_more_out || s->no_more_in)
		events |= POLLIN | POLLRDNORM | POLLRDHUP;
	if (!s->peer || (s->no_more_in && s->no_more_out) || (s->peer->no_more_in && s->peer->no_more_out))
		events |= POLLHUP;
	if (s->is_reset)
		events |= POLLERR;
	if (!list_empty(&s->packets))
		events |= POLLIN | POLLRDNORM;
	if (!s->peer || !unix_is_full(s->peer))
		events |= POLLOUT | POLLWRNORM;
	return events;
}

static u32 unix_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct unix_socket *s = unix_of(f);
	u32 events;

	poll_add(&s->waiters, w);
	if (s->socket.type != SOCK_DGRAM) {
		events = stream_events(s);
	} else {
		events = list_empty(&s->packets) && !s->no_more_in ? 0 : POLLIN | POLLRDNORM;
		events |= s->peer && unix_is_full(s->peer) ? 0 : POLLOUT | POLLWRNORM;
	}
	return events & (wanted | POLLERR | POLLHUP);
}

static long unix_ioctl(struct file *f, unsigned request, u64 argument)
{
	const struct unix_socket *s = unix_of(f);

	if (request != FIONREAD)
		return interface_ioctl(request, argument); /* if_nametoindex(3) asks one of these */
	if (user_check((void *)argument, sizeof(int), true))
		return -EFAULT;
	if (s->socket.type == SOCK_STREAM || list_empty(&s->packets))
		*(int *)argument = (int)s->queued;
	else
		*(int *)argument = (int)list_first(&s->packets, struct unix_packet, link)->length;
	return 0;
}

static const struct socket_ops unix_socket_ops = {
	.bind = unix_bind,
	.listen = unix_listen,
	.accept = unix_accept,
	.connect = unix_connect,
	.send = unix_send,
	.receive = unix_receive,
	.shutdown = unix_shutdown,
	.name = unix_name,
	.setopt = unix_setopt,
	.getopt = unix_getopt,
};

static const struct file_ops unix_ops = {
	.kind = "socket",
	.read = unix_read,
	.write = unix_write,
	.poll = unix_poll,
	.ioctl = unix_ioctl,
	.release = unix_release,
	.socket = &unix_socket_ops,
};
