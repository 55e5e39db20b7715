/* The system calls about signals. */
#include "calls.h"
#include "signal.h"
#include "thread.h"

long signal_send_info(struct thread *t, int number, const siginfo_t *info);

long sys_rt_sigaction(u64 number, u64 user_action, u64 user_old, u64 size, u64 e, u64 f)
{
	struct action *new = (struct action *)user_action, *old = (struct action *)user_old, before;

	if (size != 8 || number < 1 || number > SIGNALS ||
	    (new && (number == SIGKILL || number == SIGSTOP)))
		return -EINVAL;
	if (user_check(new, new ? sizeof(*new) : 0, false) || user_check(old, old ? sizeof(*old) : 0, true))
		return -EFAULT;
	before = actions[number];
	if (new) {
		actions[number] = *new;
		actions[number].mask &= ~UNBLOCKABLE;
	}
	if (old)
		*old = before;
	return 0;
}

long sys_rt_sigprocmask(u64 how, u64 user_set, u64 user_old, u64 size, u64 e, u64 f)
{
	struct thread *me = current();
	u64 *set = (u64 *)user_set, *old = (u64 *)user_old, before = me->signal_mask;

	if (size != 8)
		return -EINVAL;
	if (user_check(set, set ? 8 : 0, false) || user_check(old, old ? 8 : 0, true))
		return -EFAULT;
	if (set) {
		switch (how) {
		case SIG_BLOCK: signal_set_mask(me, before | *set); break;
		case SIG_UNBLOCK: signal_set_mask(me, before & ~*set); break;
		case SIG_SETMASK: signal_set_mask(me, *set); break;
		default: return -EINVAL;
		}
	}
	if (old)
		*old = before;
	return 0;
}

long sys_rt_sigreturn(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	return signal_pop_frame(current()->regs);
}

long sys_rt_sigpending(u64 user_set, u64 size, u64 c, u64 d, u64 e, u64 f)
{
	struct thread *me = current();

	if (size > 8)
		return -EINVAL;
	if (user_check((void *)user_set, size, true))
		return -EFAULT;
	signal_is_pending(me);
	u64 set = (me->signal_pending | process_pending) & me->signal_mask;
	memcpy((void *)user_set, &set, size);
	return 0;
}

long sys_rt_sigsuspend(u64 user_set, u64 size, u64 c, u64 d, u64 e, u64 f)
{
	struct thread *me = current();

	if (size != 8)
		return -EINVAL;
	if (user_check((void *)user_set, 8, false))
		return -EFAULT;
	me->saved_mask = me->signal_mask;
	me->restore_mask = true; /* after the handler, which the new mask lets in */
	signal_set_mask(me, *(u64 *)user_set);
	while (thread_sleep(FOREVER) != -EINTR)
		;
	return -EINTR;
}

long sys_pause(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	while (thread_sleep(FOREVER) != -EINTR)
		;
	return -EINTR;
}

long sys_rt_sigtimedwait(u64 user_set, u64 user_info, u64 user_timeout, u64 size, u64 e, u64 f)
{
	struct thread *me = current();
	const struct __kernel_timespec *timeout = (const void *)user_timeout;
	siginfo_t info;
	u64 wanted, deadline = FOREVER, ns;
	int number;

	if (size != 8)
		return -EINVAL;
	if (user_check((void *)user_set, 8, false) || user_check((void *)user_info, user_info ? sizeof(info) : 0, true) ||
	    user_check(timeout, timeout ? sizeof(*timeout) : 0, false))
		return -EFAULT;
	wanted = *(u64 *)user_set & ~UNBLOCKABLE;
	if (timeout) {
		long error = time_to_ns(timeout, &ns);

		if (error)
			return error;
		deadline = clock_monotonic() + ns;
	}
	for (;;) {
		long result;

		signal_is_pending(me);
		number = signal_take(me, wanted, &info);
		if (number)
			break;
		/* Those waited for are blocked, and yet end the sleep. */
		result = sleep_on(&signal_waiters, deadline);
		if (result == -ETIMEDOUT)
			return -EAGAIN;
		if (result == -EINTR && !((me->signal_pending | process_pending) & wanted))
			return -EINTR;
	}
	if (user_info && !user_check((void *)user_info, sizeof(info), true))
		*(siginfo_t *)user_info = info;
	return number;
}

