/* AF_NETLINK: sockets whose other end is the library OS. */
#include <linux/netlink.h>

#include "fs/fs.h"
#include "netlink.h"

#define SOL_NETLINK 270
#define QUEUE_MAX (64 << 10) /* bytes that wait to be received */

struct packet {
	struct list link;
	u32 length;
	u8 bytes[];
};

struct netlink {
	struct socket socket;
	u32 port; /* 0: not bound */
	u32 groups;
	struct list packets;
	size_t queued;
	struct waitq waiters;
};

static const struct file_ops netlink_ops;

static struct netlink *netlink_of(struct file *f)
{
	return f->data;
}

bool is_netlink(const struct file *f)
{
	return f->ops == &netlink_ops;
}

long netlink_deliver(struct file *f, const void *bytes, size_t n)
{
	struct netlink *s = netlink_of(f);
	struct packet *p;

	if (s->queued + n > QUEUE_MAX)
		return -ENOBUFS;
	p = kalloc(sizeof(*p) + n);
	if (!p)
		return -ENOMEM;
	p->length = (u32)n;
	memcpy(p->bytes, bytes, n);
	list_add(&s->packets, &p->link);
	s->queued += n;
	waitq_wake(&s->waiters, ~0u);
	return 0;
}

/* --------------------------------------------------------------------------------- the socket */

static u32 any_port(struct netlink *s)
{
	static u32 next;

	if (!s->port)
		s->port = next++ ? 0x80000000u + next : PROCESS_ID;
	return s->port;
}

static long netlink_bind(struct file *f, const u8 *address, u32 length)
{
	struct netlink *s = netlink_of(f);
	struct sockaddr_nl a;

	if (length < sizeof(a))
		return -EINVAL;
	memcpy(&a, address, sizeof(a));
	if (a.nl_family != AF_NETLINK || (s->port && a.nl_pid && s->port != a.nl_pid))
		return -EINVAL;
	if (a.nl_pid)
		s->port = a.nl_pid;
	any_port(s);
	s->groups = a.nl_groups;
	return 0;
}

static long netlink_connect(struct file *f, const u8 *address, u32 length)
{
	(void)address;
	any_port(netlink_of(f));
	return length < sizeof(struct sockaddr_nl) ? -EINVAL : 0;
}

static long netlink_name(struct file *f, bool of_peer, u8 *address, u32 *length)
{
	struct netlink *s = netlink_of(f);
	struct sockaddr_nl a = { .nl_family = AF_NETLINK, .nl_pid = of_peer ? 0 : s->port,
				 .nl_groups = of_peer ? 0 : s->groups };

	memcpy(address, &a, sizeof(a));
	*length = sizeof(a);
	return 0;
}

static long netlink_send(struct file *f, struct message *m)
{
	size_t n = m->io.length, at = 0;
	u8 *bytes;
	long error = 0;

	if (m->flags & MSG_OOB)
		return -EOPNOTSUPP;
	if (n > QUEUE_MAX)
		return -EMSGSIZE;
	any_port(netlink_of(f));
	bytes = kalloc(n);
	if (!bytes)
		return -ENOMEM;
	io_get(&m->io, bytes, n);
	while (!error && at + sizeof(struct nlmsghdr) <= n) {
		const struct nlmsghdr *h = (void *)(bytes + at);

		if (h->nlmsg_len < sizeof(*h) || h->nlmsg_len > n - at)
			break;
		error = netlink_answer(f, netlink_of(f)->port, h);
		at += NLMSG_ALIGN(h->nlmsg_len);
	}
	kfree(bytes);
	return error ? error : (long)n;
}

static long netlink_receive(struct file *f, struct message *m)
{
	struct netlink *s = netlink_of(f);
	u32 flags = m->flags, length;
	struct packet *p;
	size_t n;

	m->flags = 0;
	m->control_length = 0;
	if (list_empty(&s->packets))
		return -EAGAIN;
	p = list_first(&s->packets, struct packet, link);
	length = p->length;
	netlink_name(f, true, m->address, &m->address_length);
	n = io_put(&m->io, p->bytes, length);
	if (n < length)
		m->flags |= MSG_TRUNC;
	if (!(flags & MSG_PEEK)) {
		list_remove(&p->link);
		s->queued -= length;
		kfree(p);
	}
	return flags & MSG_TRUNC ? (long)length : (long)n;
}

static long netlink_setopt(struct file *f, int level, int name, const void *value, u32 length)
{
	(void)f, (void)value, (void)length, (void)name;
	return level == SOL_SOCKET || level == SOL_NETLINK ? 0 : -ENOPROTOOPT;
}

static long netlink_getopt(struct file *f, int level, int name, void *value, u32 *length)
{
	int number = name == SO_RCVBUF || name == SO_SNDBUF ? QUEUE_MAX : 0;

	(void)f;
	if (level != SOL_SOCKET)
		return -ENOPROTOOPT;
	*length = MIN(*length, (u32)sizeof(number));
	memcpy(value, &number, *length);
	return 0;
}

static long netlink_read(struct file *f, struct io *io, u64 *position)
{
	struct message m = { .io = *io };
	long n = netlink_receive(f, &m);

	(void)position;
	return n;
}

static long netlink_write(struct file *f, struct io *io, u64 *position)
{
	struct message m = { .io = *io };
	long n = netlink_send(f, &m);

	(void)position;
	if (n > 0)
		io_advance(io, (size_t)n);
	return n;
}

static u32 netlink_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct netlink *s = netlink_of(f);

	poll_add(&s->waiters, w);
	return ((list_empty(&s->packets) ? 0 : POLLIN | POLLRDNORM) | POLLOUT | POLLWRNORM) & wanted;
}

static long netlink_ioctl(struct file *f, unsigned request, u64 argument)
{
	(void)f;
	return interface_ioctl(request, argument);
}

static void netlink_release(struct file *f)
{
	struct netlink *s = netlink_of(f);
	struct packet *p, *after;

	list_each_safe(p, after, &s->packets, link)
		kfree(p);
	kfree(s);
}

static const struct socket_ops netlink_socket_ops = {
	.bind = netlink_bind,
	.connect = netlink_connect,
	.send = netlink_send,
	.receive = netlink_receive,
	.name = netlink_name,
	.setopt = netlink_setopt,
	.getopt = netlink_getopt,
};

static const struct inode_ops netlink_inode_ops = { 0 };

static const struct file_ops netlink_ops = {
	.kind = "socket",
	.read = netlink_read,
	.write = netlink_write,
	.poll = netlink_poll,
	.ioctl = netlink_ioctl,
	.release = netlink_release,
	.socket = &netlink_socket_ops,
};

long netlink_create(int type, int protocol, u32 flags, struct file **f)
{
	struct netlink *s;

	if (type != SOCK_RAW && type != SOCK_DGRAM)
		return -ESOCKTNOSUPPORT;
	if (protocol != NETLINK_ROUTE)
		return -EPROTONOSUPPORT;
	s = kalloc(sizeof(*s));
	if (!s)
		return -ENOMEM;
	socket_init(&s->socket, AF_NETLINK, type, protocol);
	list_init(&s->packets);
	waitq_init(&s->waiters);
	*f = file_create(&netlink_ops, O_RDWR | flags, s);
	if (!*f) {
		kfree(s);
		return -ENOMEM;
	}
	(*f)->inode = inode_create(&netlink_inode_ops, S_IFSOCK | 0777, DEVICE_PIPE);
	if ((*f)->inode)
		return 0;
	file_put(*f);
	return -ENOMEM;
}
