/* Standard input, output and error: the VMM's. */
#include <asm/ioctls.h>
#include <asm/termbits.h>
#include <asm/termios.h>

#include "../calls.h"
#include "fs.h"

struct console {
	struct host_source source;
	u32 handle;
	bool is_terminal;
};

static struct console consoles[3];
static struct pv_iovec *pieces; /* where the host finds them: in linear memory */

#define PIECES_MAX MIN(PV_IOV_MAX, PAGE_SIZE / sizeof(struct pv_iovec))

static long transfer(struct console *c, struct io *io, bool read)
{
	size_t n;
	long count, result;

	if (!io->length)
		return 0;
	if (!pieces) {
		u64 gpa = page_alloc();

		if (!gpa)
			return -ENOMEM;
		pieces = phys_to_virt(gpa);
	}
	count = io_to_host(io, read, pieces, PIECES_MAX, &n);
	if (count < 0)
		return count;
	result = host_call(read ? PV_READ : PV_WRITE, c->handle, virt_to_phys(pieces), (u64)count,
			   FOREVER, 0, 0);
	if (result > 0)
		io_advance(io, (size_t)result);
	return result;
}

/* After EAGAIN, who waits already must be told when it goes on. */
static void arm_for_waiters(struct console *c, u32 events)
{
	if (!list_empty(&c->source.waiters.waiters))
		host_source_arm(&c->source, events);
}

static long console_read(struct file *f, struct io *io, u64 *position)
{
	struct console *c = f->data;
	long n = transfer(c, io, true);

	(void)position;
	if (n == -EAGAIN)
		arm_for_waiters(c, POLLIN);
	return n;
}

static long console_write(struct file *f, struct io *io, u64 *position)
{
	struct console *c = f->data;
	long n = transfer(c, io, false);

	(void)position;
	if (n == -EPIPE)
		signal_send(current(), SIGPIPE, SI_USER, 0, PROCESS_ID);
	if (n == -EAGAIN)
		arm_for_waiters(c, POLLOUT);
	return n;
}

static u32 console_poll(struct file *f, struct waiter *w, u32 wanted)
{
	struct console *c = f->data;

	wanted &= c->handle == PV_STDIN ? POLLIN | POLLRDNORM : POLLOUT | POLLWRNORM;
	poll_add(&c->source.waiters, w);
	if (!wanted)
		return 0;
	host_source_arm(&c->source, c->handle == PV_STDIN ? POLLIN : POLLOUT);
	host_wait(0);
	return c->source.armed ? 0 : wanted; /* an event, told now, ends the arming */
}

static long give(u64 to, const void *what, size_t n)
{
	if (user_check((void *)to, n, true))
		return -EFAULT;
	memcpy((void *)to, what, n);
	return 0;
}

static long ask_terminal(struct console *c, enum pv_terminal_operation operation, struct pv_terminal *t)
{
	return host_call(PV_TERMINAL, operation, c->handle, virt_to_phys(t), 0, 0, 0);
}

static long get_settings(struct console *c, struct pv_terminal *t, u64 to)
{
	struct termios s = { 0 };
	long error = ask_terminal(c, PV_TERMINAL_GET, t);

	if (error)
		return error;
	s.c_iflag = t->iflag;
	s.c_oflag = t->oflag;
	s.c_cflag = t->cflag;
	s.c_lflag = t->lflag;
	memcpy(s.c_cc, t->cc, sizeof(s.c_cc));
	return give(to, &s, sizeof(s));
}

static long set_settings(struct console *c, struct pv_terminal *t, u64 from)
{
	const struct termios *s = (void *)from;

	if (user_check(s, sizeof(*s), false))
		return -EFAULT;
	t->iflag = s->c_iflag;
	t->oflag = s->c_oflag;
	t->cflag = s->c_cflag;
	t->lflag = s->c_lflag;
	memcpy(t->cc, s->c_cc, sizeof(s->c_cc));
	return ask_terminal(c, PV_TERMINAL_SET, t);
}

static long get_size(struct console *c, struct pv_terminal *t, u64 to)
{
	long error = ask_terminal(c, PV_TERMINAL_GET, t);
	struct winsize size = { .ws_row = t->rows, .ws_col = t->columns };

	return error ? error : give(to, &size, sizeof(size));
}

static long console_ioctl(struct file *f, unsigned request, u64 argument)
{
	struct console *c = f->data;
	struct pv_terminal *t;
	int none = 0, process = PROCESS_ID;
	long result;

	if (!c->is_terminal)
		return -ENOTTY;
	t = kalloc(sizeof(*t)); /* where the host finds it */
	if (!t)
		return -ENOMEM;
	switch (request) {
	case TCGETS:
		result = get_settings(c, t, argument);
		break;
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		t->how = request - TCSETS;
		result = set_settings(c, t, argument);
		break;
	case TCFLSH:
		t->how = (u32)argument;
		result = ask_terminal(c, PV_TERMINAL_FLUSH, t);
		break;
	case TIOCGWINSZ:
		result = get_size(c, t, argument);
		break;
	case TIOCSWINSZ:
	case TIOCSPGRP:
	case TIOCSCTTY:
	case TCSBRK:
	case TCXONC:
		result = 0;
		break;
	case TIOCGPGRP:
	case TIOCGSID:
		result = give(argument, &process, sizeof(process));
		break;
	case TIOCOUTQ:
	case FIONREAD:
		result = give(argument, &none, sizeof(none));
		break;
	default:
		result = -ENOTTY;
	}
	kfree(t);
	return result;
}

static long console_seek(struct file *f, s64 offset, int whence)
{
	(void)f, (void)offset, (void)whence;
	return -ESPIPE;
}

static const struct file_ops console_ops = {
	.kind = "console",
	.read = console_read,
	.write = console_write,
	.seek = console_seek,
	.poll = console_poll,
	.ioctl = console_ioctl,
};

static const struct inode_ops console_inode_ops = { 0 };

long console_open_terminal(struct file *f)
{
	for (unsigned i = 0; i < ARRAY_SIZE(consoles); i++) {
		if (consoles[i].is_terminal) {
			f->ops = &console_ops;
			f->data = &consoles[(f->flags & O_ACCMODE) == O_RDONLY ? 0 : i];
			return 0;
		}
	}
	return -ENXIO; /* as without a controlling terminal */
}

void console_init(void)
{
	static const u64 terminal_flags[] = { PV_FLAG_TTY_IN, PV_FLAG_TTY_OUT, PV_FLAG_TTY_ERR };

	for (u32 i = 0; i < ARRAY_SIZE(consoles); i++) {
		struct console *c = &consoles[i];
		/* A terminal is open for both ways, as a shell would have it. */
		bool is_terminal = boot_info->flags & terminal_flags[i];
		struct file *f = file_create(&console_ops, is_terminal ? O_RDWR : i ? O_WRONLY : O_RDONLY, c);

		c->handle = i;
		c->is_terminal = is_terminal;
		host_source_init(&c->source, i);
		if (f)
			f->inode = inode_create(&console_inode_ops, is_terminal ? S_IFCHR | 0620 : S_IFIFO | 0600,
						is_terminal ? DEVICE_ANON : DEVICE_PIPE);
		if (!f || !f->inode)
			panic("no memory for standard files");
		f->inode->rdev = is_terminal ? 0x8800 : 0; /* /dev/pts/0 */
		f->path = kstrdup(is_terminal ? "/dev/tty" : i ? "pipe:[2]" : "pipe:[1]");
		fd_install(f, (int)i, false);
	}
}
