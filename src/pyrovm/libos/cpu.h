/* The vCPUs: who may run library OS code, who is idle, what the others' TLBs have. */
#ifndef PYROVM_LIBOS_CPU_H
#define PYROVM_LIBOS_CPU_H

#include "os.h"

struct cpu {
	struct thread *idler; /* runs where no thread of the program does; NULL: not started yet */
	u64 slice_start, last_look; /* of the thread that runs there */
	u64 wakes_at; /* while it is idle */
	u64 tlb_seen; /* the state of the page tables that its TLB knows */
	bool in_program; /* or on its way there; changed by itself, set only with the lock */
	bool is_idle; /* it waits for a thread to run, */
	bool is_rung; /* is on its way to look for one, */
	bool listens; /* and hears what the host has to tell */
};
extern struct cpu cpus[PV_CPU_MAX];
/* Whether more than the first has been started: until then there is nothing to lock or to tell. */
extern bool cpus_are_many;

static inline unsigned cpu_number(void) { return this_cpu()->number; }
static inline struct cpu *my_cpu(void) { return &cpus[cpu_number()]; }

/* From the program into the library OS, and back; only where cpus_are_many. */
void cpu_enter(void);
void cpu_leave(void);
/* Start another one if there are more than the program has threads.  cpu_start: this one. */
void cpu_start_for_threads(void);
void cpu_start(unsigned number);
u64 cpus_started(void); /* a bit for each */
/* A bit for each that is idle: those that look for a thread already, or those that have to be rung. */
u32 cpus_idle(bool is_rung);
u32 cpus_busy(void);
void cpu_ring(unsigned number);
/* Interrupt the CPU where this thread runs, if that is in the program. */
void cpu_interrupt_thread(const struct thread *t);
/* All others leave the program before this returns. */
void cpus_interrupt(void);
/* Wait for something to do. */
void cpu_idle(void);
void cpu_unlock(void);
void cpu_lock(void);
/* When an idle CPU wakes up by itself, at the latest; FOREVER: none does. */
u64 cpus_wake_at(void);
struct cpu *cpu_that_listens(void);

#endif
