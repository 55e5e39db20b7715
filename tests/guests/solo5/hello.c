/* Prints its boot information and its arguments. */
#include "guest.h"

int guest(const struct boot_info *info)
{
	say("hello from a unikernel\n");
	say_number("memory ", info->mem_size >> 20);
	say_number("ticks ", info->tsc_hz >= 1000000);
	say_number("features ", info->host_features);
	say_number("entries ", info->manifest->entries);
	say("arguments [");
	say(info->cmdline);
	say("]\n");
	return info->cmdline[0] == '!' ? info->cmdline[1] - '0' : 0;
}
