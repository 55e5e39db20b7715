/* Timers that send signals. */
#include "case.h"
#include <pthread.h>
#include <sys/time.h>

static volatile int count, last_value, last_code;

static void on_signal(int number, siginfo_t *info, void *context)
{
	count++;
	last_value = info->si_value.sival_int;
	last_code = info->si_code;
}
static void wait_until(int n)
{
	for (int i = 0; i < 500 && count < n; i++)
		sleep_ms(10);
}
static void on_thread(union sigval value)
{
	last_value = value.sival_int;
	count++;
}
static struct itimerspec after_ms(long first, long interval)
{
	return (struct itimerspec){ { interval / 1000, interval % 1000 * 1000000 }, { first / 1000, first % 1000 * 1000000 } };
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_signal, .sa_flags = SA_SIGINFO };
	struct sigevent event = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGRTMIN, .sigev_value.sival_int = 77 };
	struct itimerval it;
	struct itimerspec ts, old;
	timer_t timer, other;
	sigset_t set;

	sigaction(SIGALRM, &action, NULL);
	sigaction(SIGVTALRM, &action, NULL);
	sigaction(SIGRTMIN, &action, NULL);
	CALL("alarm", alarm(100));
	CALL("alarm tells what was left", alarm(0));
	CALL("no alarm", alarm(0));
	CALL("setitimer", setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 10000 }, { 0, 10000 } }, NULL));
	wait_until(3);
	HOLDS("periodic", count >= 3);
	CALL("getitimer", getitimer(ITIMER_REAL, &it));
	HOLDS("interval", it.it_interval.tv_usec == 10000 && it.it_value.tv_usec <= 10000);
	CALL("stop", setitimer(ITIMER_REAL, &(struct itimerval){ 0 }, NULL));
	sleep_ms(30);
	count = 0;
	sleep_ms(50);
	CALL("stopped", count);
	CALL("which", setitimer(77, &(struct itimerval){ 0 }, NULL));
	CALL("microseconds", setitimer(ITIMER_REAL, &(struct itimerval){ { 0, 0 }, { 0, 1000000 } }, NULL));
	CALL("CPU time", setitimer(ITIMER_VIRTUAL, &(struct itimerval){ { 0, 0 }, { 0, 20000 } }, NULL));
	for (int64_t end = now_ns(CLOCK_MONOTONIC) + 5000000000LL; !count && now_ns(CLOCK_MONOTONIC) < end;)
		;
	CALL("came", count);

	CALL("create", timer_create(CLOCK_MONOTONIC, &event, &timer));
	CALL("gettime of disarmed", (timer_gettime(timer, &ts), ts.it_value.tv_sec + ts.it_value.tv_nsec));
	ts = after_ms(10, 0);
	count = 0;
	CALL("settime", timer_settime(timer, 0, &ts, NULL));
	wait_until(1);
	TEXT("once", "%d %d %d", count, last_value, last_code);
	sigemptyset(&set);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	ts = after_ms(5, 5);
	count = 0;
	timer_settime(timer, 0, &ts, NULL);
	sleep_ms(100);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	HOLDS("one signal at least", count >= 1);
	HOLDS("overrun", timer_getoverrun(timer) >= 0);
	ts = after_ms(0, 0);
	CALL("disarm", timer_settime(timer, 0, &ts, &old));
	HOLDS("old interval", old.it_interval.tv_nsec == 5000000);
	ts = after_ms(-100, 0);
	CALL("bad time", timer_settime(timer, 0, &ts, NULL));
	CALL("delete", timer_delete(timer));
	CALL("delete twice", syscall(SYS_timer_delete, 12345));
	CALL("no such clock", timer_create(77, &event, &timer));
	event.sigev_signo = 9999;
	CALL("no such signal", timer_create(CLOCK_MONOTONIC, &event, &timer));
	event = (struct sigevent){ .sigev_notify = SIGEV_THREAD, .sigev_notify_function = on_thread, .sigev_value.sival_int = 88 };
	CALL("by a thread", timer_create(CLOCK_REALTIME, &event, &timer));
	count = 0;
	ts = after_ms(10, 0);
	timer_settime(timer, 0, &ts, NULL);
	wait_until(1);
	TEXT("thread", "%d %d", count, last_value);
	event = (struct sigevent){ .sigev_notify = SIGEV_NONE };
	CALL("silent", timer_create(CLOCK_MONOTONIC, &event, &other));
	ts = after_ms(1000000, 0);
	timer_settime(other, 0, &ts, NULL);
	timer_gettime(other, &ts);
	HOLDS("runs", ts.it_value.tv_sec >= 990 && ts.it_value.tv_sec < 1000);
	CALL("default event", timer_create(CLOCK_REALTIME, NULL, &timer));
	int64_t at = now_ns(CLOCK_REALTIME) + 20000000;
	count = 0;
	ts = (struct itimerspec){ { 0, 0 }, { at / 1000000000, at % 1000000000 } };
	CALL("absolute", timer_settime(timer, TIMER_ABSTIME, &ts, NULL));
	wait_until(1);
	CALL("came then", count);
	HOLDS("not early", now_ns(CLOCK_REALTIME) >= at);
	return 0;
}
