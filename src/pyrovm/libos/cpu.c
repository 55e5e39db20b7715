/*
 * Several vCPUs.  The library OS is one CPU's at a time: whoever comes from the program takes the
 * lock, and gives it back on the way out or while it waits for the host.  What is in here is thus
 * written as if there was one CPU, but for three things: threads of the program run meanwhile; an
 * idle CPU has to be told of a thread that can run; and whoever takes rights or pages away from the
 * program has to see that no other CPU's TLB still knows them.
 *
 * Until the program has its second thread nothing of this happens, however many vCPUs there are.
 */
#include "cpu.h"

#include "thread.h"

struct cpu cpus[PV_CPU_MAX];
bool cpus_are_many;

#define SPIN_US 20 /* waiting in the host costs about three times that */

static u64 read_tsc(void)
{
	u32 low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (u64)high << 32 | low;
}

static void ring(unsigned number)
{
	*(volatile u64 *)(PV_CALL_PAGE + PV_BELL + 8 * number) = 0;
}

/* ------------------------------------------------------------------------------------ the lock */

enum { FREE, TAKEN, SLEPT_FOR };
static u32 lock;
static u32 sleepers; /* a bit for each CPU that waits in the host for the lock */
static u64 tlb_generation; /* one more with each page or right that is taken away */

static bool try_lock(u32 how)
{
	u32 expected = FREE;

	return __atomic_load_n(&lock, __ATOMIC_RELAXED) == FREE &&
	       __atomic_compare_exchange_n(&lock, &expected, how, false, __ATOMIC_SEQ_CST, __ATOMIC_RELAXED);
}

static bool spin_for_lock(void)
{
	u64 end = read_tsc() + boot_info->tsc_khz * SPIN_US / 1000;

	do {
		for (int i = 0; i < 16; i++) {
			if (try_lock(TAKEN))
				return true;
			__builtin_ia32_pause();
		}
	} while ((s64)(end - read_tsc()) > 0);
	return false;
}

static void lock_take(void)
{
	unsigned number = cpu_number();
	struct cpu *me = &cpus[number];

	if (!try_lock(TAKEN) && !spin_for_lock()) {
		__atomic_fetch_or(&sleepers, 1u << number, __ATOMIC_SEQ_CST);
		while (__atomic_exchange_n(&lock, SLEPT_FOR, __ATOMIC_SEQ_CST) != FREE)
			host_call(PV_WAIT, FOREVER, 0, 0, 0, 0, 0);
		__atomic_fetch_and(&sleepers, ~(1u << number), __ATOMIC_SEQ_CST);
	}
	if (me->tlb_seen != tlb_generation) {
		me->tlb_seen = tlb_generation;
		tlb_flush();
	}
}

static void lock_give(void)
{
	unsigned next = cpu_number() + 1; /* in turn, so that none waits for ever */
	u32 waiting;

	if (__atomic_exchange_n(&lock, FREE, __ATOMIC_SEQ_CST) != SLEPT_FOR)
		return;
	waiting = __atomic_load_n(&sleepers, __ATOMIC_SEQ_CST);
	if (waiting >> next)
		ring(next + (unsigned)__builtin_ctz(waiting >> next));
	else if (waiting)
		ring((unsigned)__builtin_ctz(waiting));
}

void cpu_enter(void)
{
	__atomic_store_n(&my_cpu()->in_program, false, __ATOMIC_RELAXED);
	lock_take();
}

void cpu_leave(void)
{
	threads_share_out();
	__atomic_store_n(&my_cpu()->in_program, true, __ATOMIC_RELAXED);
	lock_give();
}

/* ------------------------------------------------------------------------------------- start */

static bool prepare(unsigned number)
{
	struct cpu *cpu = &cpus[number];

	cpu->idler = thread_create_idler();
	cpu->wakes_at = FOREVER;
	cpu->tlb_seen = tlb_generation;
	return cpu->idler;
}

void cpu_start(unsigned number)
{
	if (cpus[number].idler || number >= boot_info->vcpu_count)
		return;
	if (!cpus[0].idler && !prepare(0))
		return; /* no memory; the first one does it all */
	if (number && !prepare(number))
		return;
	if (!cpus_are_many) {
		cpus_are_many = true;
		lock = TAKEN; /* by this one, which is the only one yet */
	}
	if (host_call(PV_INTERRUPT, 1UL << number, PV_NOW, 0, 0, 0, 0))
		panic("vCPU %u does not start", number);
}

