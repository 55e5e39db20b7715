/* Threads: a spinning one does not starve another, mutexes and conditions, thread-local data. */
#include <pthread.h>
#include <sched.h>
#include <stdio.h>
#include <time.h>

static volatile int stop, turn;
static volatile long spins;
static __thread int mine = 5;
static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t changed = PTHREAD_COND_INITIALIZER;

static void *spin(void *unused)
{
	while (!stop)
		spins++;
	return (void *)42;
}

static void *answer(void *unused)
{
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&lock);
		while (turn != 1)
			pthread_cond_wait(&changed, &lock);
		turn = 0;
		pthread_cond_signal(&changed);
		pthread_mutex_unlock(&lock);
	}
	return NULL;
}

static void *count(void *sum)
{
	double x = 1.0; /* in a vector register across switches */

	mine++;
	for (int i = 0; i < 1000; i++) {
		x += 0.5;
		if (i % 100 == 0)
			sched_yield();
		__atomic_add_fetch((int *)sum, 1, __ATOMIC_SEQ_CST);
	}
	return (void *)(long)(mine == 6 && x == 501.0);
}

int main(void)
{
	pthread_t thread, many[20];
	struct timespec moment = { 0, 30000000 };
	void *result;
	int sum = 0, right = 0;

	pthread_create(&thread, NULL, spin, NULL);
	while (!spins) /* on a busy machine it may take its time */
		sched_yield();
	nanosleep(&moment, NULL);
	stop = 1;
	pthread_join(thread, &result);
	printf("spun, joined %ld\n", (long)result);

	pthread_create(&thread, NULL, answer, NULL);
	for (int i = 0; i < 200; i++) {
		pthread_mutex_lock(&lock);
		while (turn != 0)
			pthread_cond_wait(&changed, &lock);
		turn = 1;
		pthread_cond_signal(&changed);
		pthread_mutex_unlock(&lock);
	}
	pthread_join(thread, NULL);

	for (int i = 0; i < 20; i++)
		pthread_create(&many[i], NULL, count, &sum);
	for (int i = 0; i < 20; i++) {
		pthread_join(many[i], &result);
		right += (long)result;
	}
	printf("counted %d, %d threads were right\n", sum, right);
	return 0;
}
