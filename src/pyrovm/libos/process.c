/* The one process: its threads' beginnings and ends. */
#include "calls.h"
#include "cpu.h"
#include "file.h"
#include "signal.h"
#include "thread.h"
#include "trace.h"
#include "vma.h"


const char *program_name = "?";

/* --------------------------------------------------------------------------------------- ends */

void process_exit(u32 status)
{
	if (boot_info->flags & PV_FLAG_TRACE)
		trace_unknown_calls();
	share_map_flush_all();
	host_exit(status);
}

void process_out_of_memory(void)
{
	log_line("%s: out of memory: %lu MiB are in use; give it more with --memory", program_name,
		 (page_count_total() - page_count_free()) >> 8);
	process_exit(PV_EXIT_SIGNAL + SIGKILL);
}

static const char *cause_of(int number, u64 rip, u64 address)
{
	switch (number) {
	case SIGFPE:
		return "arithmetic, as a division by zero";
	case SIGILL:
		return "executes what is no instruction";
	case SIGTRAP:
		return "a breakpoint";
	case SIGBUS:
		return "reads behind the end of a mapped file";
	}
	if (address == rip)
		return "executes what is no code";
	if (address < PAGE_SIZE * 16)
		return "uses a null pointer";
	return "accesses memory that is not its own";
}

void signal_report_fault(const struct regs *regs, int number, u64 address)
{
	struct vma *code = vma_at(regs->rip);
	struct vma *above = vma_find(address);
	const char *cause = cause_of(number, regs->rip, address);
	const char *path = code && code->file ? file_path(code->file) : NULL;

	/* Just below a stack: it has been used up. */
	if (number == SIGSEGV && above && above->flags & MAP_GROWSDOWN && above->start - address < 0x100000)
		cause = "runs off its stack";
	log_line("%s: %s: %s, at address %lx, instruction %lx%s%s", program_name, signal_name(number),
		 cause, address, path ? regs->rip - code->start + code->offset : regs->rip,
		 path ? " of " : "", path ? path : "");
	process_exit(PV_EXIT_SIGNAL + (u32)number);
}

static void robust_futexes(struct thread *t)
{
	u64 *head = (u64 *)t->robust_list, *entry;
	s64 offset;

	if (user_check(head, 24, false))
		return;
	offset = (s64)head[1];
	entry = (u64 *)(head[0] & ~1ULL);
	for (int i = 0; i < 2048 && entry != head; i++) {
		u32 *word = (u32 *)((u64)entry + (u64)offset);

		if (user_check(entry, 8, false) || user_check(word, 4, true))
			return;
		u32 held = __atomic_load_n(word, __ATOMIC_RELAXED);
		while ((held & FUTEX_TID_MASK) == (u32)t->tid) {
			if (__atomic_compare_exchange_n(word, &held, (held & FUTEX_WAITERS) | FUTEX_OWNER_DIED,
							false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED)) {
				futex_wake((u64)word, 1, ~0u);
				break;
			}
		}
		entry = (u64 *)(*entry & ~1ULL);
	}
}

void thread_exit(u64 status)
{
	struct thread *me = current();

	if (me->robust_list)
		robust_futexes(me);
	if (me->clear_tid && !user_check((void *)me->clear_tid, 4, true)) {
		*(volatile u32 *)me->clear_tid = 0;
		futex_wake(me->clear_tid, 1, ~0u);
	}
	if (thread_count == 1)
		process_exit((u32)status & 0xff);
	thread_forget(me);
	thread_count--;
	me->state = THREAD_DEAD;
	schedule();
	panic("a dead thread runs");
}

SYSCALL(exit)
{
	thread_exit(a);
}

SYSCALL(exit_group)
{
	process_exit((u32)a & 0xff);
}

/* ---------------------------------------------------------------------------------- beginnings */

#define THREAD_FLAGS (CLONE_VM | CLONE_SIGHAND | CLONE_THREAD)

static long no_processes(const char *call)
{
	static bool is_told;

	if (!is_told)
		log_line("%s: %s: a microVM of this kind runs one process; the call fails with ENOSYS",
			 program_name, call);
	is_told = true;
	return -ENOSYS;
}

static long start_thread(u64 flags, u64 stack, u64 parent_tid, u64 child_tid, u64 tls)
{
	struct thread *me = current(), *t;
	struct regs regs = *me->regs;

	if ((flags & THREAD_FLAGS) != THREAD_FLAGS)
		return no_processes(flags & CLONE_VFORK ? "vfork" : "fork");
	if ((flags & CLONE_PARENT_SETTID && user_check((void *)parent_tid, 4, true)) ||
	    (flags & (CLONE_CHILD_SETTID) && user_check((void *)child_tid, 4, true)))
		return -EFAULT;
	if (flags & CLONE_SETTLS && tls >= PV_USER_LIMIT)
		return -EPERM;
	t = thread_create();
	if (!t)
		return -EAGAIN;
	fpu_save(t->fpu);
	t->signal_mask = me->signal_mask;
	memcpy(t->name, me->name, sizeof(t->name));
	t->policy = me->policy_resets ? SCHED_NORMAL : me->policy;
	t->priority = me->policy_resets ? 0 : me->priority;
	__asm__ volatile("rdfsbase %0" : "=r"(t->fs_base));
	if (flags & CLONE_SETTLS)
		t->fs_base = tls;
	if (flags & CLONE_CHILD_CLEARTID)
		t->clear_tid = child_tid;
	if (flags & CLONE_PARENT_SETTID)
		*(u32 *)parent_tid = (u32)t->tid;
	if (flags & CLONE_CHILD_SETTID)
		*(u32 *)child_tid = (u32)t->tid;
	regs.rax = 0;
	if (stack)
		regs.rsp = stack;
	t->affinity = me->affinity;
	thread_start(t, &regs);
	cpu_start_for_threads();
	tick_update();
	return t->tid;
}

