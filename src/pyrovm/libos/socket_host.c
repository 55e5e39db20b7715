/*
 * AF_INET and AF_INET6 sockets: the host's, by PV_SOCKET.
 *
 * What is ready is known from the last PV_WAIT (host_source.ready) until a call finds that it is over:
 * after each read nobody knows whether there is more, so the host is asked again when that matters.
 */
#include <asm/ioctls.h>
#include <linux/sockios.h>

#include "fs/fs.h"
#include "fs/calls.h"
#include "socket.h"
#include "thread.h"

#define KEPT_MAX 12
#define PIECES_MAX PV_IOV_MAX /* of one call: they are on the stack */
#define TO_SEND (MSG_OOB | MSG_MORE)
#define TO_RECEIVE (MSG_OOB | MSG_PEEK | MSG_TRUNC)
#define ASKED_NS 50000 /* what the host said this long ago still holds */

struct kept { /* an option that has no effect here, as it was set */
	int level, name, value;
};

struct host_socket {
	struct socket socket;
	struct host_source source;
	u32 kept_count;
	struct kept kept[KEPT_MAX];
};

static const struct file_ops host_socket_file_ops;
static const struct inode_ops socket_inode_ops = { 0 };

static struct host_socket *of(struct file *f)
{
	return f->data;
}

static long ask(struct host_socket *s, enum pv_socket_operation operation, struct pv_socket_args *args)
{
	thread_talked();
	return host_call(PV_SOCKET, operation, s->source.handle, virt_to_phys(args), sizeof(*args), 0, 0);
}

static long ask_with_address(struct file *f, enum pv_socket_operation operation, const u8 *address,
			     u32 length)
{
	struct pv_socket_args args = { .length = length };

	memcpy(args.data, address, length);
	return ask(of(f), operation, &args);
}

/* These are over, or nobody knows; who waits already is to be told when they hold again. */
static void not_ready(struct host_socket *s, u32 events)
{
	s->source.ready &= ~events;
	if (!list_empty(&s->source.waiters.waiters))
		host_source_arm(&s->source, events & (POLLIN | POLLOUT));
}

/* ------------------------------------------------------------------------------------ making one */

/* A file for the host's socket `handle`, which is its own from here on. */
static long wrap(u32 handle, const struct socket *like, u32 flags, struct file **made)
{
	struct host_socket *s = kalloc(sizeof(*s));
	struct inode *i = s ? inode_create(&socket_inode_ops, S_IFSOCK | 0777, DEVICE_PIPE) : NULL;
	struct file *f = i ? file_create(&host_socket_file_ops, O_RDWR | flags, s) : NULL;

	if (!f) {
		if (i)
			inode_put(i);
		kfree(s);
		host_call(PV_CLOSE, handle, 0, 0, 0, 0, 0);
		return -ENOMEM;
	}
	f->inode = i;
	socket_init(&s->socket, like->family, like->type, like->protocol);
	host_source_init(&s->source, handle);
	*made = f;
	return 0;
}

