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
/* What programs set with TCSETS and read back; the host's terminal stays as it is. */
static struct termios settings = {
	.c_iflag = ICRNL | IXON, .c_oflag = OPOST | ONLCR, .c_cflag = B38400 | CS8 | CREAD,
	.c_lflag = ISIG | ICANON | ECHO | ECHOE | ECHOK | ECHOCTL | ECHOKE | IEXTEN,
	.c_cc = { 3, 28, 127, 21, 4, 0, 1, 0, 17, 19, 26, 0, 18, 15, 23, 22 },
};
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

static long set_settings(u64 from)
{
	if (user_check((void *)from, sizeof(settings), false))
		return -EFAULT;
	settings = *(struct termios *)from;
	return 0;
}

static long console_ioctl(struct file *f, unsigned request, u64 argument)
{
	struct console *c = f->data;
	struct winsize size = { .ws_row = (u16)boot_info->window_rows,
				.ws_col = (u16)boot_info->window_columns };
	int none = 0, process = PROCESS_ID;

	if (!c->is_terminal)
		return -ENOTTY;
	switch (request) {
	case TCGETS:
		return give(argument, &settings, sizeof(settings));
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		return set_settings(argument);
	case TIOCGWINSZ:
		return give(argument, &size, sizeof(size));
	case TIOCSWINSZ:
	case TIOCSPGRP:
	case TCFLSH:
	case TCSBRK:
	case TCXONC:
		return 0;
	case TIOCGPGRP:
	case TIOCGSID:
		return give(argument, &process, sizeof(process));
	case TIOCOUTQ:
	case FIONREAD:
		return give(argument, &none, sizeof(none));
	default:
		return -ENOTTY;
	}
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
