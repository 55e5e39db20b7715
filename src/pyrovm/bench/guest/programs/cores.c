/*
 * What a second CPU is worth: the same work by one thread, then halved between two, again and again.
 * Writes for each round the ns that one took and that two took.  Argument: the rounds.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#define TURNS 40000000L

static volatile uint64_t sink; /* what is computed is used */

static double now(void)
{
	struct timespec time;

	clock_gettime(CLOCK_MONOTONIC, &time);
	return time.tv_sec * 1e9 + time.tv_nsec;
}

/* A generator of pseudo-random numbers (splitmix64): adds, shifts, multiplies, no memory. */
static void *compute(void *turns)
{
	uint64_t state = (uintptr_t)turns, mixed = 0;

	for (long i = (long)turns; i > 0; i--) {
		uint64_t z = state += 0x9e3779b97f4a7c15;

		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
		z = (z ^ z >> 27) * 0x94d049bb133111eb;
		mixed ^= z ^ z >> 31;
	}
	sink = mixed;
	return NULL;
}

static double by(int threads)
{
	pthread_t others[8];
	double begin = now();

	for (int i = 1; i < threads; i++)
		if (pthread_create(&others[i], NULL, compute, (void *)(TURNS / threads)))
			exit(1);
	compute((void *)(TURNS / threads));
	for (int i = 1; i < threads; i++)
		pthread_join(others[i], NULL);
	return now() - begin;
}

int main(int argc, char **argv)
{
	int rounds = argc > 1 ? atoi(argv[1]) : 1;

	for (int i = 0; i < rounds; i++) {
		double one = by(1);

		printf("%.0f %.0f\n", one, by(2));
	}
	return 0;
}
