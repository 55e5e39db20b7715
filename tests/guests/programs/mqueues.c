/* POSIX message queues: names, order, waiting, limits, notification. */
#include "case.h"
#include <limits.h>
#include <mqueue.h>
#include <poll.h>
#include <pthread.h>
#include <sys/resource.h>

static const char *name = "/pyrovm-test";
static volatile int notified, value;

static void on_message(int n, siginfo_t *info, void *unused)
{
	notified++;
	value = info->si_code == SI_MESGQ ? info->si_value.sival_int : -1;
}
static void on_alarm(int n) {}
static void in_thread(union sigval v) { notified += v.sival_int; }

static void *send_late(void *q)
{
	sleep_ms(30);
	return (void *)(long)mq_send(*(mqd_t *)q, "late", 4, 0);
}
static void *receive_late(void *q)
{
	char text[100];

	sleep_ms(30);
	return (void *)mq_receive(*(mqd_t *)q, text, sizeof(text), NULL);
}

static void show(const char *what, mqd_t q)
{
	struct mq_attr a;
	int result = mq_getattr(q, &a);

	TEXT(what, "%d: %ld of %ld with %ld bytes, flags %lo", result, a.mq_curmsgs, a.mq_maxmsg, a.mq_msgsize,
	     a.mq_flags);
}

static void receive(const char *what, mqd_t q)
{
	char text[100];
	unsigned priority = 99;
	ssize_t n = mq_receive(q, text, sizeof(text), &priority);

	if (n < 0)
		TEXT(what, "%s", error_text(errno));
	else
		TEXT(what, "%.*s, priority %u", (int)n, text, priority);
}

static int events(mqd_t q)
{
	struct pollfd p = { .fd = q, .events = POLLIN | POLLOUT };

	return poll(&p, 1, 0) > 0 ? p.revents : 0;
}

int main(void)
{
	struct mq_attr a = { .mq_maxmsg = 3, .mq_msgsize = 100 };
	struct sigevent e = { .sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR1, .sigev_value.sival_int = 7 };
	struct timespec until;
	char text[200], long_name[NAME_MAX + 10];
	mqd_t q, other;
	pthread_t thread;
	void *got;

	mq_unlink(name);
	CALL("none there", mq_open(name, O_RDWR));
	KEEP("create", q, mq_open(name, O_RDWR | O_CREAT, 0600, &a));
	show("attributes", q);
	CALL("exclusive", mq_open(name, O_RDWR | O_CREAT | O_EXCL, 0600, &a));
	KEEP("again", other, mq_open(name, O_RDONLY | O_NONBLOCK));
	CALL("close on exec", fcntl(q, F_GETFD));
	CALL("empty", mq_receive(other, text, 100, NULL));
	CALL("writable", events(q));
	CALL("send", mq_send(q, "low", 3, 1));
	CALL("higher", mq_send(q, "high", 4, 30000));
	CALL("second of it", mq_send(q, "high too", 8, 30000));
	show("full", q);
	CALL("readable", events(q));
	CALL("not open for writing", mq_send(other, "x", 1, 0));
	receive("first", other);
	receive("second", q);
	receive("third", q);
	CALL("too long", mq_send(q, text, 101, 0));
	CALL("no room for the longest", mq_receive(q, text, 99, NULL));
	CALL("priority", mq_send(q, "x", 1, MQ_PRIO_MAX));
	CALL("nothing in it", mq_send(q, "", 0, 5));
	receive("nothing", q);

	pthread_create(&thread, NULL, send_late, &q);
	receive("waits", q);
	pthread_join(thread, &got);
	for (int i = 0; i < 3; i++)
		mq_send(q, "fill", 4, 0);
	pthread_create(&thread, NULL, receive_late, &q);
	CALL("waits for room", mq_send(q, "last", 4, 0));
	pthread_join(thread, &got);
	CALL("which was made by", (long)got);
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_nsec += 20000000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	CALL("time-out of sending", mq_timedsend(q, "x", 1, 0, &until));
	CALL("no time", mq_timedsend(q, "x", 1, 0, &(struct timespec){ 0, 1000000000 }));
	while (mq_receive(other, text, 100, NULL) >= 0)
		;
	CALL("time-out of receiving", mq_timedreceive(q, text, 100, NULL, &until));
	CALL("of no queue", mq_send(0, "x", 1, 0));
	CALL("bad address", mq_send(q, BAD, 5, 0));
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	ualarm(30000, 0);
	CALL("a signal", mq_receive(q, text, 100, NULL));

	sigaction(SIGUSR1, &(struct sigaction){ .sa_sigaction = on_message, .sa_flags = SA_SIGINFO }, NULL);
	CALL("notify", mq_notify(q, &e));
	CALL("only once", mq_notify(q, &e));
	mq_send(q, "x", 1, 0);
	TEXT("notified", "%d of %d", notified, value);
	mq_send(q, "y", 1, 0);
	CALL("not again", notified);
	CALL("notify of the next", mq_notify(q, &e));
	mq_send(q, "z", 1, 0);
	CALL("not into a queue with messages", notified);
	CALL("no notification", mq_notify(q, NULL));
	e.sigev_notify = 77;
	CALL("by nothing", mq_notify(q, &e));
	e.sigev_notify = SIGEV_NONE;
	CALL("without a sign", mq_notify(q, &e));
	mq_notify(q, NULL);
	while (mq_receive(other, text, 100, NULL) >= 0)
		;
	e = (struct sigevent){ .sigev_notify = SIGEV_THREAD, .sigev_value.sival_int = 10,
			       .sigev_notify_function = in_thread };
	CALL("in a thread", mq_notify(q, &e));
	mq_send(q, "x", 1, 0);
	for (int i = 0; notified < 11 && i < 200; i++)
		sleep_ms(10);
	CALL("which ran", notified);

	a.mq_flags = O_NONBLOCK;
	CALL("set flags", mq_setattr(q, &a, NULL));
	CALL("without waiting", mq_timedreceive(q, text, 100, NULL, NULL));
	CALL("empty by now", mq_timedreceive(q, text, 100, NULL, NULL));
	a.mq_flags = O_APPEND;
	CALL("another flag", mq_setattr(q, &a, NULL));
	CALL("unlink", mq_unlink(name));
	CALL("no such name", mq_unlink(name));
	CALL("still works", mq_send(q, "x", 1, 0));
	show("still there", q);
	CALL("close", mq_close(q));
	CALL("closed", mq_close(q));
	mq_close(other);

	a = (struct mq_attr){ .mq_maxmsg = 0, .mq_msgsize = 10 };
	CALL("no messages", mq_open(name, O_RDWR | O_CREAT, 0600, &a));
	a = (struct mq_attr){ .mq_maxmsg = 10, .mq_msgsize = -1 };
	CALL("no size", mq_open(name, O_RDWR | O_CREAT, 0600, &a));
	setrlimit(RLIMIT_MSGQUEUE, &(struct rlimit){ 10000, 10000 });
	CALL("beyond the limit", mq_open(name, O_RDWR | O_CREAT, 0600, NULL));
	CALL("slashes", syscall(SYS_mq_open, "a/b", O_RDWR | O_CREAT, 0600, NULL));
	CALL("no name", mq_open("/", O_RDWR | O_CREAT, 0600, NULL));
	memset(long_name, 'x', sizeof(long_name) - 1);
	long_name[0] = '/';
	long_name[sizeof(long_name) - 1] = 0;
	CALL("long name", mq_open(long_name, O_RDWR | O_CREAT, 0600, NULL));
	return 0;
}
