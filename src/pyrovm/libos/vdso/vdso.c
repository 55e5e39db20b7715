/*
 * The clocks as a library that every program finds by AT_SYSINFO_EHDR, as Linux' vDSO (vdso(7)): they
 * are read in the program, without a system call.  The boot information lies where all can read it.
 */
#include <asm/unistd.h>
#include <linux/time.h>

#include "../abi.h"

#define EXPORT __attribute__((visibility("default")))
#define NS_PER_S 1000000000UL

static volatile struct pv_boot *const boot = (void *)(PV_PHYSMAP + PV_BOOT_GPA);

static uint64_t read_tsc(void)
{
	uint32_t low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high) : : "memory");
	return (uint64_t)high << 32 | low;
}

static int ask(int id, struct timespec *t)
{
	long result;

	__asm__ volatile("syscall"
			 : "=a"(result)
			 : "0"((long)__NR_clock_gettime), "D"((long)id), "S"(t)
			 : "rcx", "r11", "memory");
	return (int)result;
}

/* The same as clock.c does; before that has looked for the first time, it has to. */
static uint64_t now(int is_realtime)
{
	uint64_t multiplier, tsc_base, base, ticks;
	uint32_t before;

	do {
		before = boot->clock_sequence;
		multiplier = (1000000UL << 32) / boot->tsc_khz;
		tsc_base = boot->tsc_base;
		base = is_realtime ? boot->realtime_base_ns : boot->monotonic_base_ns;
		ticks = read_tsc() - tsc_base;
	} while (before & 1 || before != boot->clock_sequence);
	if (!tsc_base) {
		struct timespec t;

		ask(is_realtime ? CLOCK_REALTIME : CLOCK_MONOTONIC, &t);
		return (uint64_t)t.tv_sec * NS_PER_S + (uint64_t)t.tv_nsec;
	}
	if ((int64_t)ticks < 0)
		return base;
	return base + (uint64_t)(((unsigned __int128)ticks * multiplier) >> 32);
}

EXPORT int __vdso_clock_gettime(int id, struct timespec *t)
{
	uint64_t ns;

	switch (id) {
	case CLOCK_REALTIME:
	case CLOCK_REALTIME_COARSE:
	case CLOCK_TAI:
		ns = now(1);
		break;
	case CLOCK_MONOTONIC:
	case CLOCK_MONOTONIC_RAW:
	case CLOCK_MONOTONIC_COARSE:
	case CLOCK_BOOTTIME:
		ns = now(0);
		break;
	default:
		return ask(id, t);
	}
	t->tv_sec = (long)(ns / NS_PER_S);
	t->tv_nsec = (long)(ns % NS_PER_S);
	return 0;
}

EXPORT int __vdso_gettimeofday(struct timeval *t, struct timezone *zone)
{
	if (t) {
		uint64_t ns = now(1);

		t->tv_sec = (long)(ns / NS_PER_S);
		t->tv_usec = (long)(ns % NS_PER_S / 1000);
	}
	if (zone)
		*zone = (struct timezone){ 0, 0 };
	return 0;
}

EXPORT long __vdso_time(long *t)
{
	long seconds = (long)(now(1) / NS_PER_S);

	if (t)
		*t = seconds;
	return seconds;
}
