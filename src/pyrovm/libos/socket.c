/* The system calls about sockets, whatever is behind them: socket.h. */
#include "fs/calls.h"
#include "fs/fs.h"
#include "socket.h"

#define TYPE_MASK 0xf

void socket_init(struct socket *s, int family, int type, int protocol)
{
	s->family = family;
	s->type = type;
	s->protocol = protocol;
	s->receive_timeout = s->send_timeout = FOREVER;
}

long socket_take(int fd, struct file **f)
{
	long error = fd_take_io(fd, f);

	if (error)
		return error;
	if (!(*f)->ops->socket) {
		file_put(*f);
		return -ENOTSOCK;
	}
	return 0;
}

long socket_wait(struct file *f, u32 events, u32 message_flags, u64 deadline)
{
	long error;

	if (f->flags & O_NONBLOCK || message_flags & MSG_DONTWAIT)
		return -EAGAIN;
	error = file_wait(f, events, deadline);
	if (error == -ETIMEDOUT)
		return -EAGAIN;
	/* What has a time-out is not begun again after a signal (signal(7)). */
	if (error == -EINTR && deadline == FOREVER)
		return -ERESTARTSYS;
	return error;
}

static long take_address(u64 from, u64 length, u8 address[SOCKET_ADDRESS_MAX])
{
	if ((int)length < 0 || (int)length > SOCKET_ADDRESS_MAX)
		return -EINVAL;
	if (user_check((void *)from, (u32)length, false))
		return -EFAULT;
	memcpy(address, (void *)from, (u32)length);
	return 0;
}

long socket_put_address(const u8 *address, u32 length, void *to, int *room)
{
	int n = *room;

	if (n < 0)
		return -EINVAL;
	n = MIN(n, (int)length);
	if (user_check(to, (u32)n, true))
		return -EFAULT;
	memcpy(to, address, (u32)n);
	*room = (int)length;
	return 0;
}

/* The same where the room is the program's variable. */
static long give_address(const u8 *address, u32 length, u64 to, u64 room_address)
{
	int *room = (int *)room_address, n;
	long error;

	if (user_check(room, sizeof(*room), true))
		return -EFAULT;
	n = *room;
	error = socket_put_address(address, length, (void *)to, &n);
	if (!error && user_check(room, sizeof(*room), true))
		error = -EFAULT;
	if (!error)
		*room = n;
	return error;
}

CALL3(socket, family, type_and_flags, protocol)
{
	int type = (int)type_and_flags & TYPE_MASK;
	u32 flags = (u32)type_and_flags & ~(u32)TYPE_MASK;
	struct file *f;
	long error;

	if (flags & ~(u32)(SOCK_NONBLOCK | SOCK_CLOEXEC) || type >= SOCK_MAX)
		return -EINVAL;
	switch ((int)family) {
	case AF_UNIX:
		error = unix_create(type, (int)protocol, flags & SOCK_NONBLOCK, &f);
		break;
	case AF_INET:
	case AF_INET6:
		error = host_socket_create((int)family, type, (int)protocol, flags & SOCK_NONBLOCK, &f);
		break;
	case AF_NETLINK:
		error = netlink_create(type, (int)protocol, flags & SOCK_NONBLOCK, &f);
		break;
	default:
		error = -EAFNOSUPPORT;
	}
	return error ? error : file_install(f, flags & SOCK_CLOEXEC);
}

CALL3(bind, fd, address_at, length)
{
	u8 address[SOCKET_ADDRESS_MAX];
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	result = take_address(address_at, length, address);
	if (!result)
		result = f->ops->socket->bind ? f->ops->socket->bind(f, address, (u32)length) : -EOPNOTSUPP;
	file_put(f);
	return result;
}

CALL2(listen, fd, backlog)
{
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	result = f->ops->socket->listen ? f->ops->socket->listen(f, (int)backlog) : -EOPNOTSUPP;
	file_put(f);
	return result;
}

static long do_accept(u64 fd, u64 address_at, u64 length_at, u32 flags)
{
	u8 address[SOCKET_ADDRESS_MAX];
	u32 length = 0;
	struct file *f, *made = NULL;
	u64 deadline;
	long result;

	if (flags & ~(u32)(SOCK_NONBLOCK | SOCK_CLOEXEC))
		return -EINVAL;
	result = socket_take((int)fd, &f);
	if (result)
		return result;
	deadline = socket_deadline(socket_of(f)->receive_timeout);
	if (!f->ops->socket->accept)
		result = -EOPNOTSUPP;
	while (!result) {
		result = f->ops->socket->accept(f, &made, address, &length);
		if (result != -EAGAIN)
			break;
		result = socket_wait(f, POLLIN, 0, deadline);
	}
	file_put(f);
	if (result)
		return result;
	made->flags = O_RDWR | (flags & SOCK_NONBLOCK);
	if (address_at) {
		result = give_address(address, length, address_at, length_at);
		if (result) {
			file_put(made);
			return result;
		}
	}
	return file_install(made, flags & SOCK_CLOEXEC);
}

CALL3(accept, fd, address, length)
{
	return do_accept(fd, address, length, 0);
}

CALL4(accept4, fd, address, length, flags)
{
	return do_accept(fd, address, length, (u32)flags);
}

CALL3(connect, fd, address_at, length)
{
	u8 address[SOCKET_ADDRESS_MAX];
	bool has_begun = false;
	struct file *f;
	u64 deadline;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	deadline = socket_deadline(socket_of(f)->send_timeout);
	result = take_address(address_at, length, address);
	if (!result && !f->ops->socket->connect)
		result = -EOPNOTSUPP;
	while (!result) {
		result = f->ops->socket->connect(f, address, (u32)length);
		if (result == -EISCONN && has_begun)
			result = 0;
		if (result != -EINPROGRESS && result != -EALREADY && result != -EAGAIN)
			break;
		if (f->flags & O_NONBLOCK)
			break;
		has_begun = true;
		result = socket_wait(f, POLLOUT, 0, deadline);
		if (result == -EAGAIN)
			result = -EINPROGRESS;
		if (!result)
			continue;
		break;
	}
	file_put(f);
	return result;
}

CALL2(shutdown, fd, how)
{
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	if ((u32)how > SHUT_RDWR)
		result = -EINVAL;
	else
		result = f->ops->socket->shutdown ? f->ops->socket->shutdown(f, (int)how) : -EOPNOTSUPP;
	file_put(f);
	return result;
}

static long do_name(u64 fd, u64 address_at, u64 length_at, bool of_peer)
{
	u8 address[SOCKET_ADDRESS_MAX];
	u32 length = 0;
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	result = f->ops->socket->name ? f->ops->socket->name(f, of_peer, address, &length) : -EOPNOTSUPP;
	file_put(f);
	return result ? result : give_address(address, length, address_at, length_at);
}

CALL3(getsockname, fd, address, length)
{
	return do_name(fd, address, length, false);
}

CALL3(getpeername, fd, address, length)
{
	return do_name(fd, address, length, true);
}