SYSCALL(clone)
{
	return start_thread(a, b, c, d, e);
}

SYSCALL(clone3)
{
	u64 *args = (u64 *)a; /* struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal,
				 stack, stack_size, tls, ... */

	if (b < 64 || b > PAGE_SIZE)
		return -EINVAL;
	if (user_check(args, b, false))
		return -EFAULT;
	return start_thread(args[0], args[5] ? args[5] + args[6] : 0, args[3], args[2], args[7]);
}

SYSCALL(fork)
{
	return no_processes(current()->regs->orig_rax == __NR_vfork ? "vfork" : "fork");
}

SYSCALL(execve)
{
	return no_processes("execve");
}

SYSCALL(wait4)
{
	return (u32)c & ~(u32)(WNOHANG | WUNTRACED | WCONTINUED | __WNOTHREAD | __WCLONE | __WALL) ? -EINVAL :
													  -ECHILD;
}

SYSCALL(waitid)
{
	return (u32)d & (WEXITED | WSTOPPED | WCONTINUED) ? -ECHILD : -EINVAL;
}

/* ------------------------------------------------------------------------------------ settings */

SYSCALL(set_tid_address)
{
	current()->clear_tid = a;
	return current()->tid;
}

SYSCALL(set_robust_list)
{
	if (b != 24)
		return -EINVAL;
	current()->robust_list = a;
	return 0;
}

SYSCALL(get_robust_list)
{
	struct thread *t = (int)a ? thread_find((int)a) : current();

	if (!t)
		return -ESRCH;
	if (user_check((void *)b, 8, true) || user_check((void *)c, 8, true))
		return -EFAULT;
	*(u64 *)b = t->robust_list;
	*(u64 *)c = 24;
	return 0;
}

SYSCALL(arch_prctl)
{
	switch (a) {
	case ARCH_SET_FS:
		if (b >= PV_USER_LIMIT)
			return -EPERM;
		__asm__ volatile("wrfsbase %0" : : "r"(b));
		return 0;
	case ARCH_GET_FS:
		if (user_check((void *)b, 8, true))
			return -EFAULT;
		__asm__ volatile("rdfsbase %0" : "=r"(*(u64 *)b));
		return 0;
	default: /* GS is the library OS's */
		return -EINVAL;
	}
}

#define PR_SET_PDEATHSIG 1
#define PR_GET_PDEATHSIG 2
#define PR_GET_DUMPABLE 3
#define PR_SET_DUMPABLE 4
#define PR_GET_KEEPCAPS 7
#define PR_SET_NAME 15
#define PR_GET_NAME 16
#define PR_CAPBSET_READ 23
#define PR_SET_TIMERSLACK 29
#define PR_GET_TIMERSLACK 30
#define PR_SET_NO_NEW_PRIVS 38
#define PR_GET_NO_NEW_PRIVS 39
#define PR_SET_VMA 0x53564d41

SYSCALL(prctl)
{
	static bool is_dumpable = true; /* told, and nothing else: there are no cores, and no parent */
	static int parent_death_signal;
	struct thread *me = current();

	switch (a) {
	case PR_SET_NAME: {
		long n = user_string((const char *)b, 15);

		if (n == -EFAULT)
			return n;
		memset(me->name, 0, sizeof(me->name));
		memcpy(me->name, (const void *)b, n < 0 ? 15 : (size_t)n);
		return 0;
	}
	case PR_GET_NAME:
		if (user_check((void *)b, 16, true))
			return -EFAULT;
		memcpy((void *)b, me->name, 16);
		return 0;
	case PR_GET_NO_NEW_PRIVS:
		return 1;
	case PR_GET_DUMPABLE:
		return is_dumpable;
	case PR_SET_DUMPABLE:
		if (b > 1)
			return -EINVAL;
		is_dumpable = b;
		return 0;
	case PR_GET_PDEATHSIG:
		if (user_check((void *)b, 4, true))
			return -EFAULT;
		*(int *)b = parent_death_signal;
		return 0;
	case PR_SET_PDEATHSIG:
		if (b > SIGNALS)
			return -EINVAL;
		parent_death_signal = (int)b;
		return 0;
	case PR_GET_TIMERSLACK:
		return 50000;
	case PR_SET_TIMERSLACK:
	case PR_SET_NO_NEW_PRIVS:
	case PR_GET_KEEPCAPS:
	case PR_SET_VMA:
		return 0;
	case PR_CAPBSET_READ:
		return 0;
	default:
		return -EINVAL;
	}
}

SYSCALL(sched_yield)
{
	if (threads_are_waiting())
		yield();
	return 0;
}
