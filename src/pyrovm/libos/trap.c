/* What entry.S calls: system calls, exceptions, interruptions by the VMM. */
#include "calls.h"
#include "cpu.h"
#include "pagetable.h"
#include "signal.h"
#include "thread.h"
#include "trace.h"

_Static_assert(sizeof(struct regs) == 168, "entry.S pushes it");
_Static_assert(offsetof(struct pv_cpu, kernel_stack) == 8 && offsetof(struct pv_cpu, fault_stack) == 16 &&
	       offsetof(struct pv_cpu, user_rip) == 24 && offsetof(struct pv_cpu, user_rsp) == 32 &&
	       offsetof(struct pv_cpu, user_rflags) == 40 && offsetof(struct pv_cpu, pending) == 64 &&
	       offsetof(struct pv_cpu, number) == 68 &&
	       offsetof(struct pv_cpu, fault_address) == 80, "asm.h");
_Static_assert(sizeof(struct pv_header) == 112, "entry.S has it");

extern const char libos_start[], libos_text_end[];

static bool is_ours(u64 rip)
{
	return rip >= (u64)libos_start && rip < (u64)libos_text_end;
}

/* ---------------------------------------------------------------------------- system calls */

static bool has_more_to_do(const struct thread *me)
{
	return this_cpu()->pending || (me->signal_pending | process_pending) & ~me->signal_mask ||
	       me->restore_mask || me->full_restore || !(me->affinity >> cpu_number() & 1);
}

static bool is_pending(u32 bit)
{
	struct pv_cpu *cpu = this_cpu();

	if (likely(!(cpu->pending & bit)))
		return false;
	__atomic_fetch_and(&cpu->pending, ~bit, __ATOMIC_SEQ_CST);
	return true;
}

/* What is due before the program goes on; whether all registers must be restored from regs. */
static bool finish(struct regs *regs)
{
	struct thread *me = current();
	bool all;

	is_pending(PV_PENDING_INTERRUPT); /* to come here was all */
	if (is_pending(PV_PENDING_TICK))
		thread_tick();
	if (is_pending(PV_PENDING_BRANCH))
		branch_check();
	if (unlikely(!(me->affinity >> cpu_number() & 1)))
		yield();
	signal_deliver(regs);
	all = me->full_restore;
	me->full_restore = false;
	return all;
}

/* 1 where returning by a jump is enough, since only what SYSCALL preserves needs to be right. */
int syscall_dispatch(struct regs *regs);
int syscall_dispatch(struct regs *regs)
{
	struct thread *me = current();
	u64 number = regs->orig_rax;
	int result = 1;

	if (unlikely(cpus_are_many))
		cpu_enter();
	me->regs = regs;
	if (unlikely(boot_info->flags & PV_FLAG_TRACE))
		regs->rax = (u64)trace_call(regs);
	else if (likely(number < syscall_count && syscalls[number].call))
		regs->rax = (u64)syscalls[number].call(regs->rdi, regs->rsi, regs->rdx, regs->r10,
						       regs->r8, regs->r9);
	else
		regs->rax = (u64)syscall_unknown(number);
	if (unlikely(has_more_to_do(me)) || regs->rax == (u64)-ERESTARTSYS)
		result = !finish(regs);
	if (unlikely(cpus_are_many))
		cpu_leave();
	else if (unlikely(ticks_are_missing()))
		tick_update();
	return result;
}

void upcall(struct regs *regs);
void upcall(struct regs *regs)
{
	if (cpus_are_many)
		cpu_enter();
	current()->regs = regs;
	finish(regs);
	if (cpus_are_many)
		cpu_leave();
}

/* ------------------------------------------------------------------------------ exceptions */

struct exception_frame {
	u64 vector, error_code, rip, cs, rflags, rsp, ss;
};

struct place {
	struct regs *regs;
	u64 vector;
};

/* Put the registers together: on the thread's own stack if the program faulted, so that handling it
 * may sleep; else where they are. */
