/* Threads that really run at once: what each sees of the others' work, of memory that is taken away
 * meanwhile, and of signals.  Every case holds on one CPU, too. */
#include "case.h"
#include <poll.h>
#include <pthread.h>
#include <sched.h>
#include <semaphore.h>
#include <setjmp.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <linux/futex.h>
#include <linux/membarrier.h>

#define THREADS 4
#define PAGE 4096

static int rounds = 1; /* of everything; more for a longer test */
static pthread_t threads[16];

static void start(int n, void *(*body)(void *))
{
	for (long i = 0; i < n; i++)
		pthread_create(&threads[i], NULL, body, (void *)i);
}
static void join(int n)
{
	for (int i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
}
static void *map(size_t size)
{
	return mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

/* --------------------------------------------------------------------------------- counting */

static long counter, atomic_counter;
static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_spinlock_t spin;
static pthread_rwlock_t rwlock = PTHREAD_RWLOCK_INITIALIZER;

static void *count_with_mutex(void *arg)
{
	for (int i = 0; i < 20000 * rounds; i++) {
		pthread_mutex_lock(&mutex);
		counter++;
		pthread_mutex_unlock(&mutex);
		__atomic_fetch_add(&atomic_counter, 1, __ATOMIC_RELAXED);
	}
	return NULL;
}
static void *count_with_spinlock(void *arg)
{
	for (int i = 0; i < 2000 * rounds; i++) {
		pthread_spin_lock(&spin);
		counter++;
		pthread_spin_unlock(&spin);
		if (i % 64 == 0)
			sched_yield();
	}
	return NULL;
}
static void *count_with_rwlock(void *arg)
{
	for (int i = 0; i < 2000 * rounds; i++) {
		if (i % 4) {
			pthread_rwlock_rdlock(&rwlock);
			if (counter < 0)
				printf("counter went back\n");
		} else {
			pthread_rwlock_wrlock(&rwlock);
			counter++;
		}
		pthread_rwlock_unlock(&rwlock);
	}
	return NULL;
}
static void counting(void)
{
	start(THREADS, count_with_mutex);
	join(THREADS);
	HOLDS("mutex", counter == THREADS * 20000L * rounds);
	HOLDS("atomic", atomic_counter == THREADS * 20000L * rounds);
	counter = 0;
	pthread_spin_init(&spin, 0);
	start(THREADS, count_with_spinlock);
	join(THREADS);
	HOLDS("spinlock", counter == THREADS * 2000L * rounds);
	counter = 0;
	start(THREADS, count_with_rwlock);
	join(THREADS);
	HOLDS("rwlock", counter == THREADS * 500L * rounds);
}

/* ------------------------------------------------------------------------------ taking turns */

static int word, turns;
static int pipes[2][2], events[2];
static pthread_cond_t condition = PTHREAD_COND_INITIALIZER;
static pthread_barrier_t barrier;
static int at_barrier[THREADS], early;

static void *ping_pong_futex(void *arg)
{
	int me = (long)arg;

	for (int i = 0; i < 5000 * rounds; i++) {
		while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) != me)
			syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, !me, NULL, NULL, 0);
		turns++;
		__atomic_store_n(&word, !me, __ATOMIC_SEQ_CST);
		syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	}
	return NULL;
}
static void *ping_pong_condition(void *arg)
{
	int me = (long)arg;

	for (int i = 0; i < 2000 * rounds; i++) {
		pthread_mutex_lock(&mutex);
		while (word != me)
			pthread_cond_wait(&condition, &mutex);
		turns++;
		word = !me;
		pthread_cond_broadcast(&condition);
		pthread_mutex_unlock(&mutex);
	}
	return NULL;
}
static void *ping_pong_pipe(void *arg)
{
	int me = (long)arg;
	char byte = 0;

	for (int i = 0; i < 1000 * rounds; i++) {
		if (me && read(pipes[0][0], &byte, 1) != 1)
			break;
		turns++;
		byte++;
		if (write(pipes[me][1], &byte, 1) != 1)
			break;
		if (!me && read(pipes[1][0], &byte, 1) != 1)
			break;
	}
	return NULL;
}
static void *ping_pong_event(void *arg)
{
	int me = (long)arg;
	uint64_t one = 1;
	struct pollfd p = { .fd = events[me], .events = POLLIN };

	for (int i = 0; i < 1000 * rounds; i++) {
		if (me && (poll(&p, 1, -1) != 1 || read(p.fd, &one, 8) != 8))
			break;
		turns++;
		one = 1;
		if (write(events[!me], &one, 8) != 8)
			break;
		if (!me && (poll(&p, 1, -1) != 1 || read(p.fd, &one, 8) != 8))
			break;
	}
	return NULL;
}
static void *meet(void *arg)
{
	long me = (long)arg;

	for (int i = 0; i < 500 * rounds; i++) {
		at_barrier[me] = i;
		pthread_barrier_wait(&barrier);
		for (int other = 0; other < THREADS; other++)
			if (at_barrier[other] != i)
				early++;
		pthread_barrier_wait(&barrier);
	}
	return NULL;
}
static void taking_turns(void)
{
	start(2, ping_pong_futex);
	join(2);
	HOLDS("futex", turns == 10000 * rounds);
	turns = word = 0;
	start(2, ping_pong_condition);
	join(2);
	HOLDS("condition", turns == 4000 * rounds);
	turns = 0;
	pipe(pipes[0]), pipe(pipes[1]);
	start(2, ping_pong_pipe);
	join(2);
	HOLDS("pipe", turns == 2000 * rounds);
	turns = 0;
	events[0] = eventfd(0, 0), events[1] = eventfd(0, 0);
	start(2, ping_pong_event);
	join(2);
	HOLDS("eventfd, poll", turns == 2000 * rounds);
	pthread_barrier_init(&barrier, NULL, THREADS);
	start(THREADS, meet);
	join(THREADS);
	HOLDS("barrier", early == 0);
}