void cpu_start_for_threads(void)
{
	unsigned wanted = MIN(thread_count, boot_info->vcpu_count);

	for (unsigned number = 1; number < wanted; number++)
		cpu_start(number);
}

/* What a vCPU does first that was started. */
void cpu_begin(void) __attribute__((noreturn));
void cpu_begin(void)
{
	struct thread *idler = cpus[cpu_number()].idler;
	u64 nowhere;

	lock_take();
	this_cpu()->current = (u64)idler;
	this_cpu()->kernel_stack = (u64)idler->stack + THREAD_STACK;
	switch_stack(&nowhere, idler->stack_pointer);
	__builtin_unreachable();
}

/* --------------------------------------------------------------------------------- the others */

u32 cpus_idle(bool is_rung)
{
	u32 found = 0;

	for (unsigned number = 0; number < boot_info->vcpu_count; number++)
		if (cpus[number].is_idle && cpus[number].is_rung == is_rung)
			found |= 1u << number;
	return found;
}

u64 cpus_started(void)
{
	u64 found = 1;

	for (unsigned number = 1; number < boot_info->vcpu_count; number++)
		if (cpus[number].idler)
			found |= 1UL << number;
	return found;
}

u32 cpus_busy(void)
{
	return (u32)cpus_started() & ~(cpus_idle(false) | cpus_idle(true));
}

void cpu_ring(unsigned number)
{
	cpus[number].is_rung = true;
	ring(number);
}

void cpu_interrupt_thread(const struct thread *t)
{
	if (cpus_are_many && t->cpu >= 0 && (unsigned)t->cpu != cpu_number() && cpus[t->cpu].in_program)
		host_call(PV_INTERRUPT, 1UL << t->cpu, PV_NOW, 0, 0, 0, 0);
}

void cpus_interrupt(void)
{
	u64 inside = 0;

	if (!cpus_are_many)
		return;
	__atomic_thread_fence(__ATOMIC_SEQ_CST); /* what was written before: seen by who enters now */
	for (unsigned number = 0; number < boot_info->vcpu_count; number++)
		if (number != cpu_number() && __atomic_load_n(&cpus[number].in_program, __ATOMIC_RELAXED))
			inside |= 1UL << number;
	if (inside && host_call(PV_INTERRUPT, inside, PV_STOPPED, 0, 0, 0, 0))
		panic("vCPUs %lx do not stop", inside);
}

/* Those in the library OS, or on their way into it, look at the generation when they have the lock,
 * before they touch anything of the program's; those in the program are made to enter it. */
void flush_tlb(void)
{
	tlb_flush();
	if (!cpus_are_many)
		return;
	my_cpu()->tlb_seen = ++tlb_generation;
	cpus_interrupt();
}

/* --------------------------------------------------------------------------------------- idle */

u64 cpus_wake_at(void)
{
	u64 earliest = FOREVER;

	for (unsigned number = 0; number < boot_info->vcpu_count; number++)
		if (cpus[number].is_idle)
			earliest = MIN(earliest, cpus[number].wakes_at);
	return earliest;
}

struct cpu *cpu_that_listens(void)
{
	for (unsigned number = 0; number < boot_info->vcpu_count; number++)
		if (cpus[number].listens)
			return &cpus[number];
	return NULL;
}

/* A thread that becomes runnable within microseconds costs no call of the host. */
static void look_for_threads(void)
{
	u64 end = read_tsc() + boot_info->tsc_khz * SPIN_US / 1000;

	do {
		for (int i = 0; i < 16; i++) {
			if (threads_are_waiting())
				return;
			__builtin_ia32_pause();
		}
	} while ((s64)(end - read_tsc()) > 0);
}

void cpu_idle(void)
{
	struct cpu *me = my_cpu();

	me->is_idle = me->is_rung = true; /* it looks by itself */
	lock_give();
	look_for_threads();
	lock_take();
	me->is_rung = false;
	if (!thread_is_waiting_for(cpu_number())) {
		u64 next = timers_next();

		me->listens = !cpu_that_listens();
		me->wakes_at = next < cpus_wake_at() ? next : FOREVER;
		host_wait_unlocked(me->wakes_at, me->listens);
		me->listens = false;
		me->wakes_at = FOREVER;
	}
	me->is_idle = me->is_rung = false;
}

void cpu_unlock(void)
{
	lock_give();
}

void cpu_lock(void)
{
	lock_take();
}
