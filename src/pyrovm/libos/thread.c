#include "thread.h"

struct list threads = LIST_INIT(threads);
unsigned thread_count;
static struct list run_queue = LIST_INIT(run_queue);
static struct thread *dead; /* its stack was in use when it died */
static int next_tid = 1;
static bool ticking;
static u64 slice_start, last_look, cpu_ns_of_the_dead;

#define SLICE_NS 5000000ULL
#define TALK_NS  1000000ULL /* what a turn is worth that goes on in exchanges with a peer */

extern void switch_stack(u64 *save_rsp, u64 rsp);
extern void thread_entry(void);

/* ------------------------------------------------------------------------------- registers */

size_t fpu_size(void)
{
	return boot_info->xcr0 ? boot_info->xsave_size : 512;
}

void fpu_save(void *area)
{
	if (boot_info->xcr0)
		__asm__ volatile("xsave64 (%0)" : : "r"(area), "a"((u32)boot_info->xcr0),
				 "d"((u32)(boot_info->xcr0 >> 32)) : "memory");
	else
		__asm__ volatile("fxsave64 (%0)" : : "r"(area) : "memory");
}

void fpu_restore(const void *area)
{
	if (boot_info->xcr0)
		__asm__ volatile("xrstor64 (%0)" : : "r"(area), "a"((u32)boot_info->xcr0),
				 "d"((u32)(boot_info->xcr0 >> 32)) : "memory");
	else
		__asm__ volatile("fxrstor64 (%0)" : : "r"(area) : "memory");
}

void fpu_clear(void *area)
{
	memset(area, 0, fpu_size());
	*(u16 *)area = 0x37f; /* FCW: as after FNINIT */
	*(u32 *)((char *)area + 24) = 0x1f80; /* MXCSR */
}

/* --------------------------------------------------------------------------------- life */

struct thread *thread_create(void)
{
	struct thread *t = kalloc(sizeof(*t));
	u64 stack = page_alloc_order(2);

	_Static_assert(THREAD_STACK == PAGE_SIZE << 2, "order 2");
	if (t)
		t->fpu = kalloc(fpu_size());
	if (!t || !t->fpu || !stack) {
		if (stack)
			page_free_order(stack, 2);
		if (t)
			kfree(t->fpu);
		kfree(t);
		return NULL;
	}
	t->stack = phys_to_virt(stack);
	fpu_clear(t->fpu);
	t->tid = next_tid++;
	t->state = THREAD_RUNNABLE;
	list_init(&t->run);
	list_init(&t->signal_queue);
	list_init(&t->sleep_timer.link);
	list_add(&threads, &t->all);
	thread_count++;
	return t;
}

static void thread_destroy(struct thread *t)
{
	page_free_order(virt_to_phys(t->stack), 2);
	kfree(t->fpu);
	kfree(t);
}

void thread_init(void)
{
	struct thread *t = thread_create();

	if (!t)
		panic("no memory for the first thread");
	this_cpu()->current = (u64)t;
	this_cpu()->kernel_stack = (u64)t->stack + THREAD_STACK;
	slice_start = t->cpu_since = clock_monotonic();
}

void thread_start(struct thread *t, const struct regs *regs)
{
	u64 *top = (u64 *)((char *)t->stack + THREAD_STACK);

	t->regs = (struct regs *)top - 1;
	*t->regs = *regs;
	top = (u64 *)t->regs;
	*--top = (u64)thread_entry; /* where switch_stack() returns to */
	for (int i = 0; i < 6; i++)
		*--top = 0;
	t->stack_pointer = (u64)top;
	list_add(&run_queue, &t->run);
}

/* The first thing that a new thread does. */
void thread_first_return(struct regs *regs);
void thread_first_return(struct regs *regs)
{
	if (dead) {
		thread_destroy(dead);
		dead = NULL;
	}
	tick_update();
}

struct thread *thread_find(int tid)
{
	struct thread *t;

	list_each(t, &threads, all)
		if (t->tid == tid)
			return t;
	return NULL;
}

u64 thread_cpu_ns(const struct thread *t)
{
	return t->cpu_ns + (t == current() ? clock_monotonic() - t->cpu_since : 0);
}

u64 threads_cpu_ns(void)
{
	struct thread *t;
	u64 sum = cpu_ns_of_the_dead;

	list_each(t, &threads, all)
		sum += thread_cpu_ns(t);
	return sum;
}

void thread_forget(struct thread *t)
{
	cpu_ns_of_the_dead += thread_cpu_ns(t);
	list_remove(&t->all);
}

/* --------------------------------------------------------------------------------- turns */

bool threads_are_waiting(void)
{
	return !list_empty(&run_queue);
}

static void idle(void) /* which is nobody's CPU time */
{
	struct thread *me = current();

	me->cpu_ns += clock_monotonic() - me->cpu_since;
	host_wait(timers_next());
	timers_expire();
	me->cpu_since = clock_monotonic();
}

