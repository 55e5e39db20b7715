/*
 * The library OS's files on the host: what they need of its core, by the C library.
 *
 * The image is mapped where the VMM maps it; memory comes from calloc(), so that AddressSanitizer sees
 * what is not right.  Nothing else runs, so who sleeps is woken by a signal at once, or times out.
 */
#include "../../../src/pyrovm/libos/calls.h"
#include "../../../src/pyrovm/libos/fs/fs.h"
#include "../../../src/pyrovm/libos/signal.h"
#include "harness.h"

extern void *calloc(size_t n, size_t size);
extern void *aligned_alloc(size_t align, size_t size);
extern void free(void *p);
extern void *mmap(void *at, size_t n, int prot, int flags, int fd, long offset);
extern int munmap(void *at, size_t n);
extern long syscall(long number, ...);
extern void exit(int status) __attribute__((noreturn));
extern int vsnprintf(char *to, size_t n, const char *text, __builtin_va_list args);
extern int vdprintf(int fd, const char *text, __builtin_va_list args);

static struct pv_boot boot;
struct pv_boot *boot_info = &boot;
struct rlimit64 limits[RLIM_NLIMITS];
struct list threads = LIST_INIT(threads);
unsigned thread_count = 1;
u64 process_pending;
struct waitq signal_waiters = WAITQ_INIT(signal_waiters);
static struct thread only_thread = { .tid = PROCESS_ID };
static struct pv_cpu cpu = { .current = (u64)&only_thread };
static u64 now = 1000000000;
static char strings[] = "\0/bin/program\0host\0/bin/program\0one\0A=1";
static u64 pages_left = 1 << 20;

void harness_image(const void *image, size_t size)
{
	u8 *place = phys_to_virt(PV_IMAGE_GPA);
	static size_t mapped;

	if (mapped)
		munmap(place, mapped);
	mapped = ALIGN_UP(MAX(size, 1UL), PAGE_SIZE);
	if (mmap(place, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE,
		 -1, 0) != place)
		panic("no room for the image");
	memcpy(place, image, size);
	boot.image_size = size;
}

void harness_start(void)
{
	syscall(__NR_arch_prctl, ARCH_SET_GS, &cpu);
	list_add(&threads, &only_thread.all);
	boot.strings_gpa = virt_to_phys(strings);
	boot.exe_offset = 1;
	boot.hostname_offset = 14;
	boot.argc = 2;
	boot.argv_offset = 19;
	boot.envc = 1;
	boot.env_offset = 36;
	boot.vcpu_count = 1;
	cpu.self = (u64)&cpu;
	for (unsigned i = 0; i < RLIM_NLIMITS; i++)
		limits[i] = (struct rlimit64){ 1024, 65536 };
	limits[RLIMIT_FSIZE] = (struct rlimit64){ RLIM64_INFINITY, RLIM64_INFINITY };
}

/* ------------------------------------------------------------------------------- memory */

void *kalloc(size_t size)
{
	return calloc(1, size);
}

void kfree(void *p)
{
	free(p);
}

void *krealloc(void *p, size_t old_size, size_t size)
{
	void *q = kalloc(size);

	if (p)
		memcpy(q, p, MIN(old_size, size));
	free(p);
	return q;
}

char *kstrdup(const char *s)
{
	char *copy = kalloc(strlen(s) + 1);

	memcpy(copy, s, strlen(s));
	return copy;
}

void harness_pages(u64 n)
{
	pages_left = n;
}

u64 page_alloc(void)
{
	void *page;

	if (!pages_left)
		return 0;
	pages_left--;
	page = aligned_alloc(PAGE_SIZE, PAGE_SIZE);
	memset(page, 0, PAGE_SIZE);
	return virt_to_phys(page);
}

void page_free(u64 gpa)
{
	pages_left++;
	free(phys_to_virt(gpa));
}

u64 page_count_free(void)
{
	return pages_left;
}

u64 page_count_total(void)
{
	return 1 << 20;
}

#define BAD_ADDRESS 4096UL /* programs' pointers below are wrong ones */

long user_check(const void *address, size_t n, bool write)
{
	(void)write;
	return n && (u64)address < BAD_ADDRESS ? -EFAULT : 0;
}

long user_string(const char *address, size_t max)
{
	size_t n = 0;

	if ((u64)address < BAD_ADDRESS)
		return -EFAULT;
	while (address[n])
		if (++n >= max)
			return -ENAMETOOLONG;
	return (long)n;
}

