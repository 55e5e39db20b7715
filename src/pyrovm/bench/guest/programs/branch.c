/*
 * A program to be branched: branch [MIB [fork]].  It writes to MIB of memory, says that it is
 * ready, and goes on in each branch as the argument tells that the branch is given:
 *
 *   hello   writes a line
 *   stay    the same, and remains until its standard input ends
 *   copy    writes one byte to every page, twice: ns for each page, the first time and the second
 *
 * With "fork" it is no guest: its branch is a child of its own, by fork(2), that does "copy".
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define PAGE 4096UL
#define HUGE (2UL << 20)

static char *memory;
static unsigned long size;

static double now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1e9 + now.tv_nsec;
}

static double pass(char value)
{
	double begin = now_ns();

	for (unsigned long at = 0; at < size; at += PAGE)
		((volatile char *)memory)[at] = value;
	return (now_ns() - begin) / (size / PAGE);
}

static int go_on(const char *order)
{
	char text[64] = "hello\n";

	if (!strcmp(order, "copy")) {
		double first = pass(2);

		snprintf(text, sizeof(text), "%.1f %.1f\n", first, pass(3));
	}
	if (write(STDOUT_FILENO, text, strlen(text)) != (ssize_t)strlen(text))
		return 1;
	if (!strcmp(order, "stay"))
		while (read(STDIN_FILENO, text, sizeof(text)) > 0)
			;
	return 0;
}

static int as_process(void)
{
	int status;
	pid_t child = fork();

	if (!child)
		_exit(go_on("copy"));
	if (child < 0 || waitpid(child, &status, 0) != child)
		return 1;
	return status ? 1 : 0;
}

int main(int argc, char **argv)
{
	char news[256] = "", *order;
	int device, length;

	if (argc > 1 && (size = strtoul(argv[1], NULL, 10) << 20)) {
		memory = mmap(NULL, size + HUGE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		if (memory == MAP_FAILED)
			return 1;
		memory += -(unsigned long)memory & (HUGE - 1);
		madvise(memory, size, MADV_HUGEPAGE);
		pass(1);
	}
	if (argc > 2)
		return as_process();
	device = open("/dev/pyrovm", O_RDWR);
	if (device < 0 || write(device, "ready", 5) != 5)
		return 1;
	length = read(device, news, sizeof(news) - 1);
	if (length < 0)
		return 1;
	order = strchr(news, '\n');
	if (!order)
		return 1;
	order[strcspn(order + 1, "\n") + 1] = 0;
	return go_on(order + 1);
}
