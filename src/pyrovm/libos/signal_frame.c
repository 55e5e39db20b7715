/*
 * The frame of a signal handler on the program's stack, laid out as Linux does (struct rt_sigframe,
 * arch/x86/include/asm/sigframe.h), since unwinders and run-time systems look into it.
 */
#include "calls.h"
#include "exec.h"
#include "signal.h"
#include "thread.h"

struct frame {
	u64 return_address;
	struct ucontext context;
	siginfo_t info;
};

#define RED_ZONE 128
#define RFLAGS_USER 0x240dd5ULL /* what a program may change: arithmetic, DF, TF, AC, ID */
#define XSAVE_HEADER 512
#define SOFTWARE_BYTES 464 /* of the FXSAVE area */

struct software_bytes { /* struct _fpx_sw_bytes */
	u32 magic1, extended_size;
	u64 features;
	u32 xstate_size, padding[7];
};

static bool is_on(const struct thread *t, u64 address)
{
	return address - t->alt_stack < t->alt_stack_size;
}

static u64 push_fpu(u64 top)
{
	size_t size = fpu_size(), space = size + (boot_info->xcr0 ? 4 : 0);
	u64 at = ALIGN_DOWN(top - space, 64);
	struct software_bytes *software = (struct software_bytes *)(at + SOFTWARE_BYTES);

	if (user_check((void *)at, space, true))
		return 0;
	if (boot_info->xcr0)
		memset((void *)(at + XSAVE_HEADER), 0, 64);
	fpu_save((void *)at);
	memset(software, 0, sizeof(*software));
	if (boot_info->xcr0) {
		software->magic1 = FP_XSTATE_MAGIC1;
		software->extended_size = (u32)space;
		software->features = boot_info->xcr0;
		software->xstate_size = (u32)size;
		*(u32 *)(at + size) = FP_XSTATE_MAGIC2;
	}
	return at;
}

bool signal_push_frame(struct regs *regs, int number, const siginfo_t *info,
		       const struct action *action, u64 mask)
{
	struct thread *me = current();
	u64 top = regs->rsp - RED_ZONE, fpu;
	bool switches = action->flags & SA_ONSTACK && me->alt_stack_size && !is_on(me, regs->rsp) &&
			!(me->alt_stack_flags & SS_DISABLE);
	struct frame *frame;
	struct sigcontext *c;

	if (switches)
		top = me->alt_stack + me->alt_stack_size;
	fpu = push_fpu(top);
	if (!fpu)
		return false;
	/* As after a call: the stack is misaligned by the return address. */
	frame = (struct frame *)(ALIGN_DOWN(fpu - sizeof(*frame), 16) - 8);
	if (user_check(frame, sizeof(*frame), true))
		return false;
	memset(frame, 0, sizeof(*frame));
	frame->return_address = action->restorer;
	frame->info = *info;
	frame->context.uc_flags = UC_SIGCONTEXT_SS | UC_STRICT_RESTORE_SS |
				  (boot_info->xcr0 ? UC_FP_XSTATE : 0);
	frame->context.uc_stack.ss_sp = (void *)me->alt_stack;
	frame->context.uc_stack.ss_size = me->alt_stack_size;
	frame->context.uc_stack.ss_flags =
		!me->alt_stack_size ? SS_DISABLE : is_on(me, regs->rsp) ? SS_ONSTACK : 0;
	memcpy(&frame->context.uc_sigmask, &mask, sizeof(mask));
	c = &frame->context.uc_mcontext;
	c->r8 = regs->r8, c->r9 = regs->r9, c->r10 = regs->r10, c->r11 = regs->r11;
	c->r12 = regs->r12, c->r13 = regs->r13, c->r14 = regs->r14, c->r15 = regs->r15;
	c->rdi = regs->rdi, c->rsi = regs->rsi, c->rbp = regs->rbp, c->rbx = regs->rbx;
	c->rdx = regs->rdx, c->rax = regs->rax, c->rcx = regs->rcx, c->rsp = regs->rsp;
	c->rip = regs->rip;
	c->eflags = regs->rflags;
	c->cs = PV_USER_CODE;
	c->ss = PV_USER_DATA;
	c->cr2 = (u64)info->si_addr;
	c->trapno = number == SIGSEGV || number == SIGBUS ? 14 : 0;
	c->err = (s64)regs->orig_rax < 0 ? 0 : regs->orig_rax;
	c->fpstate = (void *)fpu;

	regs->rdi = (u64)number;
	regs->rsi = (u64)&frame->info;
	regs->rdx = (u64)&frame->context;
	regs->rax = 0;
	regs->rip = action->handler;
	regs->rsp = (u64)frame;
	regs->rflags &= ~0x500ULL; /* DF, TF */
	regs->orig_rax = (u64)-1;
	return true;
}

/* XRSTOR of what the program may have changed must not fault. */
static bool restore_fpu(u64 at)
{
	u8 *area = (u8 *)at;
	u64 features, compaction;

	if (at & 63 || user_check(area, fpu_size(), true))
		return false;
	*(u32 *)(area + 24) &= 0xffff; /* MXCSR */
	if (boot_info->xcr0) {
		memcpy(&features, area + XSAVE_HEADER, 8);
		memcpy(&compaction, area + XSAVE_HEADER + 8, 8);
		if (features & ~boot_info->xcr0 || compaction)
			return false;
		memset(area + XSAVE_HEADER + 16, 0, 48);
	}
	fpu_restore(area);
	return true;
}

long signal_pop_frame(struct regs *regs)
{
	struct thread *me = current();
	struct frame *frame = (struct frame *)(regs->rsp - 8);
	struct sigcontext *c = &frame->context.uc_mcontext;
	stack_t *stack = &frame->context.uc_stack;
	u64 mask;

	if (user_check(frame, sizeof(*frame), true) || c->rip >= PV_USER_LIMIT ||
	    (c->fpstate && !restore_fpu((u64)c->fpstate)))
		signal_report_fault(regs, SIGSEGV, regs->rsp);
	memcpy(&mask, &frame->context.uc_sigmask, sizeof(mask));
	signal_set_mask(me, mask);
	if (!(stack->ss_flags & SS_DISABLE)) {
		me->alt_stack = (u64)stack->ss_sp;
		me->alt_stack_size = stack->ss_size;
	}
	regs->r8 = c->r8, regs->r9 = c->r9, regs->r10 = c->r10, regs->r11 = c->r11;
	regs->r12 = c->r12, regs->r13 = c->r13, regs->r14 = c->r14, regs->r15 = c->r15;
	regs->rdi = c->rdi, regs->rsi = c->rsi, regs->rbp = c->rbp, regs->rbx = c->rbx;
	regs->rdx = c->rdx, regs->rcx = c->rcx, regs->rsp = c->rsp;
	regs->rip = c->rip;
	regs->rflags = (c->eflags & RFLAGS_USER) | 2;
	regs->orig_rax = (u64)-1;
	me->full_restore = true;
	return (long)c->rax;
}

size_t fpu_frame_size(void)
{
	return sizeof(struct frame) + fpu_size() + 4 + 64 + 16 + RED_ZONE;
}
