#include "thread.h"

#include "cpu.h"

struct list threads = LIST_INIT(threads);
unsigned thread_count;
static int next_tid = 1;
static u64 cpu_ns_of_the_dead;

extern void thread_entry(void), idle_entry(void);

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

static struct thread *allocate(void)
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
	t->state = THREAD_RUNNABLE;
	t->cpu = -1;
	t->affinity = ~0ULL;
	list_init(&t->run);
	list_init(&t->signal_queue);
	list_init(&t->sleep_timer.link);
	return t;
}

struct thread *thread_create(void)
{
	struct thread *t = allocate();

	if (!t)
		return NULL;
	t->tid = next_tid++;
	list_add(&threads, &t->all);
	thread_count++;
	return t;
}

void thread_destroy(struct thread *t)
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
	t->cpu = 0;
	my_cpu()->slice_start = t->cpu_since = clock_monotonic();
}

/* So that switch_stack() returns to `where`. */
static void put_start(struct thread *t, u64 *top, void (*where)(void))
{
	*--top = (u64)where;
	for (int i = 0; i < 6; i++)
		*--top = 0;
	t->stack_pointer = (u64)top;
}

void thread_start(struct thread *t, const struct regs *regs)
{
	t->regs = (struct regs *)((char *)t->stack + THREAD_STACK) - 1;
	*t->regs = *regs;
	put_start(t, (u64 *)t->regs, thread_entry);
	thread_put_in_turn(t);
}

struct thread *thread_create_idler(void)
{
	struct thread *t = allocate();

	if (t)
		put_start(t, (u64 *)((char *)t->stack + THREAD_STACK), idle_entry);
	return t;
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
	return t->cpu_ns + (t->cpu >= 0 ? clock_monotonic() - t->cpu_since : 0);
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

/* --------------------------------------------------------------------------------- sleep */

void thread_wake(struct thread *t)
{
	if (t->state == THREAD_SLEEPING) {
		t->state = THREAD_RUNNABLE;
		thread_put_in_turn(t);
	}
}

void thread_interrupt(struct thread *t)
{
	if (t->state == THREAD_SLEEPING) {
		t->interrupted = true;
		thread_wake(t);
	} else {
		cpu_interrupt_thread(t);
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
