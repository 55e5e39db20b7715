/*
 * What is measured of a start.  Without arguments it writes one line, the first byte of which ends
 * the measurement.  With "when" the line is the TSC at the beginning of main, and CLOCK_MONOTONIC
 * then in ns.  With "stay" it remains until its standard input ends.
 */
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static unsigned long long read_tsc(void)
{
	unsigned int low, high;

	__asm__ volatile("lfence; rdtsc" : "=a"(low), "=d"(high));
	return (unsigned long long)high << 32 | low;
}

int main(int argc, char **argv)
{
	unsigned long long tsc = read_tsc();
	struct timespec now;
	char text[64] = "hello\n";
	int length = 6;

	if (argc > 1 && !strcmp(argv[1], "when")) {
		clock_gettime(CLOCK_MONOTONIC, &now);
		length = snprintf(text, sizeof(text), "%llu %llu\n", tsc,
				  now.tv_sec * 1000000000ULL + now.tv_nsec);
	}
	if (write(STDOUT_FILENO, text, length) != length)
		return 1;
	if (argc > 1 && !strcmp(argv[1], "stay"))
		while (read(STDIN_FILENO, text, sizeof(text)) > 0)
			;
	return 0;
}
