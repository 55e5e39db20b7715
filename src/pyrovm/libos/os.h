/*
 * The library OS from the inside: what its parts ask of each other.
 *
 * One program, one address space, one vCPU at a time in here (cpu.c): code of the library OS is never
 * interrupted, it gives up the CPU only by sleeping (sleep_on, yield).  So it needs no locks; what must
 * hold across a sleep is looked at again afterwards.  Threads of the program may run meanwhile: what is
 * theirs, and changed by both, is changed by atomic operations.
 *
 * Functions return 0 or a count, or a negative errno value, as system calls do.  Names: noun_verb;
 * _create/_destroy where memory is allocated, _init/_deinit where the caller has it.
 */
#ifndef PYROVM_LIBOS_OS_H
#define PYROVM_LIBOS_OS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "abi.h"
#include "linux.h"

#ifndef LIBOS_ON_HOST /* tests/unit/libos */
#pragma GCC visibility push(hidden) /* everything is linked together: no GOT */
#endif

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int32_t s32;
typedef int64_t s64;

#define PAGE_SHIFT 12
#define PAGE_SIZE 4096UL
#define PAGE_MASK (PAGE_SIZE - 1)
#define HUGE_SIZE 0x200000UL

#define ARRAY_SIZE(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a) (((x) + (a) - 1) & ~((u64)(a) - 1))
#define ALIGN_DOWN(x, a) ((x) & ~((u64)(a) - 1))
#define container_of(p, type, member) ((type *)((char *)(p) - offsetof(type, member)))
#define PV_USER_LIMIT 0x7ffffffff000ULL /* programs' addresses end here */
#define FOREVER (~0ULL)
#define likely(x) __builtin_expect(!!(x), 1)
#define unlikely(x) __builtin_expect(!!(x), 0)

/* ------------------------------------------------------------------------ lists (list.h-like) */
struct list {
	struct list *next, *prev;
};
#define LIST_INIT(name) { &(name), &(name) }
static inline void list_init(struct list *l) { l->next = l->prev = l; }
static inline bool list_empty(const struct list *l) { return l->next == l; }
static inline void list_add(struct list *before, struct list *item) /* at the end if it is the head */
{
	item->next = before;
	item->prev = before->prev;
	before->prev->next = item;
	before->prev = item;
}
static inline void list_remove(struct list *item)
{
	item->next->prev = item->prev;
	item->prev->next = item->next;
	list_init(item);
}
#define list_first(l, type, member) container_of((l)->next, type, member)
#define list_each(item, head, member) \
	for (item = container_of((head)->next, __typeof__(*item), member); &item->member != (head); \
	     item = container_of(item->member.next, __typeof__(*item), member))
#define list_each_safe(item, after, head, member) \
	for (item = container_of((head)->next, __typeof__(*item), member), \
	    after = container_of(item->member.next, __typeof__(*item), member); \
	     &item->member != (head); \
	     item = after, after = container_of(item->member.next, __typeof__(*item), member))

/* --------------------------------------------------------------------------- string.c, print.c */
void *memcpy(void *to, const void *from, size_t n);
void *memmove(void *to, const void *from, size_t n);
void *memset(void *to, int byte, size_t n);
int memcmp(const void *a, const void *b, size_t n);
size_t strlen(const char *s);
int strcmp(const char *a, const char *b);
int strncmp(const char *a, const char *b, size_t n);
char *strchr(const char *s, int c);
char *strrchr(const char *s, int c);
/* %d %u %x %lx %s %c %p, with widths and 0; returns the length, cut to size. */
size_t format(char *to, size_t size, const char *text, ...) __attribute__((format(printf, 3, 4)));
size_t vformat(char *to, size_t size, const char *text, __builtin_va_list args);
/* A line for the user, on PV_LOG. */
void log_line(const char *text, ...) __attribute__((format(printf, 1, 2)));
/* The library OS cannot go on: a mistake in it, or of the VMM. */
void panic(const char *text, ...) __attribute__((format(printf, 1, 2), noreturn));

