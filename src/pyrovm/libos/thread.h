/* Threads and their turns. */
#ifndef PYROVM_LIBOS_THREAD_H
#define PYROVM_LIBOS_THREAD_H

#include "os.h"

enum { THREAD_RUNNABLE, THREAD_SLEEPING, THREAD_DEAD };

/* Let the next thread run; the current one goes on when it is runnable again. */
void schedule(void);
/* Sleep until thread_wake: 0, -ETIMEDOUT, or -EINTR. */
long thread_sleep(u64 deadline);
struct thread *thread_create(void); /* not yet runnable; NULL without memory */
/* Start a thread that goes to the program with these registers. */
void thread_start(struct thread *t, const struct regs *regs);
struct thread *thread_find(int tid);
void thread_init(void); /* makes the first thread of what runs */
u64 thread_cpu_ns(const struct thread *t);
u64 threads_cpu_ns(void); /* of all that are or were */
void thread_forget(struct thread *t); /* it ends: out of `threads` */
/* What a switch saves beside the stack; area is 64-byte aligned, fpu_size() long. */
size_t fpu_size(void);
void fpu_save(void *area);
void fpu_restore(const void *area);
void fpu_clear(void *area);
/* After the VMM's tick, and before going back to the program: whose turn is it? */
void thread_tick(void);
/* After each exchange with a peer: a thread whose peer always answers in time would never sleep, and
 * the others would wait from tick to tick for their turns. */
void thread_talked(void);
void tick_update(void);
/* Does a thread wait for one that may never come back here by itself? */
extern struct list run_queue;
extern u32 ticking;
static inline bool ticks_are_missing(void)
{
	return !ticking && !list_empty(&run_queue);
}
void timers_expire(void);
u64 timers_next(void); /* FOREVER: none */
bool threads_are_waiting(void); /* for a CPU */
bool thread_is_waiting_for(unsigned cpu);
/* See that idle CPUs, or at least ticks, come to those that wait. */
void threads_share_out(void);
void thread_put_in_turn(struct thread *t);
void thread_destroy(struct thread *t);
struct thread *thread_create_idler(void); /* goes on at idle_main(); NULL without memory */
void switch_stack(u64 *save_rsp, u64 rsp);

#endif
