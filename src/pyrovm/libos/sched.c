/* Whose turn it is: one queue of the threads that can run, for all CPUs. */
#include "cpu.h"
#include "thread.h"

struct list run_queue = LIST_INIT(run_queue);
static struct thread *dead; /* its stack was in use when it died */
u32 ticking; /* CPUs that the VMM interrupts again and again */

#define SLICE_NS 5000000ULL
#define TALK_NS  1000000ULL /* what a turn is worth that goes on in exchanges with a peer */

bool threads_are_waiting(void)
{
	return !list_empty(&run_queue);
}

static struct thread *find_next(unsigned cpu)
{
	struct thread *t;

	list_each(t, &run_queue, run)
		if (t->affinity >> cpu & 1)
			return t;
	return NULL;
}

bool thread_is_waiting_for(unsigned cpu)
{
	return find_next(cpu);
}

static struct thread *take_next(void)
{
	struct thread *t = find_next(cpu_number());

	if (t)
		list_remove(&t->run);
	return t;
}

void thread_put_in_turn(struct thread *t)
{
	list_add(&run_queue, &t->run);
}

/* --------------------------------------------------------------------------------- switching */

static void after_switch(void)
{
	if (dead) {
		thread_destroy(dead);
		dead = NULL;
	}
}

static void switch_to(struct thread *next)
{
	struct thread *me = current(), *idler = my_cpu()->idler;
	struct pv_cpu *cpu = this_cpu();
	u64 now = clock_monotonic();

	me->cpu_ns += now - me->cpu_since;
	me->cpu = -1;
	next->cpu_since = my_cpu()->slice_start = now;
	next->cpu = (int)cpu->number;
	next->last_cpu = cpu->number;
	if (me->state == THREAD_DEAD) {
		dead = me;
	} else if (me != idler) {
		__asm__ volatile("rdfsbase %0" : "=r"(me->fs_base));
		fpu_save(me->fpu);
	}
	cpu->current = (u64)next;
	cpu->kernel_stack = (u64)next->stack + THREAD_STACK;
	if (next != idler) {
		fpu_restore(next->fpu);
		__asm__ volatile("wrfsbase %0" : : "r"(next->fs_base));
	}
	switch_stack(&me->stack_pointer, next->stack_pointer);
	after_switch(); /* on another CPU, it may be */
}

static void idle(void) /* which is nobody's CPU time */
{
	struct thread *me = current();

	me->cpu_ns += clock_monotonic() - me->cpu_since;
	host_wait(timers_next());
	timers_expire();
	me->cpu_since = clock_monotonic();
}

void schedule(void)
{
	struct thread *next;

	timers_expire();
	while (!(next = take_next()) && !cpus_are_many)
		idle();
	if (!next)
		next = my_cpu()->idler;
	if (next != current())
		switch_to(next);
}

void yield(void)
{
	list_add(&run_queue, &current()->run);
	schedule();
}

/* The first thing that a new thread does. */
void thread_first_return(struct regs *regs);
void thread_first_return(struct regs *regs)
{
	after_switch();
	tick_update();
	if (cpus_are_many)
		cpu_leave();
}

static void wake_idle_cpus(void)
{
	u32 idle = cpus_idle(false), looking = cpus_idle(true);
	struct thread *t;

	list_each(t, &run_queue, run) {
		u32 fitting = idle & (u32)t->affinity, coming = looking & (u32)t->affinity;
		unsigned number;

		if (!idle)
			return;
		if (coming)
			looking &= ~(coming & -coming); /* this one takes it */
		if (coming || !fitting)
			continue;
		number = fitting >> t->last_cpu & 1 ? t->last_cpu : (unsigned)__builtin_ctz(fitting);
		idle &= ~(1u << number);
		cpu_ring(number);
	}
}

/* What an idler does: others run on their own stacks, since those may go on elsewhere. */
void idle_main(void) __attribute__((noreturn));
void idle_main(void)
{
	after_switch();
	for (;;) {
		struct thread *next;

		timers_expire();
		next = take_next();
		if (next) {
			switch_to(next);
		} else {
			wake_idle_cpus(); /* who waits may run on others only */
			cpu_idle();
		}
	}
}

/* -------------------------------------------------------------------------------------- ticks
 *
 * The VMM interrupts the program only while that is of use: another thread waits for its turn, or
 * something may happen at a time or on the host's side that no idle CPU waits for.
 */
static bool nobody_waits_for_all(void)
{
	return timers_next() < cpus_wake_at() || host_is_to_arm() || (host_is_armed() && !cpu_that_listens());
}

static u32 ticks_wanted(void)
{
	if (!cpus_are_many)
		return !list_empty(&run_queue) || timers_next() != FOREVER || host_is_armed();
	return !list_empty(&run_queue) ? cpus_busy() : nobody_waits_for_all() ? 1u << cpu_number() : 0;
}

void tick_update(void)
{
	u32 wanted = ticks_wanted();

	if (wanted & ~ticking || (wanted != ticking && clock_monotonic() - my_cpu()->slice_start > 10 * SLICE_NS)) {
		ticking = wanted;
		host_call(PV_INTERRUPT, wanted, PV_TICKING, 0, 0, 0, 0);
	}
}

void threads_share_out(void)
{
	if (!list_empty(&run_queue))
		wake_idle_cpus();
	if (ticks_wanted() & ~ticking)
		tick_update();
}

/* Does a thread wait that no idle CPU will take? */
static bool somebody_waits_for_us(void)
{
	u32 idle = cpus_idle(false) | cpus_idle(true);
	struct thread *t;

	list_each(t, &run_queue, run)
		if (t->affinity >> cpu_number() & 1 && !(t->affinity & idle))
			return true;
	return false;
}

void thread_tick(void)
{
	u32 idle = cpus_idle(false);

	timers_expire();
	if (idle && nobody_waits_for_all())
		cpu_ring((unsigned)__builtin_ctz(idle)); /* it will */
	else if (!cpus_are_many ? host_is_armed() : nobody_waits_for_all())
		host_wait(0);
	my_cpu()->last_look = clock_monotonic();
	if (my_cpu()->last_look - my_cpu()->slice_start >= TALK_NS && somebody_waits_for_us())
		yield();
	tick_update();
}

void thread_talked(void)
{
	u64 now;

	if (thread_count == 1)
		return;
	now = clock_monotonic();
	if (now - my_cpu()->slice_start >= TALK_NS && now - my_cpu()->last_look >= TALK_NS)
		__atomic_fetch_or(&this_cpu()->pending, PV_PENDING_TICK, __ATOMIC_SEQ_CST);
}
