/* Computes with SSE, which real programs use from their first instruction. */
#include "guest.h"

static double series(int terms)
{
	double sum = 0, sign = 1;

	for (int i = 0; i < terms; i++, sign = -sign)
		sum += sign / (2 * i + 1);
	return 4 * sum;
}

int guest(const struct boot_info *info)
{
	say_number("pi ", series(100000 + (info->cmdline[0] != 0)) * 10000);
	return 0;
}
