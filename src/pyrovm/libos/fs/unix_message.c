/* Messages between AF_UNIX sockets, and the descriptors that go with them. */
#include "unix.h"

#define STREAM_PIECE 16384UL /* bytes of a stream in one packet */
#define CONTROL_MAX 65536

struct control_header { /* struct cmsghdr */
	u64 length; /* with the header */
	int level, type;
};
#define SOL_SOCKET_LEVEL 1
#define SCM_RIGHTS_TYPE 1
#define SCM_CREDENTIALS_TYPE 2

void unix_packet_destroy(struct unix_packet *p)
{
	for (u32 i = 0; i < p->right_count; i++)
		file_put(p->rights[i]);
	kfree(p->rights);
	kfree(p);
}

/* ------------------------------------------------------------------------------------ sending */

static long take_rights(struct unix_packet *p, const u8 *fds, u64 count)
{
	struct file **rights;

	if (count > UNIX_RIGHTS_MAX - p->right_count)
		return -EINVAL;
	rights = krealloc(p->rights, p->right_count * sizeof(*rights),
			  MAX(p->right_count + count, 1UL) * sizeof(*rights));
	if (!rights)
		return -ENOMEM;
	p->rights = rights;
	for (u64 i = 0; i < count; i++) {
		struct file *f;
		int fd;

		memcpy(&fd, fds + i * sizeof(fd), sizeof(fd));
		f = fd_get(fd);
		if (!f)
			return -EBADF;
		file_get(f);
		p->rights[p->right_count++] = f;
	}
	return 0;
}

static long take_control(struct unix_packet *p, const struct message *m)
{
	const u8 *control = m->control;
	u64 at = 0;

	if (m->control_length > CONTROL_MAX)
		return -ENOBUFS;
	if (user_check(control, m->control_length, false))
		return -EFAULT;
	while (at + sizeof(struct control_header) <= m->control_length) {
		struct control_header h;
		long error = 0;

		memcpy(&h, control + at, sizeof(h));
		if (h.length < sizeof(h) || h.length > m->control_length - at)
			return -EINVAL;
		if (h.level == SOL_SOCKET_LEVEL && h.type == SCM_RIGHTS_TYPE)
			error = take_rights(p, control + at + sizeof(h),
					    (h.length - sizeof(h)) / sizeof(int));
		else if (h.level == SOL_SOCKET_LEVEL && h.type != SCM_CREDENTIALS_TYPE)
			error = -EINVAL;
		if (error)
			return error;
		at += ALIGN_UP(h.length, 8);
	}
	return 0;
}

/* To whom: by the address of a datagram, or the peer. */
static long target_of(struct unix_socket *s, const struct message *m, struct unix_socket **target)
{
	long error;

	if (s->socket.type != SOCK_DGRAM) {
		if (m->address_length)
			return s->is_connected ? -EISCONN : -EOPNOTSUPP;
		if (!s->is_connected)
			return -ENOTCONN;
		if (!s->peer || s->no_more_out || s->peer->no_more_in)
			return -EPIPE;
		*target = s->peer;
		return 0;
	}
	if (s->no_more_out)
		return -EPIPE;
	if (m->address_length) {
		error = unix_find(m->address, m->address_length, target);
		if (error)
			return error;
		return (*target)->socket.type == SOCK_DGRAM ? 0 : -EPROTOTYPE;
	}
	if (!s->is_connected)
		return -ENOTCONN;
	*target = s->peer;
	return s->peer ? 0 : -ECONNREFUSED;
}

long unix_send(struct file *f, struct message *m)
{
	struct unix_socket *s = unix_of(f), *target;
	bool is_stream = s->socket.type == SOCK_STREAM;
	struct unix_packet *p;
	size_t n = m->io.length;
	long error;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	error = target_of(s, m, &target);
	if (error)
		return error;
	if (!is_stream && n > UNIX_QUEUE_MAX)
		return -EMSGSIZE;
	if (is_stream && !n)
		return 0;
	if (unix_is_full(target)) /* poll() cannot tell when a socket by address has room */
		return s->peer == target ? -EAGAIN : -ENOBUFS;
	if (is_stream)
		n = MIN(n, STREAM_PIECE);
	p = kalloc(sizeof(*p) + n);
	if (!p)
		return -ENOBUFS;
	error = take_control(p, m);
	if (error) {
		unix_packet_destroy(p);
		return error;
	}
	m->control_length = 0; /* descriptors go with the first bytes */
	p->length = io_get(&m->io, p->bytes, n);
	p->address_length = s->address_length;
	memcpy(p->address, s->address, s->address_length);
	list_add(&target->packets, &p->link);
	target->queued += p->length;
	target->packet_count++;
	waitq_wake(&target->waiters, ~0u);
	return (long)n;
}

