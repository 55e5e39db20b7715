/* Says that it is ready, and tells in each branch what of it has gone on: for tests of templates. */
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <time.h>
#include <unistd.h>

#define SIZE (4 << 20)

static unsigned char memory[SIZE];
static volatile long turns;
static volatile int may_end;

static double now(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static void *work(void *argument)
{
	double *sum = argument;

	while (!may_end) {
		*sum = *sum * 0.5 + 1.0; /* goes to 2 */
		turns++;
	}
	return NULL;
}

int main(void)
{
	int fd = open("/dev/pyrovm", O_RDWR);
	char text[256] = "";
	double sum = 0, before, wall;
	pthread_t thread;
	unsigned random, count = 0;
	long seen;

	memset(memory, 7, sizeof(memory));
	getrandom(&random, sizeof(random), 0);
	pthread_create(&thread, NULL, work, &sum);
	while (turns < 1000)
		usleep(1000);
	before = now(CLOCK_MONOTONIC);
	wall = now(CLOCK_REALTIME);
	if (write(fd, "ready", 5) != 5)
		return 2;
	printf("clock %s\n", now(CLOCK_MONOTONIC) >= before && now(CLOCK_MONOTONIC) < before + 30 &&
	       now(CLOCK_REALTIME) >= wall ? "goes on" : "jumps");
	seen = turns;
	while (turns == seen)
		usleep(1000);
	may_end = 1;
	pthread_join(thread, NULL);
	printf("registers %.3f\n", sum);
	for (unsigned i = 0; i < sizeof(memory); i++)
		count += memory[i] == 7;
	memset(memory, 8, sizeof(memory));
	printf("memory %s\n", count == sizeof(memory) ? "is there" : "is not");
	text[read(fd, text, sizeof(text) - 1)] = 0;
	getrandom(&random, sizeof(random), 0);
	printf("random %08x\n%s", random, text);
	return 0;
}
