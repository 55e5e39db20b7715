/* Sending and receiving: send(2), recv(2) and their relatives. */
#include "fs/calls.h"
#include "fs/fs.h"
#include "socket.h"

#define DATAGRAM_MAX 65535
#define PIECES_FAST 8 /* that need no memory */

/* ------------------------------------------------------------------------------------ one message */

static long send_one(struct file *f, struct message *m)
{
	u64 deadline = socket_deadline(socket_of(f)->send_timeout);
	bool is_stream = socket_of(f)->type == SOCK_STREAM;
	size_t whole = m->io.length;
	long done = 0, n;

	if (!is_stream && socket_of(f)->family != AF_UNIX && whole > DATAGRAM_MAX)
		return -EMSGSIZE;
	do {
		n = io_check(&m->io, false);
		if (!n && !is_stream && m->io.length < whole)
			n = -EFAULT;
		if (!n)
			n = f->ops->socket->send ? f->ops->socket->send(f, m) : -EOPNOTSUPP;
		if (n > 0)
			done += n;
		if (n == -EAGAIN)
			n = socket_wait(f, POLLOUT, m->flags, deadline);
		else if (n >= 0 && (!is_stream || !m->io.length))
			break;
	} while (n >= 0);
	if (n == -EPIPE && !done && !(m->flags & MSG_NOSIGNAL) && is_stream)
		signal_send(current(), SIGPIPE, SI_USER, 0, PROCESS_ID);
	return done ? done : n;
}

static long receive_one(struct file *f, struct message *m)
{
	u64 deadline = socket_deadline(socket_of(f)->receive_timeout);
	bool waits_for_all = socket_of(f)->type == SOCK_STREAM && m->flags & MSG_WAITALL &&
			     !(m->flags & (MSG_PEEK | MSG_OOB));
	u32 flags = m->flags & ~(u32)(MSG_WAITALL | MSG_WAITFORONE), out = 0;
	long done = 0, n;

	do {
		m->flags = flags;
		n = io_check(&m->io, true);
		if (!n)
			n = f->ops->socket->receive ? f->ops->socket->receive(f, m) : -EOPNOTSUPP;
		if (n >= 0)
			out = m->flags;
		if (n > 0)
			done += n;
		if (n == -EAGAIN)
			n = socket_wait(f, flags & MSG_OOB ? POLLPRI : POLLIN, flags, deadline);
		else if (n <= 0 || !waits_for_all || !m->io.length)
			break;
	} while (n >= 0);
	m->flags = out;
	return done ? done : n;
}

static long take_destination(struct message *m, u64 address, u64 length)
{
	m->address_length = 0;
	if (!address || !length)
		return 0;
	if ((int)length < 0 || (int)length > SOCKET_ADDRESS_MAX)
		return -EINVAL;
	if (user_check((void *)address, (u32)length, false))
		return -EFAULT;
	memcpy(m->address, (void *)address, (u32)length);
	m->address_length = (u32)length;
	return 0;
}

/* ------------------------------------------------------------------------------- one plain buffer */

long sys_sendto(u64 fd, u64 buffer, u64 n, u64 flags, u64 address, u64 length)
{
	struct iovec piece = { (void *)buffer, n };
	struct message m = { .flags = (u32)flags };
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	result = (s64)n < 0 ? -EINVAL : take_destination(&m, address, length);
	if (!result) {
		io_init(&m.io, &piece, 1);
		result = send_one(f, &m);
	}
	file_put(f);
	return result;
}

long sys_recvfrom(u64 fd, u64 buffer, u64 n, u64 flags, u64 address, u64 length_at)
{
	struct iovec piece = { (void *)buffer, n };
	struct message m = { .flags = (u32)flags };
	int *room = (int *)length_at;
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	if ((s64)n < 0) {
		result = -EINVAL;
	} else {
		io_init(&m.io, &piece, 1);
		result = receive_one(f, &m);
	}
	file_put(f);
	if (result >= 0 && address) {
		int left;
		long error;

		if (user_check(room, sizeof(*room), true))
			return -EFAULT;
		left = *room;
		error = socket_put_address(m.address, m.address_length, (void *)address, &left);
		if (!error && user_check(room, sizeof(*room), true))
			error = -EFAULT;
		if (error)
			return error;
		*room = left;
	}
	return result;
}

/* ----------------------------------------------------------------------------- struct msghdr */

struct vector {
	struct iovec fast[PIECES_FAST], *pieces;
};

static void vector_deinit(struct vector *v)
{
	if (v->pieces != v->fast)
		kfree(v->pieces);
}