struct place fault_collect(struct regs *collected, const struct exception_frame *frame);
struct place fault_collect(struct regs *collected, const struct exception_frame *frame)
{
	struct regs *regs = collected;

	collected->orig_rax = frame->error_code;
	collected->rip = frame->rip;
	collected->cs = PV_USER_CODE;
	collected->rflags = frame->rflags;
	collected->rsp = frame->rsp;
	collected->ss = PV_USER_DATA;
	if (!is_ours(frame->rip)) {
		regs = (struct regs *)this_cpu()->kernel_stack - 1;
		*regs = *collected;
	}
	return (struct place){ regs, frame->vector };
}

static const char *const exceptions[PV_VECTORS] = {
	[0] = "divide error", [1] = "debug", [3] = "breakpoint", [4] = "overflow", [5] = "bound range",
	[6] = "invalid opcode", [7] = "no FPU", [8] = "double fault", [11] = "segment not present",
	[12] = "stack segment", [13] = "general protection", [14] = "page fault", [16] = "x87 error",
	[17] = "alignment check", [19] = "SIMD error",
};

static u64 fault_address(void)
{
	return this_cpu()->fault_address;
}

static void page_fault(struct regs *regs)
{
	u64 address = fault_address();
	int code = address < PV_USER_LIMIT ? space_fault(address, (u32)regs->orig_rax) : SEGV_MAPERR;

	if (code >= 100)
		signal_fault(regs, SIGBUS, code - 100, address);
	else if (code)
		signal_fault(regs, SIGSEGV, code, address);
}

/* A right that the program has been given is not in every TLB at once (space_protect()): the library
 * OS may find the old state, just as the program may. */
static bool is_stale(const struct regs *regs, u64 vector)
{
	u64 needed = PTE_PRESENT | PTE_USER | (regs->orig_rax & FAULT_WRITE ? PTE_WRITE : 0), *entry;
	bool huge;

	if (vector != 14 || fault_address() >= PV_USER_LIMIT || regs->orig_rax & FAULT_FETCH)
		return false;
	entry = pte_find(fault_address(), &huge);
	return entry && (*entry & needed) == needed;
}

/* 1 to go on in the library OS, where it was. */
int fault(struct regs *regs, u64 vector);
int fault(struct regs *regs, u64 vector)
{
	if (is_ours(regs->rip) && is_stale(regs, vector)) {
		tlb_flush();
		return 1;
	}
	if (is_ours(regs->rip))
		panic("%s in the library OS at %lx (error %lx, address %lx, rsp %lx)",
		      vector < PV_VECTORS && exceptions[vector] ? exceptions[vector] : "exception",
		      regs->rip - PV_LIBOS_VA, regs->orig_rax, fault_address(), regs->rsp);
	if (cpus_are_many)
		cpu_enter();
	current()->regs = regs;
	switch (vector) {
	case 0:
		signal_fault(regs, SIGFPE, FPE_INTDIV, regs->rip);
		break;
	case 1:
		signal_fault(regs, SIGTRAP, TRAP_TRACE, regs->rip);
		break;
	case 3:
		signal_fault(regs, SIGTRAP, SI_KERNEL, 0);
		break;
	case 4:
	case 5:
	case 12:
	case 13:
		signal_fault(regs, SIGSEGV, SI_KERNEL, 0);
		break;
	case 6:
		signal_fault(regs, SIGILL, ILL_ILLOPN, regs->rip);
		break;
	case 14:
		page_fault(regs);
		break;
	case 16:
	case 19:
		signal_fault(regs, SIGFPE, FPE_FLTINV, regs->rip);
		break;
	case 17:
		signal_fault(regs, SIGBUS, BUS_ADRALN, 0);
		break;
	default:
		signal_fault(regs, SIGSEGV, SI_KERNEL, 0);
	}
	finish(regs);
	if (cpus_are_many)
		cpu_leave();
	return 0;
}
