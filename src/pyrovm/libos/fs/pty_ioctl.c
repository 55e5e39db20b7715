/* Pseudo terminals: ioctl_tty(2). */
#include "../calls.h"
#include "pty.h"

static long give(u64 to, const void *what, size_t n)
{
	if (user_check((void *)to, n, true))
		return -EFAULT;
	memcpy((void *)to, what, n);
	return 0;
}

static void flush(struct pty *p, bool input, bool output)
{
	if (input)
		p->input_used = p->line = 0;
	if (output)
		p->output_used = 0;
	waitq_wake(&p->master, ~0u);
	waitq_wake(&p->slave, ~0u);
}

static long set_size(struct pty *p, u64 from)
{
	const struct winsize *s = (void *)from;
	bool is_other;

	if (user_check(s, sizeof(*s), false))
		return -EFAULT;
	is_other = memcmp(s, &p->size, sizeof(*s));
	p->size = *s;
	if (is_other && p->is_controlling)
		signal_send(NULL, SIGWINCH, SI_KERNEL, 0, 0);
	return 0;
}

/* What both ends understand: the settings are the terminal's. */
static long common_ioctl(struct pty *p, unsigned request, u64 argument, bool is_master)
{
	int process = PROCESS_ID;

	switch (request) {
	case TCGETS:
		return give(argument, &p->settings, sizeof(p->settings));
	case TCSETS:
	case TCSETSW:
	case TCSETSF:
		if (user_check((void *)argument, sizeof(p->settings), false))
			return -EFAULT;
		if (request == TCSETSF)
			flush(p, true, false);
		pty_set(p, (const struct termios *)argument);
		return 0;
	case TIOCGWINSZ:
		return give(argument, &p->size, sizeof(p->size));
	case TIOCSWINSZ:
		return set_size(p, argument);
	case TCFLSH:
		if (argument > 2)
			return -EINVAL;
		flush(p, argument != (is_master ? 0 : 1), argument != (is_master ? 1 : 0));
		return 0;
	case TIOCSCTTY:
		p->is_controlling = !is_master;
		return is_master ? -ENOTTY : 0;
	case TIOCNOTTY:
		p->is_controlling = false;
		return 0;
	case TIOCGPGRP:
	case TIOCGSID:
		return p->is_controlling ? give(argument, &process, sizeof(process)) : -ENOTTY;
	case TIOCSPGRP:
		return p->is_controlling ? 0 : -ENOTTY;
	case TCSBRK:
	case TCXONC:
		return 0;
	default:
		return -ENOTTY;
	}
}

long pty_slave_ioctl(struct file *f, unsigned request, u64 argument)
{
	struct pty *p = f->data;
	int waiting = pty_is_readable(p) ? (int)(p->input_used - p->line) : 0, unread = (int)p->output_used;

	if (request == FIONREAD)
		return give(argument, &waiting, sizeof(waiting));
	if (request == TIOCOUTQ)
		return give(argument, &unread, sizeof(unread));
	return common_ioctl(p, request, argument, false);
}

static long open_peer(struct pty *p, u32 flags)
{
	struct file *f;
	long error;

	if (!p->entry)
		return -EIO;
	error = open_entry(p->entry, flags & (O_ACCMODE | O_NONBLOCK), &f);
	return error ? error : file_install(f, flags & O_CLOEXEC);
}

long pty_master_ioctl(struct file *f, unsigned request, u64 argument)
{
	struct pty *p = f->data;
	int number = (int)p->number, locked = p->is_locked, unread = (int)p->output_used;

	switch (request) {
	case TIOCGPTN:
		return give(argument, &number, sizeof(number));
	case TIOCSPTLCK:
		if (user_check((void *)argument, sizeof(int), false))
			return -EFAULT;
		p->is_locked = *(int *)argument;
		return 0;
	case TIOCGPTLCK:
		return give(argument, &locked, sizeof(locked));
	case TIOCGPTPEER:
		return open_peer(p, (u32)argument);
	case FIONREAD:
		return give(argument, &unread, sizeof(unread));
	default:
		return common_ioctl(p, request, argument, true);
	}
}