/* --------------------------------------------------------- memory that others take meanwhile */

/* Of the phase, which only goes up: what holds for the memory. */
enum { THERE, GOING, GONE, COMING, STATES, OVER = -1 };
static volatile int phase;
static char *volatile page;
static volatile long seen, wrong, faults, strange;
static __thread sigjmp_buf back;
static __thread volatile int armed;

static void on_fault(int number, siginfo_t *info, void *context)
{
	if (!armed || (char *)info->si_addr < page || (char *)info->si_addr >= page + PAGE)
		strange++;
	siglongjmp(back, 1);
}
/* What is there must be readable, what is gone must not: each access lies wholly in one phase or
 * says nothing. */
static void *touch(void *arg)
{
	int writes = (long)arg & 1;

	while (phase != OVER) {
		int before = phase, faulted;

		if (before == OVER)
			break;
		__sync_synchronize();
		armed = 1;
		faulted = sigsetjmp(back, 1);
		if (!faulted) {
			if (writes)
				page[(long)arg] = 1;
			else
				(void)*(volatile char *)&page[(long)arg];
		}
		armed = 0;
		__sync_synchronize();
		if (phase != before || before % STATES == GOING || before % STATES == COMING)
			continue;
		if (faulted != (before % STATES == GONE))
			__sync_fetch_and_add(&wrong, 1);
		__sync_fetch_and_add(faulted ? &faults : &seen, 1);
	}
	return NULL;
}
static void pass(void) /* time for the others, on one CPU as well */
{
	long was = seen + faults;

	for (int i = 0; i < 200 && seen + faults < was + 6; i++)
		sched_yield();
}
static void take_away(const char *name, int (*gone)(void), int (*there)(void), int n)
{
	int failed = 0;

	page = map(PAGE);
	seen = wrong = faults = strange = 0;
	phase = THERE;
	start(3, touch);
	for (int i = 0; i < n * rounds || (!(seen && faults) && i < 100 * n); i++) {
		pass();
		phase++;
		failed |= gone();
		phase++;
		pass();
		phase++;
		failed |= there();
		phase++;
	}
	phase = OVER;
	join(3);
	TEXT(name, "%s%s%s%s", wrong ? "stale " : "", strange ? "strange " : "", failed ? "failed " : "",
	     seen && faults ? "ok" : "nothing seen");
}
static int forbid(void) { return mprotect(page, PAGE, PROT_NONE); }
static int allow(void) { return mprotect(page, PAGE, PROT_READ | PROT_WRITE); }
static int unmap(void) { return munmap(page, PAGE); }
static int map_again(void)
{
	return mmap(page, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED;
}
static char *elsewhere;
static int move_away(void)
{
	return mremap(page, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, elsewhere) == MAP_FAILED;
}
static int move_back(void)
{
	return mremap(elsewhere, PAGE, PAGE, MREMAP_MAYMOVE | MREMAP_FIXED, page) == MAP_FAILED;
}

/* A page that was given back belongs to somebody else soon: no late write may arrive there. */
static void *volatile target;
static void *scribble(void *arg)
{
	while (phase != OVER) {
		armed = 1;
		if (!sigsetjmp(back, 1))
			for (int i = 0; i < 100; i++)
				memset(target, 0xaa, 256);
		armed = 0;
	}
	return NULL;
}
static void on_any_fault(int number, siginfo_t *info, void *context)
{
	siglongjmp(back, 1);
}
static void reuse(void)
{
	int dirty = 0;

	phase = THERE;
	target = map(PAGE);
	start(3, scribble);
	for (int i = 0; i < 10 * rounds; i++) {
		char *old = target, *new;

		for (int j = 0; j < 4; j++)
			sched_yield();
		munmap(old, PAGE);
		new = mmap(NULL, PAGE * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (new <= old && old < new + PAGE * 8) { /* the same address: its writes are allowed */
			new = mmap(NULL, PAGE * 8, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		}
		for (int j = 0; j < PAGE * 8; j++)
			if (new[j] && !(new + j >= (char *)target && new + j < (char *)target + PAGE))
				dirty++;
		target = map(PAGE);
		munmap(new, PAGE * 8);
	}
	phase = OVER;
	join(3);
	HOLDS("no late write", dirty == 0);
}

static volatile char *discarded;
static volatile int generation;
static void *read_discarded(void *arg)
{
	while (phase != OVER) {
		int before = generation, value;

		__sync_synchronize();
		value = discarded[(long)arg];
		__sync_synchronize();
		if (before == generation && before % 2 && value)
			__sync_fetch_and_add(&wrong, 1);
		__sync_fetch_and_add(&seen, 1);
	}
	return NULL;
}
static void discarding(void)
{
	size_t size = 512 * PAGE;

	phase = THERE;
	seen = wrong = generation = 0;
	discarded = map(size);
	start(3, read_discarded);
	for (int i = 0; i < 10 * rounds; i++) {
		memset((char *)discarded, 1, size);
		madvise((char *)discarded, size, MADV_DONTNEED);
		generation++; /* odd: it is zero */
		pass();
		generation++;
	}
	phase = OVER;
	join(3);
	HOLDS("discarded is zero", wrong == 0 && seen > 0);
	munmap((char *)discarded, size);
}

static char *shared_area;
static int file;
static void *fill(void *arg)
{
	for (long i = (long)arg; i < 256 * PAGE; i += THREADS)
		shared_area[i] = (char)(i * 7);
	return NULL;
}
static int check_filled(void)
{
	for (long i = 0; i < 256 * PAGE; i++)
		if (shared_area[i] != (char)(i * 7))
			return 0;
	return 1;
}
static void touching_first(void)
{
	char *old;

	shared_area = mmap(NULL, 1L << 30, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	start(THREADS, fill);
	join(THREADS);
	HOLDS("touched first by all", check_filled());
	munmap(shared_area, 1L << 30);
	file = open("/tmp/parallel", O_RDWR | O_CREAT | O_TRUNC, 0600);
	ftruncate(file, 256 * PAGE);
	shared_area = mmap(NULL, 256 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	start(THREADS, fill);
	join(THREADS);
	HOLDS("copied on write", check_filled());
	munmap(shared_area, 256 * PAGE);
	old = shared_area = mmap(NULL, 256 * PAGE, PROT_READ, MAP_PRIVATE, file, 0);
	mprotect(shared_area, 256 * PAGE, PROT_READ | PROT_WRITE);
	start(THREADS, fill);
	join(THREADS);
	HOLDS("copied on write, later", check_filled() && old == shared_area);
	munmap(shared_area, 256 * PAGE);
	close(file);
	unlink("/tmp/parallel");
}

/* A right that is given is there at once for system calls, too. */
static void *read_into(void *arg)
{
	int fd = open("/dev/zero", O_RDONLY);

	while (phase != OVER) {
		(void)*(volatile char *)page;
		read(fd, page, 64); /* may fail, and that is all */
	}
	close(fd);
	return NULL;
}
static void giving_rights(void)
{
	page = map(PAGE);
	phase = THERE;
	start(3, read_into);
	for (int i = 0; i < 10 * rounds; i++) {
		mprotect(page, PAGE, PROT_READ);
		sched_yield();
		mprotect(page, PAGE, PROT_READ | PROT_WRITE);
		sched_yield();
	}
	phase = OVER;
	join(3);
	TEXT("rights for calls", "ok");
}

static void *use_own_memory(void *arg)
{
	unsigned long seed = (long)arg + 1;

	for (int i = 0; i < 10 * rounds; i++) {
		size_t size = (seed = seed * 6364136223846793005UL + 1) >> 48 & 0x3ffff;
		unsigned char *p = mmap(NULL, size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		unsigned char *q;

		if (p == MAP_FAILED || p[size / 2] || p[size]) {
			__sync_fetch_and_add(&wrong, 1);
			break;
		}
		memset(p, (int)(long)arg + 1, size);
		q = malloc(size + 1);
		memset(q, (int)(long)arg + 17, size + 1);
		if (i % 3 == 0)
			mprotect(p, PAGE, PROT_READ);
		for (size_t j = 0; j < size; j += 509)
			if (p[j] != (unsigned char)((long)arg + 1) || q[j] != (unsigned char)((long)arg + 17))
				__sync_fetch_and_add(&wrong, 1);
		free(q);
		munmap(p, size + 1);
	}
	return NULL;
}

static void memory(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	take_away("mprotect", forbid, allow, 15);
	take_away("munmap, mmap", unmap, map_again, 15);
	elsewhere = map(PAGE);
	take_away("mremap", move_away, move_back, 10);
	discarding();
	action.sa_sigaction = on_any_fault;
	sigaction(SIGSEGV, &action, NULL);
	reuse();
	signal(SIGSEGV, SIG_DFL);
	signal(SIGBUS, SIG_DFL);
	giving_rights();
	touching_first();
	wrong = 0;
	start(THREADS, use_own_memory);
	join(THREADS);
	HOLDS("own memory", wrong == 0);
}

/* ----------------------------------------------------------------------- signals and pre-emption */

static volatile int got[THREADS], stop, ready;
static __thread int number;

static void on_signal(int signal)
{
	got[number]++;
}
static void *spin_until_told(void *arg)
{
	number = (long)arg;
	__sync_fetch_and_add(&ready, 1);
	while (!stop)
		;
	return NULL;
}
static volatile long progress[2 * THREADS];
static void *make_progress(void *arg)
{
	while (!stop)
		progress[(long)arg]++;
	return NULL;
}
static void *wait_for_word(void *arg)
{
	while (__atomic_load_n(&word, __ATOMIC_SEQ_CST) == 0)
		syscall(SYS_futex, &word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0);
	stop = 1;
	return NULL;
}
static volatile int ticks;
static void on_alarm(int signal)
{
	ticks++;
}
static void interrupting(void)
{
	int missing = 0, lazy = 0;

	signal(SIGUSR1, on_signal);
	stop = 0;
	start(THREADS, spin_until_told);
	while (ready < THREADS)
		sched_yield();
	for (int i = 0; i < 10 * rounds; i++) {
		for (int t = 0; t < THREADS; t++) {
			int before = got[t];

			pthread_kill(threads[t], SIGUSR1);
			for (int64_t end = now_ns(CLOCK_MONOTONIC) + 20000000000LL; got[t] == before;) {
				sched_yield();
				if (now_ns(CLOCK_MONOTONIC) > end) {
					missing++;
					break;
				}
			}
		}
	}
	stop = 1;
	join(THREADS);
	HOLDS("signals to threads that spin", missing == 0);

	stop = 0;
	start(2 * THREADS, make_progress);
	for (int i = 0; i < 500 && !lazy; i++) {
		sleep_ms(20);
		lazy = 1;
		for (int t = 0; t < 2 * THREADS; t++)
			lazy &= progress[t] > 0;
	}
	stop = 1;
	join(2 * THREADS);
	HOLDS("each has a turn", lazy);

	/* Woken by a thread that goes on computing, after a while without any need for turns. */
	stop = word = 0;
	start(1, wait_for_word);
	for (int64_t end = now_ns(CLOCK_MONOTONIC) + 150000000; now_ns(CLOCK_MONOTONIC) < end;)
		;
	__atomic_store_n(&word, 1, __ATOMIC_SEQ_CST);
	syscall(SYS_futex, &word, FUTEX_WAKE_PRIVATE, 1, NULL, NULL, 0);
	while (!stop)
		;
	join(1);
	TEXT("woken by one that computes", "ok");

	stop = 0;
	signal(SIGALRM, on_alarm);
	start(THREADS, spin_until_told);
	alarm(1);
	for (int i = 0; i < 1000 && !ticks; i++)
		sleep_ms(20);
	stop = 1;
	join(THREADS);
	HOLDS("alarm while all compute", ticks == 1);
}

/* -------------------------------------------------------------------------------- where, and how */

static volatile int elsewhere_seen;
static void *stay(void *arg)
{
	cpu_set_t one;

	CPU_ZERO(&one);
	CPU_SET((long)arg, &one);
	if (sched_setaffinity(0, sizeof(one), &one))
		return NULL;
	for (int i = 0; i < 200; i++) {
		if (sched_getcpu() != (long)arg)
			__sync_fetch_and_add(&elsewhere_seen, 1);
		if (i % 10 == 0)
			sched_yield();
	}
	return NULL;
}
static void *compute(void *arg)
{
	double sum = 0, x = 1 + (long)arg;

	for (int i = 0; i < 20000 * rounds; i++) {
		x = 1.0 / (x * 1.25 + 0.5);
		sum += x;
		if (i % 50 == 0)
			sched_yield();
	}
	return (void *)(long)(sum * 1000);
}
static void *nothing(void *arg)
{
	return arg;
}
static void placing(void)
{
	cpu_set_t all, none;
	long alone[THREADS];
	void *result;
	int same = 1;

	sched_getaffinity(0, sizeof(all), &all);
	for (long cpu = 0; cpu < 8; cpu++) {
		if (!CPU_ISSET(cpu, &all))
			continue;
		pthread_create(&threads[0], NULL, stay, (void *)cpu);
		pthread_join(threads[0], NULL);
	}
	HOLDS("stays where it must", elsewhere_seen == 0);
	CPU_ZERO(&none);
	CPU_SET(1000, &none);
	CALL("a CPU that is not there", sched_setaffinity(0, sizeof(none), &none));
	HOLDS("processors", CPU_COUNT(&all) <= sysconf(_SC_NPROCESSORS_ONLN));
	HOLDS("membarrier", syscall(SYS_membarrier, MEMBARRIER_CMD_QUERY, 0, 0) > 0);
	syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0);
	stop = 0;
	start(2, make_progress);
	for (int i = 0; i < 100 * rounds; i++)
		same &= syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0) == 0;
	stop = 1;
	join(2);
	HOLDS("membarrier, others compute", same);
	for (long i = 0; i < THREADS; i++)
		alone[i] = (long)compute((void *)i);
	start(THREADS, compute);
	same = 1;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(threads[i], &result);
		same &= (long)result == alone[i];
	}
	HOLDS("floating point, alone and together", same);
	same = 0;
	for (int i = 0; i < 100 * rounds; i++) {
		start(THREADS, nothing);
		for (long t = 0; t < THREADS; t++) {
			pthread_join(threads[t], &result);
			same += (long)result == t;
		}
	}
	HOLDS("threads begin and end", same == 100 * rounds * THREADS);
}

int main(int argc, char **argv)
{
	if (argc > 1)
		rounds = atoi(argv[1]);
	counting();
	taking_turns();
	memory();
	interrupting();
	placing();
	stop = 0;
	start(THREADS, spin_until_told);
	sleep_ms(20);
	fflush(stdout);
	_exit(7); /* while others compute */
}