static void switch_to(struct thread *next)
{
	struct thread *me = current();
	struct pv_cpu *cpu = this_cpu();
	u64 now = clock_monotonic();

	me->cpu_ns += now - me->cpu_since;
	next->cpu_since = slice_start = now;
	__asm__ volatile("rdfsbase %0" : "=r"(me->fs_base));
	if (me->state != THREAD_DEAD)
		fpu_save(me->fpu);
	else
		dead = me;
	cpu->current = (u64)next;
	cpu->kernel_stack = (u64)next->stack + THREAD_STACK;
	fpu_restore(next->fpu);
	__asm__ volatile("wrfsbase %0" : : "r"(next->fs_base));
	switch_stack(&me->stack_pointer, next->stack_pointer);
	if (dead) {
		thread_destroy(dead);
		dead = NULL;
	}
}

void schedule(void)
{
	struct thread *next;

	timers_expire();
	while (list_empty(&run_queue))
		idle();
	next = list_first(&run_queue, struct thread, run);
	list_remove(&next->run);
	if (next != current())
		switch_to(next);
}

void yield(void)
{
	list_add(&run_queue, &current()->run);
	schedule();
}

void thread_wake(struct thread *t)
{
	if (t->state == THREAD_SLEEPING) {
		t->state = THREAD_RUNNABLE;
		list_add(&run_queue, &t->run);
	}
}

void thread_interrupt(struct thread *t)
{
	if (t->state == THREAD_SLEEPING) {
		t->interrupted = true;
		thread_wake(t);
	}
}

static void sleep_is_over(struct timer *timer)
{
	struct thread *t = container_of(timer, struct thread, sleep_timer);

	t->timed_out = true;
	thread_wake(t);
}

long thread_sleep(u64 deadline)
{
	struct thread *me = current();

	if (signal_is_pending(me))
		return -EINTR;
	me->timed_out = me->interrupted = false;
	me->state = THREAD_SLEEPING;
	if (deadline != FOREVER) {
		me->sleep_timer.expire = sleep_is_over;
		timer_start(&me->sleep_timer, deadline);
	}
	schedule();
	timer_stop(&me->sleep_timer);
	return me->interrupted ? -EINTR : me->timed_out ? -ETIMEDOUT : 0;
}

/* --------------------------------------------------------------------------------- queues */

void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

void waitq_add(struct waitq *q, struct waiter *w)
{
	list_add(&q->waiters, &w->link);
}

long sleep_on(struct waitq *q, u64 deadline)
{
	struct waiter w = { .thread = current() };
	long result;

	waitq_add(q, &w);
	result = thread_sleep(deadline);
	list_remove(&w.link);
	return result;
}

unsigned waitq_wake(struct waitq *q, unsigned n)
{
	struct waiter *w, *after;
	unsigned woken = 0;

	list_each_safe(w, after, &q->waiters, link) {
		if (w->wake) {
			w->wake(w);
		} else if (woken < n) {
			list_remove(&w->link);
			thread_wake(w->thread);
			woken++;
		}
	}
	return woken;
}

/* --------------------------------------------------------------------------------- timers */

static struct list timers = LIST_INIT(timers); /* the earliest first */

void timer_start(struct timer *t, u64 deadline)
{
	struct timer *other;

	if (t->link.next)
		list_remove(&t->link);
	t->deadline = deadline;
	list_each(other, &timers, link)
		if (other->deadline > deadline)
			break;
	list_add(&other->link, &t->link);
}

void timer_stop(struct timer *t)
{
	if (t->link.next)
		list_remove(&t->link);
}

u64 timers_next(void)
{
	return list_empty(&timers) ? FOREVER : list_first(&timers, struct timer, link)->deadline;
}

void timers_expire(void)
{
	while (!list_empty(&timers)) {
		struct timer *t = list_first(&timers, struct timer, link);

		if (t->deadline > clock_monotonic())
			return;
		list_remove(&t->link);
		t->expire(t);
	}
}

/* The VMM interrupts the program only while that is of use: another thread waits for its turn, or
 * something may happen at a time or on the host's side. */
void tick_update(void)
{
	bool wanted = !list_empty(&run_queue) || !list_empty(&timers) || host_is_armed();

	if (wanted != ticking && (wanted || clock_monotonic() - slice_start > 10 * SLICE_NS)) {
		ticking = wanted;
		host_call(PV_TICK, wanted, 0, 0, 0, 0, 0);
	}
}

void thread_tick(void)
{
	timers_expire();
	if (host_is_armed())
		host_wait(0);
	last_look = clock_monotonic();
	if (!list_empty(&run_queue) && last_look - slice_start >= TALK_NS)
		yield();
	tick_update();
}

void thread_talked(void)
{
	u64 now;

	if (thread_count == 1)
		return;
	now = clock_monotonic();
	if (now - slice_start >= TALK_NS && now - last_look >= TALK_NS)
		__atomic_fetch_or(&this_cpu()->pending, PV_PENDING_TICK, __ATOMIC_SEQ_CST);
}