long host_socket_create(int family, int type, int protocol, u32 flags, struct file **f)
{
	int usual = type == SOCK_STREAM ? IPPROTO_TCP : IPPROTO_UDP;
	struct pv_socket_args args = { .a = family, .b = type, .c = usual };
	struct socket like = { .family = family, .type = type, .protocol = usual };
	long handle;

	if (type == SOCK_RAW)
		return -EPERM;
	if (type != SOCK_STREAM && type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	if (protocol && protocol != usual)
		return -EPROTONOSUPPORT;
	handle = host_call(PV_SOCKET, PV_SOCKET_OPEN, 0, virt_to_phys(&args), sizeof(args), 0, 0);
	return handle < 0 ? handle : wrap((u32)handle, &like, flags, f);
}

static void host_socket_release(struct file *f)
{
	struct host_socket *s = of(f);

	host_source_deinit(&s->source);
	host_call(PV_CLOSE, s->source.handle, 0, 0, 0, 0, 0);
	kfree(s);
}

/* ------------------------------------------------------------------------------------- data */

static long transfer_stream(struct host_socket *s, struct io *io, bool read)
{
	struct pv_iovec pieces[PIECES_MAX];
	u32 events = read ? POLLIN : POLLOUT;
	size_t n;
	long count = io_to_host(io, read, pieces, PIECES_MAX, &n), result;

	if (count < 0)
		return count;
	thread_talked();
	result = host_call(read ? PV_READ : PV_WRITE, s->source.handle, virt_to_phys(pieces), (u64)count,
			   FOREVER, 0, 0);
	if (result > 0)
		io_advance(io, (size_t)result);
	/* The end of a stream stays; behind anything else may come more, or nothing. */
	if (result < 0 || (result > 0 && (read || (size_t)result < n)))
		not_ready(s, events | (result < 0 ? POLLERR : 0));
	return result;
}

static bool is_plain_stream(const struct host_socket *s, u32 flags)
{
	return s->socket.type == SOCK_STREAM && !flags;
}

static long host_socket_send(struct file *f, struct message *m)
{
	struct host_socket *s = of(f);
	struct pv_iovec pieces[PIECES_MAX];
	struct pv_socket_args args = { .b = (s32)(m->flags & TO_SEND), .length = m->address_length };
	size_t n;
	long count, result;

	if (is_plain_stream(s, (u32)args.b) && m->io.length)
		return transfer_stream(s, &m->io, false);
	count = io_to_host(&m->io, false, pieces, PIECES_MAX, &n);
	if (count < 0)
		return count;
	/* A datagram is sent whole or not at all. */
	if (s->socket.type == SOCK_DGRAM && n < m->io.length)
		return -EMSGSIZE;
	args.iov_gpa = virt_to_phys(pieces);
	args.iov_count = (u64)count;
	memcpy(args.data, m->address, m->address_length);
	result = ask(s, PV_SOCKET_SEND, &args);
	if (result > 0)
		io_advance(&m->io, (size_t)result);
	if (result < 0)
		not_ready(s, POLLOUT | POLLERR);
	return result;
}

static long host_socket_receive(struct file *f, struct message *m)
{
	struct host_socket *s = of(f);
	struct pv_iovec pieces[PIECES_MAX];
	struct pv_socket_args args = { .b = (s32)(m->flags & TO_RECEIVE), .length = SOCKET_ADDRESS_MAX };
	size_t n;
	long count, result;

	m->control_length = 0;
	if (is_plain_stream(s, (u32)args.b) && m->io.length) {
		m->flags = 0;
		return transfer_stream(s, &m->io, true);
	}
	count = io_to_host(&m->io, true, pieces, PIECES_MAX, &n);
	if (count < 0)
		return count;
	args.iov_gpa = virt_to_phys(pieces);
	args.iov_count = (u64)count;
	result = ask(s, PV_SOCKET_RECEIVE, &args);
	if (result >= 0) {
		io_advance(&m->io, MIN((size_t)result, n));
		m->address_length = MIN(args.length, (u32)SOCKET_ADDRESS_MAX);
		memcpy(m->address, args.data, m->address_length);
		m->flags = (u32)args.b & (MSG_OOB | MSG_TRUNC | MSG_CTRUNC);
	}
	if (result || s->socket.type == SOCK_DGRAM)
		not_ready(s, POLLIN | (result < 0 ? POLLERR : 0));
	return result;
}

static long host_socket_read(struct file *f, struct io *io, u64 *position)
{
	struct message m = { .io = *io };
	long n = host_socket_receive(f, &m);

	(void)position;
	*io = m.io;
	return n;
}

static long host_socket_write(struct file *f, struct io *io, u64 *position)
{
	struct message m = { .io = *io };
	long n = host_socket_send(f, &m);

	(void)position;
	*io = m.io;
	if (n == -EPIPE)
		signal_send(current(), SIGPIPE, SI_USER, 0, PROCESS_ID);
	return n;
}

/* --------------------------------------------------------------------------------------- waiting */

static u32 as_program_asks(u32 ready, u32 wanted)
{
	if (ready & POLLIN)
		ready |= POLLRDNORM;
	if (ready & POLLOUT)
		ready |= POLLWRNORM;
	return ready & (wanted | POLLERR | POLLHUP);
}

static u32 host_socket_poll(struct file *f, struct waiter *w, u32 wanted)
{
	static u64 asked_at;
	struct host_socket *s = of(f);
	u32 want = wanted & (POLLIN | POLLOUT | POLLRDHUP), armed = s->source.armed, missing;
	u64 now = clock_monotonic();
	bool looks;

	if (wanted & POLLRDNORM)
		want |= POLLIN;
	if (wanted & POLLWRNORM)
		want |= POLLOUT;
	poll_add(&s->source.waiters, w);
	missing = want & ~s->source.ready;
	/* Who will sleep asks the host by that; who only looks asks it here, unless the socket is in a
	 * set (epoll) whose owner asks it for all of them. */
	looks = !w && missing & (POLLIN | POLLOUT) && list_empty(&s->source.waiters.waiters) &&
		((armed & missing) != missing || now - asked_at > ASKED_NS);
	/* While somebody waits, what is missing stays armed: each event ends the arming of all. */
	if (missing && (w || looks || !list_empty(&s->source.waiters.waiters)))
		host_source_arm(&s->source, missing);
	if (looks) {
		host_wait(0);
		asked_at = clock_monotonic();
	}
	return as_program_asks(s->source.ready, wanted);
}

/* --------------------------------------------------------------------------------- connections */

static long host_socket_bind(struct file *f, const u8 *address, u32 length)
{
	return ask_with_address(f, PV_SOCKET_BIND, address, length);
}

static long host_socket_listen(struct file *f, int backlog)
{
	struct pv_socket_args args = { .a = backlog };
	long error = ask(of(f), PV_SOCKET_LISTEN, &args);

	if (!error)
		not_ready(of(f), POLLIN | POLLOUT | POLLHUP | POLLERR);
	return error;
}

static long host_socket_accept(struct file *f, struct file **made, u8 *address, u32 *length)
{
	struct pv_socket_args args = { .length = SOCKET_ADDRESS_MAX };
	long handle = ask(of(f), PV_SOCKET_ACCEPT, &args);

	if (handle >= 0 || handle == -EAGAIN)
		not_ready(of(f), POLLIN);
	if (handle < 0)
		return handle;
	*length = MIN(args.length, (u32)SOCKET_ADDRESS_MAX);
	memcpy(address, args.data, *length);
	return wrap((u32)handle, &of(f)->socket, 0, made);
}

static long host_socket_connect(struct file *f, const u8 *address, u32 length)
{
	long result = ask_with_address(f, PV_SOCKET_CONNECT, address, length);

	/* A socket that was neither connected nor listening was "hung up" (poll(2) of the host). */
	of(f)->source.ready = 0;
	not_ready(of(f), POLLIN | POLLOUT);
	return result;
}

static long host_socket_shutdown(struct file *f, int how)
{
	struct pv_socket_args args = { .a = how };
	long error = ask(of(f), PV_SOCKET_SHUTDOWN, &args);

	if (!error)
		not_ready(of(f), POLLIN | POLLOUT);
	return error;
}

static long host_socket_name(struct file *f, bool of_peer, u8 *address, u32 *length)
{
	struct pv_socket_args args = { .length = SOCKET_ADDRESS_MAX };
	long error = ask(of(f), of_peer ? PV_SOCKET_PEER : PV_SOCKET_NAME, &args);

	if (error)
		return error;
	*length = MIN(args.length, (u32)SOCKET_ADDRESS_MAX);
	memcpy(address, args.data, *length);
	return 0;
}

static long host_socket_ioctl(struct file *f, unsigned request, u64 argument)
{
	struct pv_socket_args args = { .a = request == SIOCOUTQ };
	long n;

	if (request != FIONREAD && request != SIOCOUTQ)
		return interface_ioctl(request, argument);
	n = ask(of(f), PV_SOCKET_PENDING, &args);
	if (n < 0)
		return n;
	if (user_check((void *)argument, sizeof(int), true))
		return -EFAULT;
	*(int *)argument = (int)n;
	return 0;
}

/* ------------------------------------------------------------------------------------- options */

/* What programs set and can do without: the network's details are the host's. */
static bool is_kept(int level, int name)
{
	switch (level) {
	case SOL_SOCKET:
		return name == SO_PRIORITY || name == SO_TIMESTAMP_OLD || name == SO_TIMESTAMPNS_OLD ||
		       name == SO_PASSCRED || name == SO_DONTROUTE || name == SO_NO_CHECK ||
		       name == SO_RXQ_OVFL || name == SO_INCOMING_CPU;
	case IPPROTO_IP:
		return name == IP_TOS || name == IP_TTL || name == IP_RECVERR || name == IP_PKTINFO ||
		       name == IP_MTU_DISCOVER || name == IP_BIND_ADDRESS_NO_PORT ||
		       name == IP_MULTICAST_TTL || name == IP_MULTICAST_LOOP || name == IP_RECVTOS ||
		       name == IP_RECVTTL || name == IP_FREEBIND;
	case IPPROTO_IPV6:
		return name == IPV6_RECVERR || name == IPV6_UNICAST_HOPS || name == IPV6_MULTICAST_HOPS ||
		       name == IPV6_MULTICAST_LOOP || name == IPV6_RECVPKTINFO || name == IPV6_TCLASS ||
		       name == IPV6_MTU_DISCOVER || name == IPV6_RECVTCLASS || name == IPV6_RECVHOPLIMIT;
	case IPPROTO_TCP:
		return name == TCP_FASTOPEN || name == TCP_FASTOPEN_CONNECT;
	default:
		return false;
	}
}

static struct kept *kept_option(struct host_socket *s, int level, int name)
{
	for (u32 i = 0; i < s->kept_count; i++)
		if (s->kept[i].level == level && s->kept[i].name == name)
			return &s->kept[i];
	return NULL;
}

static long keep(struct host_socket *s, int level, int name, const void *value, u32 length)
{
	struct kept *k = kept_option(s, level, name);

	if (!length)
		return -EINVAL;
	if (!k && s->kept_count == KEPT_MAX)
		return -ENOBUFS;
	if (!k)
		k = &s->kept[s->kept_count++];
	*k = (struct kept){ level, name, length >= sizeof(int) ? *(const int *)value : *(const u8 *)value };
	return 0;
}

static long host_socket_setopt(struct file *f, int level, int name, const void *value, u32 length)
{
	struct pv_socket_args args = { .a = level, .b = name, .length = length };

	if (is_kept(level, name))
		return keep(of(f), level, name, value, length);
	memcpy(args.data, value, length);
	return ask(of(f), PV_SOCKET_SETOPT, &args);
}

static long host_socket_getopt(struct file *f, int level, int name, void *value, u32 *length)
{
	struct pv_socket_args args = { .a = level, .b = name, .length = *length };
	struct kept *k;
	long error;

	if (is_kept(level, name)) {
		k = kept_option(of(f), level, name);
		*(int *)value = k ? k->value : 0;
		*length = MIN(*length, (u32)sizeof(int));
		return 0;
	}
	error = ask(of(f), PV_SOCKET_GETOPT, &args);
	if (error)
		return error;
	if (level == SOL_SOCKET && name == SO_ERROR)
		of(f)->source.ready &= ~POLLERR;
	*length = MIN(*length, args.length);
	memcpy(value, args.data, *length);
	return 0;
}

static const struct socket_ops host_socket_ops = {
	.bind = host_socket_bind,
	.listen = host_socket_listen,
	.accept = host_socket_accept,
	.connect = host_socket_connect,
	.send = host_socket_send,
	.receive = host_socket_receive,
	.shutdown = host_socket_shutdown,
	.name = host_socket_name,
	.setopt = host_socket_setopt,
	.getopt = host_socket_getopt,
};

static const struct file_ops host_socket_file_ops = {
	.kind = "socket",
	.read = host_socket_read,
	.write = host_socket_write,
	.poll = host_socket_poll,
	.ioctl = host_socket_ioctl,
	.release = host_socket_release,
	.socket = &host_socket_ops,
};
