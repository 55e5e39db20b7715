/* Signals: sent, pending, taken, acted upon (signal(7)). */
#include "calls.h"
#include "signal.h"
#include "thread.h"

struct action actions[SIGNALS + 1];
u64 process_pending;
struct list process_queue = LIST_INIT(process_queue);
struct waitq signal_waiters = WAITQ_INIT(signal_waiters);

#define DEFAULT_IGNORED (SIGNAL_BIT(SIGCHLD) | SIGNAL_BIT(SIGURG) | SIGNAL_BIT(SIGWINCH) | SIGNAL_BIT(SIGCONT))
/* Nobody could continue a program that stops here. */
#define DEFAULT_STOPS (SIGNAL_BIT(SIGSTOP) | SIGNAL_BIT(SIGTSTP) | SIGNAL_BIT(SIGTTIN) | SIGNAL_BIT(SIGTTOU))
#define QUEUE_MAX 1024

static unsigned queued_count;

static bool is_ignored(int number)
{
	u64 handler = actions[number].handler;

	return handler == (u64)SIG_IGN ||
	       (handler == (u64)SIG_DFL && (DEFAULT_IGNORED | DEFAULT_STOPS) & SIGNAL_BIT(number));
}

const char *signal_name(int number)
{
	static const char *const names[] = {
		[SIGHUP] = "SIGHUP", [SIGINT] = "SIGINT", [SIGQUIT] = "SIGQUIT", [SIGILL] = "SIGILL",
		[SIGTRAP] = "SIGTRAP", [SIGABRT] = "SIGABRT", [SIGBUS] = "SIGBUS", [SIGFPE] = "SIGFPE",
		[SIGKILL] = "SIGKILL", [SIGUSR1] = "SIGUSR1", [SIGSEGV] = "SIGSEGV", [SIGUSR2] = "SIGUSR2",
		[SIGPIPE] = "SIGPIPE", [SIGALRM] = "SIGALRM", [SIGTERM] = "SIGTERM", [SIGSYS] = "SIGSYS",
		[SIGXCPU] = "SIGXCPU", [SIGVTALRM] = "SIGVTALRM", [SIGPROF] = "SIGPROF",
	};

	return number < (int)ARRAY_SIZE(names) && names[number] ? names[number] : "a signal";
}

/* ------------------------------------------------------------------------------------- sending */

static void notify(struct thread *target, int number)
{
	struct thread *t;

	waitq_wake(&signal_waiters, ~0u);
	if (target) {
		if (!(target->signal_mask & SIGNAL_BIT(number)))
			thread_interrupt(target);
		return;
	}
	/* To the process: whoever does not block it; one is enough. */
	list_each(t, &threads, all) {
		if (!(t->signal_mask & SIGNAL_BIT(number))) {
			thread_interrupt(t);
			return;
		}
	}
}

long signal_send_info(struct thread *t, int number, const siginfo_t *info);
long signal_send_info(struct thread *t, int number, const siginfo_t *info)
{
	u64 *pending = t ? &t->signal_pending : &process_pending;
	struct list *queue = t ? &t->signal_queue : &process_queue;
	bool is_known = *pending & SIGNAL_BIT(number);

	if (is_ignored(number) && !((t ? t : current())->signal_mask & SIGNAL_BIT(number)))
		return 0;
	if (is_known && number < SIGRTMIN)
		return 0;
	if (info && queued_count < QUEUE_MAX) {
		struct queued *q = kalloc(sizeof(*q));

		if (q) {
			q->info = *info;
			list_add(queue, &q->link);
			queued_count++;
		}
	} else if (info && number >= SIGRTMIN) {
		return -EAGAIN;
	}
	*pending |= SIGNAL_BIT(number);
	notify(t, number);
	return 0;
}

long signal_send(struct thread *t, int number, int code, u64 value, int pid)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = number;
	info.si_code = code;
	info.si_pid = pid;
	info.si_uid = boot_info->uid;
	info.si_ptr = (void *)value;
	if (code == SI_TIMER) {
		info.si_tid = pid;
		info.si_overrun = 0;
	}
	return signal_send_info(t, number, &info);
}

