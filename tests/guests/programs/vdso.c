/* Clocks that are read without a system call agree with those that are read with one. */
#define _GNU_SOURCE
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

#define ROUNDS 5000

static long long ns_of(const struct timespec *t)
{
	return t->tv_sec * 1000000000LL + t->tv_nsec;
}

static long long by_library(clockid_t id)
{
	struct timespec t = { -1, -1 };

	return clock_gettime(id, &t) ? -1 : ns_of(&t);
}

static long long by_call(clockid_t id)
{
	struct timespec t = { -1, -1 };

	return syscall(SYS_clock_gettime, id, &t) ? -1 : ns_of(&t);
}

static void compare(const char *name, clockid_t id)
{
	long long before = by_call(id), first = before;
	int backwards = 0;

	for (int i = 0; i < ROUNDS; i++) {
		long long now = i & 1 ? by_call(id) : by_library(id);

		backwards += now < before;
		before = now;
	}
	printf("%s: %d times backwards, %s\n", name, backwards, before > first ? "advances" : "stands");
}

int main(void)
{
	const char *library = (const char *)getauxval(AT_SYSINFO_EHDR);
	struct timeval now;
	long long early, late;
	char line[256];
	int named = 0;
	FILE *maps = fopen("/proc/self/maps", "r");

	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "[vdso]")) {
			unsigned long start, end;
			char bits[5];

			sscanf(line, "%lx-%lx %4s", &start, &end, bits);
			named += start == (unsigned long)library && !strcmp(bits, "r-xp");
		}
	printf("there: %d, an ELF file: %d, in maps: %d\n", !!library, !memcmp(library, "\177ELF", 4), named);

	compare("monotonic", CLOCK_MONOTONIC);
	compare("raw", CLOCK_MONOTONIC_RAW);
	compare("realtime", CLOCK_REALTIME);
	compare("boottime", CLOCK_BOOTTIME);
	compare("tai", CLOCK_TAI);
	compare("process", CLOCK_PROCESS_CPUTIME_ID);
	compare("thread", CLOCK_THREAD_CPUTIME_ID);

	early = by_call(CLOCK_REALTIME) / 1000;
	gettimeofday(&now, NULL);
	late = by_call(CLOCK_REALTIME) / 1000;
	printf("time of day: %d\n", early <= now.tv_sec * 1000000LL + now.tv_usec &&
				    now.tv_sec * 1000000LL + now.tv_usec <= late);
	early = by_call(CLOCK_REALTIME_COARSE) / 1000000000 - 1; /* Linux' is that of the last tick */
	printf("time: %d\n", early <= time(NULL) && time(NULL) <= late / 1000000 + 60);
	printf("coarse: %d %d\n", by_library(CLOCK_REALTIME_COARSE) > 0, by_library(CLOCK_MONOTONIC_COARSE) > 0);
	early = by_library(99);
	printf("no such clock: %lld, %d\n", early, errno == EINVAL);
	return 0;
}