/* ------------------------------------------------------------------------------ host.c: calls */
extern struct pv_boot *boot_info;
long host_call(enum pv_call number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
void host_exit(u32 status) __attribute__((noreturn));
long host_write_text(u32 handle, const char *text, size_t n);
void host_panic(const char *text, size_t n) __attribute__((noreturn));

/* --------------------------------------------------------------------- page.c: physical memory */
#define phys_to_virt(gpa) ((void *)(PV_PHYSMAP + (gpa)))
#define virt_to_phys(p) ((u64)(p) - PV_PHYSMAP) /* of the linear map only; heap memory is from it */
void page_init(void);
/* A page of zeros, or 0 where there is none left. */
u64 page_alloc(void);
/* 1 << order pages, aligned to their size, zeros; or 0. */
u64 page_alloc_order(unsigned order);
void page_free(u64 gpa);
void page_free_order(u64 gpa, unsigned order);
u64 page_count_free(void);
u64 page_count_total(void);
/* Give long runs of freed pages back to the host. */
void page_discard_freed(void);
/* The program is no small one: from now on, pages come from where the host has huge ones. */
void page_expect_many(void);

/* -------------------------------------------------------------------------------- heap.c */
void *kalloc(size_t size); /* zeros; NULL where there is no memory */
void kfree(void *p);
void *krealloc(void *p, size_t old_size, size_t size);
char *kstrdup(const char *s);

/* ----------------------------------------------------- space.c, vma.c: the program's addresses */
struct file;
struct inode;
/* Makes n bytes from address on accessible, or -EFAULT: bring in pages that are not there yet.
 * Between a check and the access there must be no sleep. */
long user_check(const void *address, size_t n, bool write);
long user_string(const char *address, size_t max); /* its length, -EFAULT, or -ENAMETOOLONG */
/* Cut user memory into physical pieces for the host: the number of pieces (at most max), or -errno. */
struct iovec_cursor;
long user_to_host(const void *address, size_t n, bool write, struct pv_iovec *pieces, unsigned max);
u64 user_phys(u64 address); /* of a page that is there, else 0 */

long space_map(u64 address, u64 length, int prot, int flags, struct file *file, u64 offset);
long space_unmap(u64 address, u64 length);
long space_protect(u64 address, u64 length, int prot);
/* A page fault of the program: 0, or the signal's si_code (SEGV_MAPERR, SEGV_ACCERR; BUS_ADRERR + 100). */
int space_fault(u64 address, u32 error_code);
/* Map a copy of these bytes somewhere; where, or 0 if there is no memory for it. */
u64 space_map_copy(const void *from, u64 length, int prot, const char *name);
void space_init(u64 image_end); /* where brk starts */
/* A file has become shorter: no mapping shows what it had from there on (SIGBUS). */
void space_cut_file(const struct inode *i, u64 size);
extern u64 space_top; /* mmap goes down from here */
size_t space_describe(char *to, size_t size); /* /proc/self/maps */
u64 space_mapped_bytes(void);
void tlb_flush(void); /* this CPU's */
void flush_tlb(void); /* every CPU's: pages or rights have been taken away */

/* --------------------------------------------------------------------------- thread.c, sched */
struct regs { /* as Linux's pt_regs */
	u64 r15, r14, r13, r12, rbp, rbx, r11, r10, r9, r8, rax, rcx, rdx, rsi, rdi;
	u64 orig_rax; /* number of the system call; error code; -1 */
	u64 rip, cs, rflags, rsp, ss;
};

struct waitq { /* threads (or pollers) that wait for something */
	struct list waiters;
};
#define WAITQ_INIT(name) { LIST_INIT((name).waiters) }

struct waiter {
	struct list link;
	void (*wake)(struct waiter *); /* called by waitq_wake */
	struct thread *thread;
	u64 key;
};

struct timer {
	struct list link;
	u64 deadline; /* ns, monotonic */
	void (*expire)(struct timer *);
};

struct sigpending;
struct thread {
	struct list all, run; /* run: in the run queue, or alone */
	int tid;
	int state;
	void *stack; /* kernel stack, THREAD_STACK bytes */
	u64 stack_pointer; /* while not running */
	u64 fs_base;
	void *fpu; /* XSAVE area */
	struct regs *regs; /* the program's, while in the library OS */
	bool full_restore; /* go back with all registers from regs */
	int cpu; /* where it runs, or -1 */
	unsigned last_cpu;
	u64 affinity; /* a bit for each CPU where it may run */
	u64 wake_deadline;
	bool timed_out, interrupted;
	struct timer sleep_timer;
	u64 clear_tid; /* user address of an int, or 0 */
	u64 robust_list;
	u64 cpu_ns, cpu_since;
	char name[16];
	u8 policy, priority; /* SCHED_*: policy.c */
	bool policy_resets; /* SCHED_RESET_ON_FORK: threads that it makes have SCHED_OTHER */
	/* signal.c */
	u64 signal_mask, signal_pending, saved_mask;
	bool restore_mask;
	struct list signal_queue;
	u64 alt_stack, alt_stack_size;
	u32 alt_stack_flags;
	u64 exit_status;
};
#define THREAD_STACK 0x4000UL

static inline struct pv_cpu *this_cpu(void)
{
	struct pv_cpu *cpu;
	__asm__ volatile("mov %%gs:0, %0" : "=r"(cpu));
	return cpu;
}
static inline struct thread *current(void)
{
	struct thread *thread;
	__asm__ volatile("mov %%gs:%c1, %0" : "=r"(thread) : "i"(offsetof(struct pv_cpu, current)));
	return thread;
}
extern struct list threads;
extern unsigned thread_count;

void waitq_init(struct waitq *q);
/* Sleep until waitq_wake, the deadline (-ETIMEDOUT) or a signal (-EINTR); FOREVER: no deadline. */
long sleep_on(struct waitq *q, u64 deadline);
/* Wake up to n sleepers and tell all pollers; how many threads were woken. */
unsigned waitq_wake(struct waitq *q, unsigned n);
void waitq_add(struct waitq *q, struct waiter *w);
void thread_wake(struct thread *t);
void thread_interrupt(struct thread *t); /* if it sleeps: -EINTR */
void yield(void);
void timer_start(struct timer *t, u64 deadline); /* moves one that is started */
void timer_stop(struct timer *t);

/* -------------------------------------------------------------------- clock.c */
u64 clock_monotonic(void); /* ns */
u64 clock_realtime(void);
u64 random_u64(void);
void random_bytes(void *to, size_t n);

/* -------------------------------------------------------------- wait.c: what the host will tell */
/* Something of the host's that may become ready.  Embedded in what has a host handle. */
struct host_source {
	u32 handle;
	u32 armed; /* events that the host was asked to tell */
	u32 ready; /* events that it has told; whoever finds that they are over takes them away */
	struct waitq waiters; /* woken when one of them happens */
	struct list link; /* to be armed */
};
void host_source_init(struct host_source *s, u32 handle);
void host_source_deinit(struct host_source *s);
void host_source_arm(struct host_source *s, u32 events);
/* This VM is a branch: ask again for all that the host was asked for. */
void host_sources_rearm(void);
/* Let the host tell what has happened; wait for it until deadline (0: do not wait). */
void host_wait(u64 deadline);
/* The same while others may use the library OS; without `listens`, until a deadline or a ring. */
void host_wait_unlocked(u64 deadline, bool listens);
bool host_is_armed(void);
bool host_is_to_arm(void); /* the host has not been asked yet */

/* ------------------------------------------------------------------------ fs/branch.c */
void branch_check(void); /* has this VM become a branch of what it was? */

/* ------------------------------------------------------------------------ signal.c */
struct siginfo;
long signal_send(struct thread *t, int number, int code, u64 value, int pid); /* t NULL: the process */
void signal_fault(struct regs *regs, int number, int code, u64 address); /* synchronous */
bool signal_is_pending(struct thread *t);
void signals_from_host(void); /* take what the VMM has put into struct pv_cpu */
void signal_deliver(struct regs *regs); /* before going back to the program */

/* ---------------------------------------------------------------------- process.c */
void process_out_of_memory(void) __attribute__((noreturn)); /* as Linux's OOM killer: SIGKILL */
void process_exit(u32 status) __attribute__((noreturn)); /* as PV_EXIT */
void thread_exit(u64 status) __attribute__((noreturn));
extern const char *program_name;

/* ----------------------------------------------------------------------- system calls */
struct syscall_args {
	u64 a, b, c, d, e, f;
};
typedef long (*syscall_fn)(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f);
struct syscall_entry {
	syscall_fn call;
	const char *name;
	const char *arguments; /* for traces: a letter each; see trace.c */
};
extern const struct syscall_entry syscalls[];
extern const unsigned syscall_count;

#endif