long unix_write(struct file *f, struct io *io, u64 *position)
{
	struct message m = { .io = *io };
	long n = unix_send(f, &m);

	(void)position;
	*io = m.io;
	if (n == -EPIPE && unix_of(f)->socket.type == SOCK_STREAM)
		signal_send(current(), SIGPIPE, SI_USER, 0, PROCESS_ID);
	return n;
}

/* ---------------------------------------------------------------------------------- receiving */

/* Give the descriptors to the program, as many as there is room for. */
static void give_rights(struct unix_packet *p, struct message *m, u64 room, bool peek)
{
	struct control_header h = { 0, SOL_SOCKET_LEVEL, SCM_RIGHTS_TYPE };
	u64 fits = room >= sizeof(h) ? MIN((room - sizeof(h)) / sizeof(int), p->right_count) : 0, given = 0;

	if (fits && !user_check(m->control, sizeof(h) + fits * sizeof(int), true)) {
		u8 *fds = (u8 *)m->control + sizeof(h);

		for (; given < fits; given++) {
			struct file *f = p->rights[given];
			long fd;

			file_get(f);
			fd = file_install(f, m->flags & MSG_CMSG_CLOEXEC);
			if (fd < 0)
				break;
			memcpy(fds + given * sizeof(int), &(int){ (int)fd }, sizeof(int));
		}
	}
	if (given) {
		h.length = sizeof(h) + given * sizeof(int);
		memcpy(m->control, &h, sizeof(h));
		m->control_length = MIN(ALIGN_UP(h.length, 8), room);
	}
	if (given < p->right_count)
		m->flags |= MSG_CTRUNC;
	if (peek)
		return;
	while (p->right_count > 0)
		file_put(p->rights[--p->right_count]);
}

static void drop(struct unix_socket *s, struct unix_packet *p)
{
	list_remove(&p->link);
	s->packet_count--;
	unix_packet_destroy(p);
}

static long receive_stream(struct unix_socket *s, struct message *m, u64 room, bool peek)
{
	struct unix_packet *p, *after;
	long done = 0;

	list_each_safe(p, after, &s->packets, link) {
		size_t n;

		/* Descriptors begin a new message, and end one. */
		if (done && p->right_count)
			break;
		if (p->right_count) {
			give_rights(p, m, room, peek);
			after = p; /* stop behind this one */
		}
		n = io_put(&m->io, p->bytes + p->start, p->length - p->start);
		done += (long)n;
		if (peek && m->io.length && after != p)
			continue;
		if (!peek) {
			bool is_last = after == p;

			p->start += n;
			s->queued -= n;
			if (p->start == p->length)
				drop(s, p);
			if (is_last)
				break;
		}
		if (!m->io.length || peek)
			break;
	}
	return done;
}

static long receive_packet(struct unix_socket *s, struct message *m, u64 room, bool peek)
{
	struct unix_packet *p = list_first(&s->packets, struct unix_packet, link);
	bool wants_length = m->flags & MSG_TRUNC;
	size_t n;

	m->flags &= ~(u32)MSG_TRUNC;
	n = io_put(&m->io, p->bytes, p->length);
	if (n < p->length)
		m->flags |= MSG_TRUNC;
	memcpy(m->address, p->address, p->address_length);
	m->address_length = p->address_length;
	if (p->right_count)
		give_rights(p, m, room, peek);
	n = wants_length ? p->length : n;
	if (!peek) {
		s->queued -= p->length;
		drop(s, p);
	}
	return (long)n;
}

long unix_receive(struct file *f, struct message *m)
{
	struct unix_socket *s = unix_of(f);
	u64 room = m->control_length;
	bool is_stream = s->socket.type == SOCK_STREAM, peek = m->flags & MSG_PEEK;
	long n;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (s->is_listening)
		return -EINVAL;
	m->control_length = m->address_length = 0;
	if (list_empty(&s->packets)) {
		m->control_length = room; /* as it was, for the next attempt */
		if (s->is_reset) {
			s->is_reset = false;
			return -ECONNRESET;
		}
		if (s->no_more_in || (s->socket.type != SOCK_DGRAM && s->is_connected &&
				      (!s->peer || s->peer->no_more_out))) {
			m->control_length = 0;
			m->flags = 0;
			return 0;
		}
		return s->socket.type != SOCK_DGRAM && !s->is_connected ? -EINVAL : -EAGAIN;
	}
	if (is_stream && !m->io.length)
		return 0;
	m->flags &= MSG_TRUNC | MSG_CMSG_CLOEXEC;
	n = is_stream ? receive_stream(s, m, room, peek) : receive_packet(s, m, room, peek);
	m->flags &= MSG_TRUNC | MSG_CTRUNC | MSG_CMSG_CLOEXEC;
	if (is_stream)
		m->flags &= ~(u32)MSG_TRUNC;
	if (!peek)
		unix_wake_senders(s);
	return n;
}

long unix_read(struct file *f, struct io *io, u64 *position)
{
	struct message m = { .io = *io };
	long n = unix_receive(f, &m);

	(void)position;
	*io = m.io;
	return n;
}
