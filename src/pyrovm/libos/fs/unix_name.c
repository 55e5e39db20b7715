/* AF_UNIX: names of sockets, in the tree and abstract ones; and their options. */
#include "unix.h"

struct list unix_sockets = LIST_INIT(unix_sockets);

static bool is_abstract(const struct unix_socket *s)
{
	return s->address_length > sizeof(__kernel_sa_family_t) && !s->bound;
}

/* The path of an address, as a string; "" for abstract names. */
static void path_of(const u8 *address, u32 length, char path[UNIX_PATH_MAX + 1])
{
	u32 n = length - (u32)sizeof(__kernel_sa_family_t);

	memcpy(path, address + sizeof(__kernel_sa_family_t), n);
	path[n] = 0;
}

static long check_address(const u8 *address, u32 length)
{
	__kernel_sa_family_t family;

	if (length <= sizeof(family) || length > sizeof(struct sockaddr_un))
		return -EINVAL;
	memcpy(&family, address, sizeof(family));
	return family == AF_UNIX ? 0 : -EINVAL;
}

static struct unix_socket *find_abstract(const u8 *address, u32 length)
{
	struct unix_socket *s;

	list_each(s, &unix_sockets, all)
		if (is_abstract(s) && s->address_length == length && !memcmp(s->address, address, length))
			return s;
	return NULL;
}

long unix_find(const u8 *address, u32 length, struct unix_socket **found)
{
	char path[UNIX_PATH_MAX + 1];
	struct unix_socket *s;
	struct walk w;
	long error = check_address(address, length);

	if (error)
		return error;
	path_of(address, length, path);
	if (!*path) {
		*found = find_abstract(address, length);
		return *found ? 0 : -ECONNREFUSED;
	}
	error = walk_path(&w, AT_FDCWD, path, WALK_FOLLOW);
	if (error)
		return error;
	error = -ECONNREFUSED;
	list_each(s, &unix_sockets, all) {
		if (s->bound == w.at->inode && !s->is_connected) {
			*found = s;
			error = 0;
			break;
		}
	}
	walk_end(&w);
	return error;
}

static long bind_abstract(struct unix_socket *s, const u8 *address, u32 length)
{
	static u32 next;

	if (length <= sizeof(__kernel_sa_family_t)) { /* autobind: a name of five digits */
		char name[8];

		do {
			format(name, sizeof(name), "%05x", next++ & 0xfffff);
			memset(s->address, 0, sizeof(s->address));
			s->address[0] = AF_UNIX;
			memcpy(s->address + 3, name, 5);
		} while (find_abstract(s->address, 8));
		s->address_length = 8;
		return 0;
	}
	if (find_abstract(address, length))
		return -EADDRINUSE;
	memcpy(s->address, address, length);
	s->address_length = length;
	return 0;
}

long unix_bind(struct file *f, const u8 *address, u32 length)
{
	struct unix_socket *s = unix_of(f);
	struct new_node node = { .mode = S_IFSOCK | (0777 & ~umask_bits) };
	char path[UNIX_PATH_MAX + 1];
	struct dentry *made;
	struct walk w;
	long error;

	if (length != sizeof(__kernel_sa_family_t)) {
		error = check_address(address, length);
		if (error)
			return error;
	}
	if (s->address_length)
		return -EINVAL;
	path_of(address, length, path);
	if (!*path)
		return bind_abstract(s, address, length);
	error = walk_path(&w, AT_FDCWD, path, WALK_CREATE);
	if (error)
		return error;
	if (!w.missing)
		error = -EADDRINUSE;
	else if (w.at->inode->ops != &tree_ops)
		error = -EPERM; /* a name on the host would lead nowhere */
	else
		error = tree_ops.create(w.at, w.last, &node, &made);
	walk_end(&w);
	if (error)
		return error;
	inode_get(made->inode);
	s->bound = made->inode;
	dentry_put(made);
	memcpy(s->address, address, length);
	s->address[length] = 0;
	s->address_length = (u32)(sizeof(__kernel_sa_family_t) + strlen(path) + 1);
	return 0;
}

long unix_name(struct file *f, bool of_peer, u8 *address, u32 *length)
{
	const struct unix_socket *s = unix_of(f);
	u16 family = AF_UNIX;

	if (of_peer) {
		if (!s->is_connected || !s->peer)
			return -ENOTCONN;
		s = s->peer;
	}
	memcpy(address, &family, sizeof(family));
	memcpy(address, s->address, s->address_length);
	*length = MAX(s->address_length, (u32)sizeof(family));
	return 0;
}

/* -------------------------------------------------------------------------------- options */

long unix_setopt(struct file *f, int level, int name, const void *value, u32 length)
{
	(void)f, (void)name, (void)value, (void)length;
	return level == SOL_SOCKET ? 0 : -EOPNOTSUPP;
}

long unix_getopt(struct file *f, int level, int name, void *value, u32 *length)
{
	const struct unix_socket *s = unix_of(f);
	const int credentials[3] = { PROCESS_ID, (int)boot_info->uid, (int)boot_info->gid };
	int number = 0;

	if (level != SOL_SOCKET)
		return -EOPNOTSUPP;
	switch (name) {
	case SO_PEERCRED:
		*length = MIN(*length, (u32)sizeof(credentials));
		memcpy(value, credentials, *length);
		return 0;
	case SO_SNDBUF:
	case SO_RCVBUF:
		number = UNIX_QUEUE_MAX;
		break;
	case SO_ACCEPTCONN:
		number = s->is_listening;
		break;
	case SO_ERROR:
	case SO_PASSCRED:
	case SO_KEEPALIVE:
	case SO_REUSEADDR:
	case SO_BROADCAST:
		break;
	default:
		return -ENOPROTOOPT;
	}
	*length = MIN(*length, (u32)sizeof(number));
	memcpy(value, &number, *length);
	return 0;
}
