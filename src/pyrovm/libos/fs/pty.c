/* Pseudo terminals: /dev/ptmx and /dev/pts/N, as files. */
#include "../calls.h"
#include "pty.h"

#define PTYS_MAX 64
#define MAJOR 136 /* of /dev/pts/N */

static struct pty *ptys[PTYS_MAX];

static const struct termios usual = {
	.c_iflag = ICRNL | IXON, .c_oflag = OPOST | ONLCR, .c_cflag = B38400 | CS8 | CREAD,
	.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
	.c_cc = { 3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22 },
};

/* ------------------------------------------------------------------------------------- master */

static long master_read(struct file *f, struct io *io, u64 *position)
{
	struct pty *p = f->data;
	long done = 0;

	(void)position;
	if (!p->output_used)
		return p->was_open && !p->slaves ? -EIO : -EAGAIN;
	while (p->output_used && io->length) {
		u32 n = MIN(p->output_used, OUTPUT_MAX - p->output_start);

		n = (u32)io_put(io, p->output + p->output_start, n);
		p->output_start = (p->output_start + n) % OUTPUT_MAX;
		p->output_used -= n;
		done += n;
	}
	waitq_wake(&p->slave, ~0u);
	return done;
}

static long master_write(struct file *f, struct io *io, u64 *position)
{
	struct pty *p = f->data;
	long done = 0;
	u8 c;

	(void)position;
	while (io->length) {
		struct io before = *io;

		if (p->input_used == LINE_MAX)
			break;
		io_get(io, &c, 1);
		if (!pty_type(p, c)) {
			*io = before;
			break;
		}
		done++;
	}
	waitq_wake(&p->slave, ~0u);
	if (p->output_used)
		waitq_wake(&p->master, ~0u); /* the echo */
	return done ? done : -EAGAIN;
}

static u32 master_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct pty *p = f->data;
	u32 events = p->output_used ? POLLIN | POLLRDNORM : 0;

	poll_add(&p->master, w);
	events |= p->input_used < LINE_MAX ? POLLOUT | POLLWRNORM : 0;
	events |= p->was_open && !p->slaves ? POLLHUP : 0;
	return events & (wanted | POLLERR | POLLHUP);
}

/* -------------------------------------------------------------------------------------- slave */

static long slave_read(struct file *f, struct io *io, u64 *position)
{
	struct pty *p = f->data;
	u8 some[256];
	bool has_ended = false, is_raw = !(p->settings.c_lflag & ICANON);
	long done = 0;

	(void)position;
	if (!p->masters)
		return 0;
	if (!pty_is_readable(p))
		return is_raw && !p->settings.c_cc[VMIN] && !p->settings.c_cc[VTIME] ? 0 : -EAGAIN;
	while (io->length && !has_ended) {
		size_t n = pty_take(p, some, MIN(io->length, sizeof(some)), &has_ended);

		io_put(io, some, n);
		done += (long)n;
		if (!n)
			break;
	}
	waitq_wake(&p->master, ~0u);
	return done;
}

static long slave_write(struct file *f, struct io *io, u64 *position)
{
	struct pty *p = f->data;
	u8 some[256];
	long done = 0;

	(void)position;
	if (!p->masters)
		return -EIO;
	while (io->length) {
		struct io before = *io;
		size_t n = io_get(io, some, MIN(io->length, sizeof(some)));
		size_t printed = pty_print(p, some, n);

		done += (long)printed;
		if (printed < n) {
			*io = before;
			io_advance(io, printed);
			break;
		}
	}
	return done ? done : -EAGAIN;
}

static u32 slave_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct pty *p = f->data;
	u32 events = pty_is_readable(p) || !p->masters ? POLLIN | POLLRDNORM : 0;

	poll_add(&p->slave, w);
	events |= p->output_used < OUTPUT_MAX - 2 || !p->masters ? POLLOUT | POLLWRNORM : 0;
	events |= p->masters ? 0 : POLLHUP | POLLERR;
	return events & (wanted | POLLERR | POLLHUP);
}

/* ---------------------------------------------------------------------------- opening, closing */

static void put(struct pty *p)
{
	waitq_wake(&p->master, ~0u);
	waitq_wake(&p->slave, ~0u);
	if (p->masters || p->slaves)
		return;
	ptys[p->number] = NULL;
	kfree(p);
}

static void master_release(struct file *f)
{
	struct pty *p = f->data;
	struct dentry *entry = p->entry;

	p->masters--;
	p->entry = NULL;
	if (entry) {
		if (entry->is_hashed)
			entry->parent->inode->ops->unlink(entry, false);
		dentry_put(entry);
	}
	if (p->is_controlling)
		signal_send(NULL, SIGHUP, SI_KERNEL, 0, 0);
	put(p);
}

static void slave_release(struct file *f)
{
	struct pty *p = f->data;

	p->slaves--;
	put(p);
}

static const struct file_ops master_ops = {
	.kind = "ptmx",
	.read = master_read,
	.write = master_write,
	.poll = master_poll,
	.ioctl = pty_master_ioctl,
	.release = master_release,
};

static const struct file_ops slave_ops = {
	.kind = "pts",
	.read = slave_read,
	.write = slave_write,
	.poll = slave_poll,
	.ioctl = pty_slave_ioctl,
	.release = slave_release,
};

long pty_open_master(struct file *f)
{
	struct pty *p;
	char path[24];
	unsigned n = 0;

	while (n < PTYS_MAX && ptys[n])
		n++;
	if (n == PTYS_MAX)
		return -ENOSPC;
	p = kalloc(sizeof(*p));
	if (!p)
		return -ENOMEM;
	p->number = n;
	p->masters = 1;
	p->is_locked = true;
	p->settings = usual;
	waitq_init(&p->master);
	waitq_init(&p->slave);
	format(path, sizeof(path), "/dev/pts/%u", n);
	p->entry = tree_make(path, S_IFCHR | 0620, MAJOR << 8 | n, NULL);
	if (!p->entry) {
		kfree(p);
		return -ENOMEM;
	}
	ptys[n] = p;
	f->ops = &master_ops;
	f->data = p;
	return 0;
}

long pty_open_slave(struct file *f, unsigned number)
{
	struct pty *p = number < PTYS_MAX ? ptys[number] : NULL;

	if (!p || !p->masters || p->is_locked)
		return -EIO;
	p->slaves++;
	p->was_open = true;
	f->ops = &slave_ops;
	f->data = p;
	return 0;
}
