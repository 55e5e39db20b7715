/* Event descriptors: eventfd, timerfd, signalfd, inotify. */
#include "case.h"
#include <poll.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/signalfd.h>
#include <sys/timerfd.h>

static int ready(int fd, int ms)
{
	struct pollfd p = { fd, POLLIN | POLLOUT };

	poll(&p, 1, ms);
	return p.revents;
}

static void *add_late(void *fd)
{
	sleep_ms(30);
	write(*(int *)fd, &(uint64_t){ 5 }, 8);
	return NULL;
}

static void eventfds(void)
{
	uint64_t value = 0;
	pthread_t thread;
	int fd = eventfd(3, EFD_NONBLOCK), other;

	CALL("ready", ready(fd, 0));
	CALL("read", read(fd, &value, 8));
	CALL("value", value);
	CALL("read of zero", read(fd, &value, 8));
	CALL("ready at zero", ready(fd, 0));
	CALL("write", write(fd, &(uint64_t){ 4 }, 8));
	CALL("write again", write(fd, &(uint64_t){ 6 }, 8));
	CALL("sum", (read(fd, &value, 8), value));
	CALL("short read", read(fd, &value, 7));
	CALL("short write", write(fd, &value, 7));
	CALL("largest", write(fd, &(uint64_t){ -2UL }, 8));
	CALL("full", write(fd, &(uint64_t){ 1 }, 8));
	CALL("ready when full", ready(fd, 0));
	CALL("invalid value", write(fd, &(uint64_t){ -1UL }, 8));
	close(fd);
	fd = eventfd(2, EFD_SEMAPHORE | EFD_CLOEXEC);
	CALL("semaphore", (read(fd, &value, 8), value));
	CALL("again", (read(fd, &value, 8), value));
	CALL("its flag", fcntl(fd, F_GETFD));
	pthread_create(&thread, NULL, add_late, &fd);
	CALL("waits", (read(fd, &value, 8), value));
	pthread_join(thread, NULL);
	CALL("flags", eventfd(0, 0x77));
	close(fd);
}

static void timerfds(void)
{
	uint64_t times = 0;
	struct itimerspec old, now;
	int64_t start;
	int fd = timerfd_create(CLOCK_MONOTONIC, TFD_NONBLOCK);

	CALL("disarmed", read(fd, &times, 8));
	CALL("arm", timerfd_settime(fd, 0, &(struct itimerspec){ { 0, 0 }, { 0, 20000000 } }, NULL));
	CALL("not yet", read(fd, &times, 8));
	CALL("ready", ready(fd, 5000));
	CALL("expirations", (read(fd, &times, 8), times));
	CALL("no more", read(fd, &times, 8));
	CALL("periodic", timerfd_settime(fd, 0, &(struct itimerspec){ { 0, 5000000 }, { 0, 5000000 } }, &old));
	CALL("old one", old.it_value.tv_sec + old.it_value.tv_nsec);
	sleep_ms(60);
	HOLDS("several", read(fd, &times, 8) == 8 && times >= 8);
	CALL("gettime", timerfd_gettime(fd, &now));
	HOLDS("what is left", now.it_interval.tv_nsec == 5000000 && now.it_value.tv_nsec <= 5000000);
	CALL("disarm", timerfd_settime(fd, 0, &(struct itimerspec){ 0 }, NULL));
	CALL("ready no more", ready(fd, 20));
	start = now_ns(CLOCK_MONOTONIC);
	now.it_value = (struct timespec){ (start + 20000000) / 1000000000, (start + 20000000) % 1000000000 };
	now.it_interval = (struct timespec){ 0 };
	CALL("absolute", timerfd_settime(fd, TFD_TIMER_ABSTIME, &now, NULL));
	CALL("ready then", ready(fd, 5000));
	HOLDS("not early", now_ns(CLOCK_MONOTONIC) >= start + 20000000);
	CALL("in the past", timerfd_settime(fd, TFD_TIMER_ABSTIME, &(struct itimerspec){ { 0, 0 }, { 0, 1 } }, NULL));
	CALL("at once", ready(fd, 0));
	CALL("bad nanoseconds", timerfd_settime(fd, 0, &(struct itimerspec){ { 0, 0 }, { 0, 1000000000 } }, NULL));
	CALL("short read", read(fd, &times, 4));
	CALL("write", write(fd, &times, 8));
	CALL("clock", timerfd_create(99, 0));
	CALL("flags", timerfd_create(CLOCK_MONOTONIC, 0x77));
	CALL("of a file", timerfd_settime(0, 0, &now, NULL));
	CALL("realtime", timerfd_create(CLOCK_REALTIME, 0) >= 0);
}

static void signalfds(void)
{
	struct signalfd_siginfo info[3];
	sigset_t set;
	int fd;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGRTMIN);
	sigprocmask(SIG_BLOCK, &set, NULL);
	fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
	CALL("nothing", read(fd, info, sizeof(info)));
	kill(getpid(), SIGUSR1);
	kill(getpid(), SIGUSR1);
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 41 });
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 42 });
	CALL("ready", ready(fd, 0));
	CALL("read", read(fd, info, sizeof(info)) / (long)sizeof(info[0]));
	TEXT("first", "%u %d", info[0].ssi_signo, info[0].ssi_code);
	HOLDS("sender", (int)info[0].ssi_pid == getpid() && info[0].ssi_uid == getuid());
	TEXT("queued", "%d %d %d", info[1].ssi_signo == (unsigned)SIGRTMIN, info[1].ssi_code, info[1].ssi_int);
	TEXT("in order", "%d", info[2].ssi_int);
	CALL("no more", read(fd, info, sizeof(info)));
	CALL("too short", read(fd, info, 10));
	sigdelset(&set, SIGUSR1);
	CALL("change", signalfd(fd, &set, 0) == fd);
	raise(SIGUSR1);
	CALL("not among them", ready(fd, 0));
	CALL("not a signalfd", signalfd(0, &set, 0));
	CALL("flags", signalfd(-1, &set, 0x77));
}

int main(void)
{
	eventfds();
	timerfds();
	signalfds();
	CALL("inotify", inotify_init1(IN_NONBLOCK) >= 0);
	CALL("inotify flags", inotify_init1(0x77));
	CALL("watch of a file", inotify_add_watch(0, ".", IN_CREATE));
	return 0;
}
