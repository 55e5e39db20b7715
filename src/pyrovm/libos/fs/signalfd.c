/* signalfd: pending signals, read as from a file. */
#include <linux/signalfd.h>

#include "calls.h"
#include "../signal.h"
#include "fs.h"

struct signal_file {
	u64 wanted;
};

static bool has_pending(const struct signal_file *s)
{
	return (current()->signal_pending | process_pending) & s->wanted;
}

static void describe(struct signalfd_siginfo *to, int number, const siginfo_t *from)
{
	*to = (struct signalfd_siginfo){
		.ssi_signo = (u32)number,
		.ssi_errno = from->si_errno,
		.ssi_code = from->si_code,
		.ssi_pid = (u32)from->si_pid,
		.ssi_uid = (u32)from->si_uid,
		.ssi_int = from->si_int,
		.ssi_ptr = (u64)from->si_ptr,
	};
	if (from->si_code == SI_TIMER) {
		to->ssi_pid = to->ssi_uid = 0;
		to->ssi_tid = (u32)from->si_tid;
		to->ssi_overrun = (u32)from->si_overrun;
	}
}

static long signalfd_read(struct file *f, struct io *io, u64 *position)
{
	struct signal_file *s = f->data;
	struct signalfd_siginfo out;
	long done = 0;

	(void)position;
	if (io->length < sizeof(out))
		return -EINVAL;
	while (io->length >= sizeof(out)) {
		siginfo_t info;
		int number = signal_take(current(), s->wanted, &info);

		if (!number)
			break;
		describe(&out, number, &info);
		done += (long)io_put(io, &out, sizeof(out));
	}
	return done ? done : -EAGAIN;
}

static u32 signalfd_poll(struct file *f, struct waiter *w, u32 wanted)
{
	poll_add(&signal_waiters, w);
	return has_pending(f->data) ? (POLLIN | POLLRDNORM) & wanted : 0;
}

static void signalfd_release(struct file *f)
{
	kfree(f->data);
}

static const struct file_ops signalfd_ops = {
	.kind = "signalfd",
	.read = signalfd_read,
	.poll = signalfd_poll,
	.release = signalfd_release,
};

static long make(int fd, u64 mask_address, u64 size, u32 flags)
{
	struct signal_file *s;
	struct file *f;
	u64 wanted;

	if (size != sizeof(u64) || flags & ~(u32)(SFD_CLOEXEC | SFD_NONBLOCK))
		return -EINVAL;
	if (user_check((void *)mask_address, sizeof(u64), false))
		return -EFAULT;
	wanted = *(u64 *)mask_address & ~UNBLOCKABLE;
	if (fd != -1) {
		f = fd_get(fd);
		if (!f)
			return -EBADF;
		if (f->ops != &signalfd_ops)
			return -EINVAL;
		((struct signal_file *)f->data)->wanted = wanted;
		waitq_wake(&signal_waiters, ~0u);
		return fd;
	}
	s = kalloc(sizeof(*s));
	f = s ? file_anonymous(&signalfd_ops, O_RDWR | (flags & O_NONBLOCK), s) : NULL;
	if (!f) {
		kfree(s);
		return -ENOMEM;
	}
	s->wanted = wanted;
	return file_install(f, flags & SFD_CLOEXEC);
}

CALL3(signalfd, fd, mask, size)
{
	return make((int)fd, mask, size, 0);
}

CALL4(signalfd4, fd, mask, size, flags)
{
	return make((int)fd, mask, size, (u32)flags);
}