static long send(struct thread *t, u64 number, int code)
{
	if (number > SIGNALS)
		return -EINVAL;
	return number ? signal_send(t, (int)number, code, 0, PROCESS_ID) : 0;
}

long sys_kill(u64 pid, u64 number, u64 c, u64 d, u64 e, u64 f)
{
	int target = (int)pid;

	if (target != PROCESS_ID && target != 0 && target != -1 && target != -PROCESS_ID)
		return -ESRCH;
	return send(NULL, number, SI_USER);
}

long sys_tkill(u64 tid, u64 number, u64 c, u64 d, u64 e, u64 f)
{
	struct thread *t = thread_find((int)tid);

	return t ? send(t, number, SI_TKILL) : -ESRCH;
}

long sys_tgkill(u64 pid, u64 tid, u64 number, u64 d, u64 e, u64 f)
{
	if ((int)pid <= 0 || (int)tid <= 0)
		return -EINVAL;
	return pid == PROCESS_ID ? sys_tkill(tid, number, 0, d, e, f) : -ESRCH;
}

static long queue(struct thread *t, u64 number, u64 user_info)
{
	siginfo_t info;

	if (number > SIGNALS)
		return -EINVAL;
	if (user_check((void *)user_info, sizeof(info), false))
		return -EFAULT;
	info = *(siginfo_t *)user_info;
	if (!number)
		return 0; /* only whether there is somebody */
	info.si_signo = (int)number;
	return signal_send_info(t, (int)number, &info);
}

long sys_rt_sigqueueinfo(u64 pid, u64 number, u64 info, u64 d, u64 e, u64 f)
{
	return pid == PROCESS_ID ? queue(NULL, number, info) : -ESRCH;
}

long sys_rt_tgsigqueueinfo(u64 pid, u64 tid, u64 number, u64 info, u64 e, u64 f)
{
	struct thread *t = thread_find((int)tid);

	return pid == PROCESS_ID && t ? queue(t, number, info) : -ESRCH;
}

long sys_sigaltstack(u64 user_new, u64 user_old, u64 c, u64 d, u64 e, u64 f)
{
	struct thread *me = current();
	stack_t *new = (stack_t *)user_new, *old = (stack_t *)user_old, before;
	bool is_active = me->regs->rsp - me->alt_stack < me->alt_stack_size;

	memset(&before, 0, sizeof(before));
	before.ss_sp = (void *)me->alt_stack;
	before.ss_size = me->alt_stack_size;
	before.ss_flags = !me->alt_stack_size ? SS_DISABLE : is_active ? SS_ONSTACK : 0;
	if (user_check(new, new ? sizeof(*new) : 0, false) || user_check(old, old ? sizeof(*old) : 0, true))
		return -EFAULT;
	if (new) {
		stack_t wanted = *new;

		if (is_active)
			return -EPERM;
		if (wanted.ss_flags & ~(SS_DISABLE | SS_ONSTACK | (int)SS_AUTODISARM))
			return -EINVAL;
		if (!(wanted.ss_flags & SS_DISABLE) && wanted.ss_size < MINSIGSTKSZ)
			return -ENOMEM;
		me->alt_stack = wanted.ss_flags & SS_DISABLE ? 0 : (u64)wanted.ss_sp;
		me->alt_stack_size = wanted.ss_flags & SS_DISABLE ? 0 : wanted.ss_size;
		me->alt_stack_flags = 0;
	}
	if (old)
		*old = before;
	return 0;
}
