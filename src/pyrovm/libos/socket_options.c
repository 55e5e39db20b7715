/* getsockopt(2), setsockopt(2): what is the same for all sockets. */
#include "fs/calls.h"
#include "socket.h"

#define VALUE_MAX SOCKET_ADDRESS_MAX /* bytes that a kind of socket is asked for */

static long set_timeout(u64 *timeout, const void *value, u32 length)
{
	const struct __kernel_old_timeval *t = value;

	if (length < sizeof(*t))
		return -EINVAL;
	if (t->tv_usec < 0 || t->tv_usec >= 1000000)
		return -EDOM;
	*timeout = !t->tv_sec && !t->tv_usec ? FOREVER
		   : t->tv_sec < 0	    ? 0
		   : t->tv_sec > 1000000000 ? FOREVER
					    : (u64)t->tv_sec * NSEC_PER_SEC + (u64)t->tv_usec * 1000;
	return 0;
}

CALL5(setsockopt, fd, level, name, value_at, value_length)
{
	u8 value[VALUE_MAX] __attribute__((aligned(8)));
	u32 length = MIN((u32)value_length, (u32)VALUE_MAX);
	struct file *f;
	struct socket *s;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	s = socket_of(f);
	if ((int)value_length < 0)
		result = -EINVAL;
	else if (user_check((void *)value_at, length, false))
		result = -EFAULT;
	if (!result) {
		memcpy(value, (void *)value_at, length);
		if ((int)level == SOL_SOCKET && (int)name == SO_RCVTIMEO_OLD)
			result = set_timeout(&s->receive_timeout, value, length);
		else if ((int)level == SOL_SOCKET && (int)name == SO_SNDTIMEO_OLD)
			result = set_timeout(&s->send_timeout, value, length);
		else if (f->ops->socket->setopt)
			result = f->ops->socket->setopt(f, (int)level, (int)name, value, length);
		else
			result = -ENOPROTOOPT;
	}
	file_put(f);
	return result;
}

/* Options that the library OS knows by itself; false: it is the socket's matter. */
static bool get_own(const struct socket *s, int name, void *value, u32 *length)
{
	struct __kernel_old_timeval t = { 0 };
	u64 ns = name == SO_RCVTIMEO_OLD ? s->receive_timeout : s->send_timeout;

	switch (name) {
	case SO_TYPE:
		*(int *)value = s->type;
		break;
	case SO_DOMAIN:
		*(int *)value = s->family;
		break;
	case SO_PROTOCOL:
		*(int *)value = s->protocol;
		break;
	case SO_RCVTIMEO_OLD:
	case SO_SNDTIMEO_OLD:
		if (ns != FOREVER)
			t = (struct __kernel_old_timeval){ (long)(ns / NSEC_PER_SEC),
							   (long)(ns % NSEC_PER_SEC / 1000) };
		memcpy(value, &t, sizeof(t));
		*length = MIN(*length, (u32)sizeof(t));
		return true;
	default:
		return false;
	}
	*length = MIN(*length, (u32)sizeof(int));
	return true;
}

CALL5(getsockopt, fd, level, name, value_at, length_at)
{
	u8 value[VALUE_MAX] __attribute__((aligned(8))) = { 0 };
	int *room = (int *)length_at;
	u32 length = 0;
	struct file *f;
	long result = socket_take((int)fd, &f);

	if (result)
		return result;
	if (user_check(room, sizeof(*room), true))
		result = -EFAULT;
	else if (*room < 0)
		result = -EINVAL;
	else
		length = MIN((u32)*room, (u32)VALUE_MAX);
	if (!result && !((int)level == SOL_SOCKET && get_own(socket_of(f), (int)name, value, &length)))
		result = f->ops->socket->getopt
				 ? f->ops->socket->getopt(f, (int)level, (int)name, value, &length)
				 : -ENOPROTOOPT;
	file_put(f);
	if (result)
		return result;
	if (user_check((void *)value_at, length, true) || user_check(room, sizeof(*room), true))
		return -EFAULT;
	memcpy((void *)value_at, value, length);
	*room = (int)length;
	return 0;
}