/* The program's pieces, into ours; vector_deinit() after success. */
static long vector_init(struct vector *v, const struct user_msghdr *h, struct io *io)
{
	u64 count = h->piece_count, total = 0;

	if (count > UIO_MAXIOV)
		return -EMSGSIZE;
	if (user_check(h->pieces, count * sizeof(*h->pieces), false))
		return -EFAULT;
	v->pieces = count <= PIECES_FAST ? v->fast : kalloc(count * sizeof(*v->pieces));
	if (!v->pieces)
		return -ENOMEM;
	memcpy(v->pieces, h->pieces, count * sizeof(*v->pieces));
	for (u64 i = 0; i < count; i++) {
		u64 length = v->pieces[i].iov_len;

		if ((s64)length < 0 || (s64)(total + length) < 0) {
			vector_deinit(v);
			return -EINVAL;
		}
		total += length;
	}
	io_init(io, v->pieces, (unsigned)count);
	return 0;
}

static long send_header(struct file *f, const struct user_msghdr *at, u32 flags)
{
	struct user_msghdr h;
	struct message m = { .flags = flags };
	struct vector v;
	long result;

	if (user_check(at, sizeof(*at), false))
		return -EFAULT;
	h = *at;
	result = take_destination(&m, (u64)h.name, (u32)h.name_length);
	if (!result)
		result = vector_init(&v, &h, &m.io);
	if (result)
		return result;
	m.control = h.control;
	m.control_length = h.control ? h.control_length : 0;
	result = send_one(f, &m);
	vector_deinit(&v);
	return result;
}

static long receive_header(struct file *f, struct user_msghdr *at, u32 flags)
{
	struct user_msghdr h;
	struct message m = { .flags = flags };
	struct vector v;
	long result, error;

	if (user_check(at, sizeof(*at), true))
		return -EFAULT;
	h = *at;
	result = vector_init(&v, &h, &m.io);
	if (result)
		return result;
	m.control = h.control;
	m.control_length = h.control ? h.control_length : 0;
	result = receive_one(f, &m);
	vector_deinit(&v);
	if (result < 0)
		return result;
	if (h.name) {
		error = socket_put_address(m.address, m.address_length, h.name, &h.name_length);
		if (error)
			return error;
	}
	if (user_check(at, sizeof(*at), true))
		return -EFAULT;
	if (h.name)
		at->name_length = h.name_length;
	at->control_length = h.control_length >= m.control_length ? m.control_length : 0;
	at->flags = m.flags;
	return result;
}

CALL3(sendmsg, fd, header, flags)
{
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	result = send_header(f, (struct user_msghdr *)header, (u32)flags);
	file_put(f);
	return result;
}

CALL3(recvmsg, fd, header, flags)
{
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	result = receive_header(f, (struct user_msghdr *)header, (u32)flags);
	file_put(f);
	return result;
}

/* ------------------------------------------------------------------------------- many messages */

static long note_length(struct user_mmsghdr *at, long n)
{
	if (user_check(&at->length, sizeof(at->length), true))
		return -EFAULT;
	at->length = (u32)n;
	return 0;
}

CALL4(sendmmsg, fd, headers, count, flags)
{
	struct user_mmsghdr *at = (struct user_mmsghdr *)headers;
	struct file *f;
	long done = 0, result = socket_take((int)fd, &f);

	if (result)
		return result;
	for (u64 i = 0; i < MIN((u32)count, (u32)UIO_MAXIOV); i++) {
		result = send_header(f, &at[i].header, (u32)flags);
		if (result >= 0)
			result = note_length(&at[i], result);
		if (result < 0)
			break;
		done++;
	}
	file_put(f);
	return done ? done : result;
}

CALL5(recvmmsg, fd, headers, count, flag_bits, timeout)
{
	struct user_mmsghdr *at = (struct user_mmsghdr *)headers;
	const struct __kernel_timespec *limit = (void *)timeout;
	u32 flags = (u32)flag_bits;
	u64 deadline = FOREVER, ns;
	struct file *f;
	long done = 0, result;

	if (limit) {
		if (user_check(limit, sizeof(*limit), false))
			return -EFAULT;
		if (time_to_ns(limit, &ns))
			return -EINVAL;
		deadline = socket_deadline(ns);
	}
	result = socket_take((int)fd, &f);
	if (result)
		return result;
	for (u64 i = 0; i < MIN((u32)count, (u32)UIO_MAXIOV); i++) {
		result = receive_header(f, &at[i].header, flags & ~(u32)MSG_WAITFORONE);
		if (result >= 0)
			result = note_length(&at[i], result);
		if (result < 0)
			break;
		done++;
		if (flags & MSG_WAITFORONE)
			flags |= MSG_DONTWAIT;
		/* As Linux: looked at after each message only (recvmmsg(2), BUGS). */
		if (deadline != FOREVER && clock_monotonic() >= deadline)
			break;
	}
	file_put(f);
	return done ? done : result;
}
