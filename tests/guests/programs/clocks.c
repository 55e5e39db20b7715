/* Clocks and sleeping. */
#include "case.h"
#include <pthread.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <sys/times.h>

static void on_alarm(int n) {}

static int64_t ns_of(struct timespec t)
{
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

static void spin_ms(long ms)
{
	int64_t end = now_ns(CLOCK_THREAD_CPUTIME_ID) + ms * 1000000;

	while (now_ns(CLOCK_THREAD_CPUTIME_ID) < end)
		;
}

int main(void)
{
	static const int clocks[] = { CLOCK_REALTIME, CLOCK_MONOTONIC, CLOCK_PROCESS_CPUTIME_ID,
		CLOCK_THREAD_CPUTIME_ID, CLOCK_MONOTONIC_RAW, CLOCK_REALTIME_COARSE,
		CLOCK_MONOTONIC_COARSE, CLOCK_BOOTTIME, CLOCK_TAI };
	struct timespec t, left;
	struct timeval tv;
	struct rusage usage;
	struct tms tms;
	int64_t start, last, now;
	int backwards = 0;

	for (unsigned i = 0; i < sizeof(clocks) / sizeof(clocks[0]); i++) {
		char name[40];

		sprintf(name, "clock %d", clocks[i]);
		CALL(name, clock_gettime(clocks[i], &t));
		HOLDS("is set", t.tv_sec >= 0 && t.tv_nsec >= 0 && t.tv_nsec < 1000000000);
	}
	CALL("no such clock", clock_gettime(77, &t));
	CALL("resolution", clock_getres(CLOCK_MONOTONIC, &t));
	TEXT("of", "%ld.%09ld", t.tv_sec, t.tv_nsec);
	CALL("resolution of no clock", clock_getres(77, &t));
	CALL("resolution to nowhere", clock_getres(CLOCK_MONOTONIC, NULL));
	last = now_ns(CLOCK_MONOTONIC);
	for (int i = 0; i < 200000; i++) {
		now = now_ns(CLOCK_MONOTONIC);
		backwards += now < last;
		last = now;
	}
	CALL("backwards", backwards);
	gettimeofday(&tv, NULL);
	clock_gettime(CLOCK_REALTIME, &t);
	HOLDS("gettimeofday agrees", llabs(ns_of(t) - (tv.tv_sec * 1000000000LL + tv.tv_usec * 1000)) < 1000000000);
	HOLDS("time agrees", llabs(t.tv_sec - time(NULL)) <= 1);
	HOLDS("by system call", syscall(SYS_clock_gettime, CLOCK_MONOTONIC, &left) == 0 && ns_of(left) >= last);
	HOLDS("coarse is near", llabs(now_ns(CLOCK_MONOTONIC_COARSE) - now_ns(CLOCK_MONOTONIC)) < 500000000);
	HOLDS("after 2020", t.tv_sec > 1577836800);

	start = now_ns(CLOCK_MONOTONIC);
	CALL("nanosleep", nanosleep(&(struct timespec){ 0, 20000000 }, NULL));
	now = now_ns(CLOCK_MONOTONIC) - start;
	HOLDS("long enough", now >= 20000000 && now < 5000000000LL);
	CALL("nanosleep of nothing", nanosleep(&(struct timespec){ 0, 0 }, NULL));
	CALL("negative", nanosleep(&(struct timespec){ -1, 0 }, NULL));
	CALL("too many ns", nanosleep(&(struct timespec){ 0, 1000000000 }, NULL));
	CALL("bad address", syscall(SYS_nanosleep, BAD, NULL));
	CALL("relative", clock_nanosleep(CLOCK_REALTIME, 0, &(struct timespec){ 0, 1000000 }, NULL));
	t = (struct timespec){ (start + 60000000) / 1000000000, (start + 60000000) % 1000000000 };
	CALL("absolute", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
	HOLDS("not early", now_ns(CLOCK_MONOTONIC) >= start + 60000000);
	CALL("absolute, past", clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &t, NULL));
	TEXT("thread's clock", "%s", error_text(clock_nanosleep(CLOCK_THREAD_CPUTIME_ID, 0, &t, NULL)));
	signal(SIGALRM, on_alarm);
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 30000 } }, NULL);
	CALL("interrupted", nanosleep(&(struct timespec){ 30, 0 }, &left));
	HOLDS("what was left", left.tv_sec == 29);
	setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 30000 } }, NULL);
	TEXT("interrupted", "%s", error_text(clock_nanosleep(CLOCK_MONOTONIC, 0, &(struct timespec){ 30, 0 }, &left)));
	HOLDS("what was left then", left.tv_sec == 29);

	start = now_ns(CLOCK_PROCESS_CPUTIME_ID);
	sleep_ms(100);
	HOLDS("sleep takes no CPU time", now_ns(CLOCK_PROCESS_CPUTIME_ID) - start < 50000000);
	spin_ms(50);
	HOLDS("work does", now_ns(CLOCK_PROCESS_CPUTIME_ID) - start >= 50000000);
	CALL("rusage", getrusage(RUSAGE_SELF, &usage));
	HOLDS("CPU time", usage.ru_utime.tv_sec * 1000000 + usage.ru_utime.tv_usec + usage.ru_stime.tv_sec * 1000000 + usage.ru_stime.tv_usec > 40000);
	HOLDS("memory", usage.ru_maxrss > 100);
	CALL("of the thread", getrusage(RUSAGE_THREAD, &usage));
	CALL("of children", getrusage(RUSAGE_CHILDREN, &usage));
	CALL("is nothing", usage.ru_utime.tv_sec + usage.ru_utime.tv_usec);
	CALL("of what", getrusage(77, &usage));
	HOLDS("times", times(&tms) != -1 && tms.tms_utime + tms.tms_stime >= 4 && tms.tms_cutime == 0);
	CALL("ticks", sysconf(_SC_CLK_TCK));
	return 0;
}