void signals_from_host(void)
{
	struct pv_cpu *cpu = this_cpu();
	u64 set = __atomic_exchange_n(&cpu->signals, 0, __ATOMIC_SEQ_CST);

	__atomic_fetch_and(&cpu->pending, ~(u32)PV_PENDING_SIGNAL, __ATOMIC_SEQ_CST);
	for (int number = 1; set; number++, set >>= 1)
		if (set & 1)
			signal_send(NULL, number, SI_USER, 0, 0);
}

/* -------------------------------------------------------------------------------------- taking */

static int take_from(u64 *pending, struct list *queue, u64 wanted, siginfo_t *info)
{
	u64 set = *pending & wanted;
	struct queued *q, *after, *found = NULL;
	bool more = false;
	int number;

	if (!set)
		return 0;
	/* Those of faults first: their frame must be the innermost. */
	if (set & (SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP)))
		set &= SIGNAL_BIT(SIGSEGV) | SIGNAL_BIT(SIGBUS) | SIGNAL_BIT(SIGFPE) | SIGNAL_BIT(SIGILL) | SIGNAL_BIT(SIGTRAP);
	number = __builtin_ctzll(set) + 1;
	memset(info, 0, sizeof(*info));
	info->si_signo = number;
	list_each_safe(q, after, queue, link) {
		if (q->info.si_signo != number)
			continue;
		if (found) {
			more = true;
			break;
		}
		found = q;
	}
	if (found) {
		*info = found->info;
		list_remove(&found->link);
		kfree(found);
		queued_count--;
	}
	if (!more)
		*pending &= ~SIGNAL_BIT(number);
	return number;
}

int signal_take(struct thread *t, u64 wanted, siginfo_t *info)
{
	int number = take_from(&t->signal_pending, &t->signal_queue, wanted, info);

	return number ? number : take_from(&process_pending, &process_queue, wanted, info);
}

bool signal_is_pending(struct thread *t)
{
	if (this_cpu()->pending & PV_PENDING_SIGNAL)
		signals_from_host();
	return (t->signal_pending | process_pending) & ~t->signal_mask;
}

void signal_set_mask(struct thread *t, u64 mask)
{
	t->signal_mask = mask & ~UNBLOCKABLE;
}

/* -------------------------------------------------------------------------------------- acting */

static void restart_call(struct regs *regs, const struct action *action)
{
	if ((s64)regs->orig_rax < 0 || regs->rax != (u64)-ERESTARTSYS)
		return;
	if (action && !(action->flags & SA_RESTART)) {
		regs->rax = (u64)-EINTR;
		return;
	}
	regs->rax = regs->orig_rax;
	regs->rip -= 2; /* SYSCALL, once more */
}

void signal_deliver(struct regs *regs)
{
	struct thread *me = current();
	siginfo_t info;

	while (signal_is_pending(me)) {
		int number = signal_take(me, ~me->signal_mask, &info);
		struct action action = actions[number];
		u64 mask = me->restore_mask ? me->saved_mask : me->signal_mask;

		if (!number)
			break;
		if (is_ignored(number))
			continue;
		if (action.handler == (u64)SIG_DFL)
			process_exit(PV_EXIT_SIGNAL + (u32)number);
		restart_call(regs, &action);
		me->restore_mask = false;
		if (action.flags & SA_RESETHAND)
			actions[number].handler = (u64)SIG_DFL;
		if (!signal_push_frame(regs, number, &info, &action, mask))
			signal_report_fault(regs, SIGSEGV, regs->rsp);
		signal_set_mask(me, me->signal_mask | action.mask |
					    (action.flags & SA_NODEFER ? 0 : SIGNAL_BIT(number)));
		me->full_restore = true;
	}
	if (me->restore_mask) {
		me->restore_mask = false;
		signal_set_mask(me, me->saved_mask);
	}
	restart_call(regs, NULL);
}

/* A fault's signal cannot be ignored or blocked: then it ends the program. */
void signal_fault(struct regs *regs, int number, int code, u64 address)
{
	struct thread *me = current();
	siginfo_t info;

	if (me->signal_mask & SIGNAL_BIT(number) || actions[number].handler == (u64)SIG_DFL ||
	    actions[number].handler == (u64)SIG_IGN)
		signal_report_fault(regs, number, address);
	memset(&info, 0, sizeof(info));
	info.si_signo = number;
	info.si_code = code;
	info.si_addr = (void *)address;
	signal_send_info(me, number, &info);
}
