/* Futexes, and what C libraries make of them. */
#include "case.h"
#include <linux/futex.h>
#include <pthread.h>
#include <semaphore.h>

static int word, other;
static volatile int awake;

static long futex(int *at, int operation, unsigned value, void *timeout, int *second, unsigned third)
{
	return syscall(SYS_futex, at, operation, value, timeout, second, third);
}
static void *waiter(void *arg)
{
	if (!futex(&word, FUTEX_WAIT_PRIVATE, 0, NULL, NULL, 0))
		__sync_add_and_fetch(&awake, 1);
	return NULL;
}
static void *bit_waiter(void *arg)
{
	futex(&word, FUTEX_WAIT_BITSET_PRIVATE, 0, NULL, NULL, (long)arg);
	__sync_add_and_fetch(&awake, 1);
	return NULL;
}
static pthread_mutex_t robust, inheriting;
static void *die_holding(void *arg)
{
	pthread_mutex_lock(&robust);
	return NULL;
}
static void *hold_a_while(void *arg)
{
	pthread_mutex_lock(&inheriting);
	awake = 1;
	sleep_ms(50);
	pthread_mutex_unlock(&inheriting);
	return NULL;
}
static void *add_up(void *arg)
{
	for (int i = 0; i < 20000; i++) {
		pthread_mutex_lock(arg);
		other++;
		pthread_mutex_unlock(arg);
	}
	return NULL;
}

int main(void)
{
	struct timespec t = { 0, 10000000 };
	pthread_mutexattr_t attributes;
	pthread_mutex_t plain = PTHREAD_MUTEX_INITIALIZER;
	pthread_t threads[4];
	sem_t semaphore;
	int n = 0;

	CALL("other value", futex(&word, FUTEX_WAIT, 1, NULL, NULL, 0));
	CALL("timeout", futex(&word, FUTEX_WAIT, 0, &t, NULL, 0));
	CALL("bad timeout", futex(&word, FUTEX_WAIT, 0, &(struct timespec){ 0, -1 }, NULL, 0));
	CALL("odd address", futex((int *)((char *)&word + 1), FUTEX_WAIT, 0, NULL, NULL, 0));
	CALL("bad address", futex(BAD, FUTEX_WAIT, 0, NULL, NULL, 0));
	CALL("nobody waits", futex(&word, FUTEX_WAKE, 1, NULL, NULL, 0));
	CALL("no bits", futex(&word, FUTEX_WAIT_BITSET, 0, NULL, NULL, 0));
	CALL("unknown operation", futex(&word, 99, 0, NULL, NULL, 0));
	CALL("absolute, past", futex(&word, FUTEX_WAIT_BITSET, 0, &(struct timespec){ 1, 0 }, NULL, -1));
	CALL("absolute, realtime", futex(&word, FUTEX_WAIT_BITSET | FUTEX_CLOCK_REALTIME, 0, &(struct timespec){ 1, 0 }, NULL, -1));

	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, waiter, NULL);
	sleep_ms(50);
	CALL("requeue, other value", futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)1, &other, 7));
	CALL("wake one, move two", futex(&word, FUTEX_CMP_REQUEUE_PRIVATE, 1, (void *)2, &other, 0));
	CALL("wake the moved", futex(&other, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0));
	while (n < 1)
		n += futex(&word, FUTEX_WAKE_PRIVATE, 10, NULL, NULL, 0);
	CALL("wake the rest", n);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CALL("all awake", awake);
	awake = 0;
	pthread_create(&threads[0], NULL, bit_waiter, (void *)1);
	pthread_create(&threads[1], NULL, bit_waiter, (void *)2);
	sleep_ms(50);
	CALL("wake by other bits", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 4));
	CALL("wake by bits", futex(&word, FUTEX_WAKE_BITSET_PRIVATE, 10, NULL, NULL, 2));
	CALL("wake op", futex(&other, FUTEX_WAKE_OP_PRIVATE, 1, (void *)1, &word, FUTEX_OP(FUTEX_OP_ADD, 3, FUTEX_OP_CMP_EQ, 0)));
	CALL("value after it", word);
	pthread_join(threads[0], NULL);
	pthread_join(threads[1], NULL);

	other = 0;
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, add_up, &plain);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CALL("mutex", other);
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_setrobust(&attributes, PTHREAD_MUTEX_ROBUST);
	pthread_mutex_init(&robust, &attributes);
	pthread_create(&threads[0], NULL, die_holding, NULL);
	pthread_join(threads[0], NULL);
	TEXT("owner died", "%s", error_text(pthread_mutex_lock(&robust)));
	CALL("repaired", pthread_mutex_consistent(&robust));
	CALL("unlock", pthread_mutex_unlock(&robust));
	CALL("lock again", pthread_mutex_lock(&robust));
	pthread_mutexattr_init(&attributes);
	CALL("inheritance", pthread_mutexattr_setprotocol(&attributes, PTHREAD_PRIO_INHERIT));
	pthread_mutex_init(&inheriting, &attributes);
	awake = 0;
	pthread_create(&threads[0], NULL, hold_a_while, NULL);
	while (!awake)
		sleep_ms(1);
	TEXT("held by another", "%s", error_text(pthread_mutex_trylock(&inheriting)));
	clock_gettime(CLOCK_REALTIME, &t);
	t.tv_nsec = 0;
	TEXT("not in time", "%s", error_text(pthread_mutex_timedlock(&inheriting, &t)));
	CALL("in the end", pthread_mutex_lock(&inheriting));
	CALL("unlock", pthread_mutex_unlock(&inheriting));
	pthread_join(threads[0], NULL);
	for (int i = 0; i < 4; i++)
		pthread_create(&threads[i], NULL, add_up, &inheriting);
	for (int i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	CALL("mutex with inheritance", other);
	int lock = 0;
	CALL("lock_pi", futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	HOLDS("is ours", (lock & FUTEX_TID_MASK) == gettid());
	CALL("again", futex(&lock, FUTEX_LOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	CALL("unlock_pi", futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	CALL("unlock of what is free", futex(&lock, FUTEX_UNLOCK_PI_PRIVATE, 0, NULL, NULL, 0));
	sem_init(&semaphore, 0, 1);
	CALL("semaphore", sem_wait(&semaphore));
	CALL("is zero", sem_trywait(&semaphore));
	CALL("not in time", sem_timedwait(&semaphore, &(struct timespec){ 1, 0 }));
	return 0;
}