long user_to_host(const void *address, size_t n, bool write, struct pv_iovec *pieces, unsigned max)
{
	(void)write, (void)max;
	pieces[0] = (struct pv_iovec){ virt_to_phys(address), n };
	return 1;
}

struct vma *vma_number(unsigned index);
struct vma *vma_number(unsigned index)
{
	(void)index;
	return NULL;
}

u64 threads_cpu_ns(void);
u64 threads_cpu_ns(void)
{
	return 0;
}

void space_cut_file(const struct inode *i, u64 size) /* no mappings here */
{
	(void)i, (void)size;
}

/* ------------------------------------------------------------------------------- sleeping */

void waitq_init(struct waitq *q)
{
	list_init(&q->waiters);
}

void waitq_add(struct waitq *q, struct waiter *w)
{
	list_add(&q->waiters, &w->link);
}

unsigned waitq_wake(struct waitq *q, unsigned n)
{
	struct waiter *w, *after;

	(void)n;
	list_each_safe(w, after, &q->waiters, link)
		if (w->wake)
			w->wake(w);
	return 0;
}

static struct list timers = LIST_INIT(timers);

void timer_start(struct timer *t, u64 deadline)
{
	if (t->link.next)
		list_remove(&t->link);
	t->deadline = deadline;
	list_add(&timers, &t->link);
}

void timer_stop(struct timer *t)
{
	if (t->link.next)
		list_remove(&t->link);
}

/* Time passes: to the deadline, or to the first timer before it. */
long sleep_on(struct waitq *q, u64 deadline)
{
	struct timer *t, *first = NULL;

	(void)q;
	list_each(t, &timers, link)
		if (t->deadline <= deadline && (!first || t->deadline < first->deadline))
			first = t;
	if (first) {
		now = MAX(now, first->deadline);
		list_remove(&first->link);
		first->expire(first);
		return 0;
	}
	if (deadline == FOREVER)
		return -EINTR;
	now = MAX(now, deadline);
	return -ETIMEDOUT;
}

long time_to_ns(const struct __kernel_timespec *t, u64 *ns)
{
	if (t->tv_sec < 0 || (u64)t->tv_nsec >= NSEC_PER_SEC)
		return -EINVAL;
	*ns = (u64)t->tv_sec * NSEC_PER_SEC + (u64)t->tv_nsec;
	return 0;
}

u64 clock_monotonic(void)
{
	return now += 1000;
}

u64 clock_realtime(void)
{
	return clock_monotonic() + 1600000000 * NSEC_PER_SEC;
}

void random_bytes(void *to, size_t n)
{
	memset(to, 0x5a, n);
}

/* ----------------------------------------------------------------------- host and signals */

void host_source_init(struct host_source *s, u32 handle)
{
	*s = (struct host_source){ .handle = handle };
	waitq_init(&s->waiters);
}

void host_source_deinit(struct host_source *s)
{
	s->armed = 0;
}

void host_source_arm(struct host_source *s, u32 events)
{
	s->armed |= events;
}

bool host_is_armed(void)
{
	return true;
}

void tick_update(void);
void tick_update(void)
{
}

void thread_talked(void);
void thread_talked(void) /* one thread: nobody waits for a turn */
{
}

void host_sources_rearm(void)
{
}

void host_wait(u64 deadline)
{
	(void)deadline;
}

long host_call(enum pv_call number, u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)
{
	(void)a, (void)b, (void)c, (void)d, (void)e, (void)f;
	return number == PV_READ ? 0 : -ENOSYS;
}

long signal_send(struct thread *t, int number, int code, u64 value, int pid)
{
	(void)code, (void)value, (void)pid;
	t->signal_pending |= SIGNAL_BIT(number);
	return 0;
}

int signal_take(struct thread *t, u64 wanted, siginfo_t *info)
{
	u64 found = t->signal_pending & wanted;
	int number = found ? __builtin_ctzll(found) + 1 : 0;

	memset(info, 0, sizeof(*info));
	info->si_signo = number;
	t->signal_pending &= ~(number ? SIGNAL_BIT(number) : 0);
	return number;
}

void signal_set_mask(struct thread *t, u64 mask)
{
	t->signal_mask = mask;
}

size_t format(char *to, size_t size, const char *text, ...)
{
	__builtin_va_list args;
	int n;

	__builtin_va_start(args, text);
	n = vsnprintf(to, size, text, args);
	__builtin_va_end(args);
	return size ? MIN((size_t)n, size - 1) : 0;
}

void panic(const char *text, ...)
{
	__builtin_va_list args;

	__builtin_va_start(args, text);
	vdprintf(2, text, args);
	__builtin_va_end(args);
	exit(3);
}
