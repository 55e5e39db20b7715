/* Sleeps by poll; the wall clock and the time stamp counter agree on how long. */
#include "guest.h"

int guest(const struct boot_info *info)
{
	uint64_t before, after, start = rdtsc();
	struct poll p = { 50000000, 7, -1 };

	hypercall(WALLTIME, &before);
	hypercall(POLL, &p);
	hypercall(WALLTIME, &after);
	say_number("ready ", p.ready << 8 | p.ret);
	say_number("seconds ", before / 1000000000);
	say_number("slept ", (after - before) / 1000000);
	say_number("counted ", (rdtsc() - start) / (info->tsc_hz / 1000));
	return 0;
}
