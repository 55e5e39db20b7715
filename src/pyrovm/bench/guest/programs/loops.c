/*
 * How long a program's own work takes: each of the loops in slices of some milliseconds, so that the
 * median of the slices is not that of what else the machine had to do.  One line for each loop: its
 * name, the median and the least of its slices, in ns for one turn of the loop.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SLICES 101
#define PAGE 4096
/* Three arrays of 128 KiB: beyond the first cache, well within the second, so that it plays no part
 * which physical pages they got. */
#define FLOATS (32 << 10)

static volatile uint64_t sink; /* what is computed is used */
static float a[FLOATS], b[FLOATS], c[FLOATS];
static char page[PAGE];
static int file, there[2], back[2];

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* A generator of pseudo-random numbers (splitmix64): adds, shifts, multiplies, no memory. */
static void compute(long turns)
{
	uint64_t state = sink, mixed = 0;

	for (long i = 0; i < turns; i++) {
		uint64_t z = state += 0x9e3779b97f4a7c15;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		mixed ^= z ^ z >> 31;
	}
	sink = mixed;
}

/* a = a * b + c over whole arrays, as NumPy would; one turn is one element. */
static void arrays(long turns)
{
	for (long done = 0; done < turns; done += FLOATS) {
		for (int i = 0; i < FLOATS; i++)
			a[i] = a[i] * b[i] + c[i];
		__asm__ volatile("" : : : "memory");
	}
}

static void getpid_loop(long turns)
{
	for (long i = 0; i < turns; i++)
		sink = syscall(SYS_getpid);
}

/* Pages of this program's own file, one after the other. */
static void read_loop(long turns)
{
	off_t end = lseek(file, 0, SEEK_END) / PAGE * PAGE, at = 0;

	for (long i = 0; i < turns; i++) {
		if (pread(file, page, PAGE, at) != PAGE)
			fail("pread");
		at = at + PAGE < end ? at + PAGE : 0;
	}
}

static void *answer(void *unused)
{
	char byte;

	while (read(there[0], &byte, 1) == 1)
		if (write(back[1], &byte, 1) != 1)
			fail("write");
	return unused;
}

/* A byte to another thread, and one back. */
static void ping_pong(long turns)
{
	char byte = 0;

	for (long i = 0; i < turns; i++)
		if (write(there[1], &byte, 1) != 1 || read(back[0], &byte, 1) != 1)
			fail("ping-pong");
}

static int compare(const void *left, const void *right)
{
	double l = *(const double *)left, r = *(const double *)right;

	return (l > r) - (l < r);
}

static void measure(const char *name, void (*loop)(long), long turns)
{
	double slices[SLICES];

	loop(turns); /* the caches are warm from here on */
	for (int i = 0; i < SLICES; i++) {
		double begin = now();

		loop(turns);
		slices[i] = (now() - begin) / turns;
	}
	qsort(slices, SLICES, sizeof(slices[0]), compare);
	printf("%s %.3f %.3f\n", name, slices[SLICES / 2], slices[0]);
}

int main(int argc, char **argv)
{
	pthread_t thread;
	cpu_set_t cpu;

	file = open(argv[0], O_RDONLY);
	if (file < 0)
		fail(argv[0]);
	if (pipe(there) || pipe(back))
		fail("pipe");
	for (int i = 0; i < FLOATS; i++)
		b[i] = 0.5f, c[i] = i;
	measure("compute", compute, 1000000);
	measure("arrays", arrays, 128L * FLOATS);
	measure("getpid", getpid_loop, 10000);
	measure("read", read_loop, 2000);
	/* A VM has one CPU; with two, the figure would be that of waking up an idle one. */
	CPU_ZERO(&cpu);
	CPU_SET(sched_getcpu(), &cpu);
	if (sched_setaffinity(0, sizeof(cpu), &cpu))
		fail("sched_setaffinity");
	errno = pthread_create(&thread, NULL, answer, NULL);
	if (errno)
		fail("pthread_create");
	measure("ping-pong", ping_pong, 200);
	return 0;
}
