/* epoll: levels, edges, one shot, nesting, mistakes. */
#include "case.h"
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

static int ep;
static struct epoll_event got[8];

static int wait_for(int ms)
{
	memset(got, 0, sizeof(got));
	return epoll_wait(ep, got, 8, ms);
}
static int add(int fd, unsigned events)
{
	return epoll_ctl(ep, EPOLL_CTL_ADD, fd, &(struct epoll_event){ events, { .u64 = fd + 1000 } });
}
static int change(int fd, unsigned events)
{
	return epoll_ctl(ep, EPOLL_CTL_MOD, fd, &(struct epoll_event){ events, { .u64 = fd + 2000 } });
}
static void *write_late(void *fd)
{
	sleep_ms(30);
	write(*(int *)fd, "x", 1);
	return NULL;
}
static void on_alarm(int n) {}

int main(void)
{
	int p[2], q[2], outer, inner, fd, copy;
	char text[100];
	pthread_t thread;
	sigset_t none, usr1;

	ep = epoll_create1(EPOLL_CLOEXEC);
	CALL("flag", fcntl(ep, F_GETFD));
	CALL("create with no size", epoll_create(0));
	CALL("create flags", epoll_create1(0x77));
	pipe(p);
	pipe(q);
	CALL("nothing in it", wait_for(0));
	CALL("add", add(p[0], EPOLLIN));
	CALL("add again", add(p[0], EPOLLIN));
	CALL("change what is not there", change(q[0], EPOLLIN));
	CALL("remove what is not there", epoll_ctl(ep, EPOLL_CTL_DEL, q[0], NULL));
	CALL("a file", add(open("file", O_RDWR | O_CREAT, 0600), EPOLLIN));
	CALL("closed", add(99, EPOLLIN));
	CALL("itself", add(ep, EPOLLIN));
	CALL("no such operation", epoll_ctl(ep, 77, p[0], got));
	CALL("not an epoll", epoll_ctl(p[0], EPOLL_CTL_ADD, q[0], got));
	CALL("no room for events", epoll_wait(ep, got, 0, 0));
	CALL("bad address", epoll_wait(ep, BAD, 1, 0) && 0);
	CALL("timeout", wait_for(20));
	write(p[1], "abc", 3);
	CALL("level", wait_for(1000));
	TEXT("event", "%x %d", got[0].events, (int)got[0].data.u64 - p[0]);
	CALL("level again", wait_for(0));
	CALL("to edges", change(p[0], EPOLLIN | EPOLLET));
	CALL("edge", wait_for(0));
	TEXT("new data", "%d", (int)got[0].data.u64 - p[0]);
	CALL("no second edge", wait_for(0));
	write(p[1], "d", 1);
	CALL("edge by more data", wait_for(0));
	read(p[0], text, 2);
	CALL("no edge by reading", wait_for(0));
	CALL("to one shot", change(p[0], EPOLLIN | EPOLLONESHOT));
	CALL("one shot", wait_for(0));
	CALL("no second", wait_for(0));
	CALL("armed again", (change(p[0], EPOLLIN | EPOLLONESHOT), wait_for(0)));
	CALL("for nothing", (change(p[0], 0), wait_for(0)));
	close(p[1]);
	CALL("hang-up comes unasked", wait_for(0));
	TEXT("as", "%x", got[0].events);
	CALL("remove", epoll_ctl(ep, EPOLL_CTL_DEL, p[0], NULL));
	CALL("is gone", wait_for(0));

	CALL("writable end", add(q[1], EPOLLOUT));
	CALL("writable", wait_for(0));
	TEXT("as", "%x", got[0].events);
	close(q[0]);
	CALL("without reader", wait_for(0));
	TEXT("as", "%x", got[0].events);
	close(q[1]);
	CALL("closing removes", wait_for(0));

	pipe(p);
	copy = dup(p[0]);
	add(p[0], EPOLLIN);
	write(p[1], "x", 1);
	close(p[0]);
	CALL("a copy keeps it", wait_for(0));
	close(copy);
	CALL("until it is closed too", wait_for(0));
	close(p[1]);

	pipe(p);
	add(p[0], EPOLLIN);
	pthread_create(&thread, NULL, write_late, &p[1]);
	CALL("waits for a thread", wait_for(5000));
	pthread_join(thread, NULL);
	read(p[0], text, 1);

	outer = ep;
	inner = epoll_create1(0);
	CALL("nested", add(inner, EPOLLIN));
	ep = inner;
	fd = eventfd(0, 0);
	add(fd, EPOLLIN);
	CALL("circle", add(outer, EPOLLIN));
	ep = outer;
	CALL("nothing nested", wait_for(0));
	write(fd, &(uint64_t){ 1 }, 8);
	CALL("through the nesting", wait_for(1000));
	HOLDS("tells the inner", (int)got[0].data.u64 == inner + 1000);
	read(fd, text, 8);
	CALL("over", wait_for(0));

	for (int i = 0; i < 5; i++)
		add(eventfd(1, 0), EPOLLIN);
	CALL("several", wait_for(0));
	CALL("not more than asked", epoll_wait(ep, got, 2, 0));
	fd = got[0].data.u64;
	epoll_wait(ep, got, 2, 0);
	HOLDS("others next", (int)got[0].data.u64 != fd);
	for (int i = 0; i < 50; i++)
		close(i + 10);
	ep = epoll_create1(0);

	signal(SIGALRM, on_alarm);
	signal(SIGUSR1, on_alarm);
	alarm(1);
	CALL("interrupted", wait_for(5000));
	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	raise(SIGUSR1);
	CALL("by a signal that the mask lets in", epoll_pwait(ep, got, 8, 1000, &none));
	CALL("pwait2", syscall(SYS_epoll_pwait2, ep, got, 8, &(struct timespec){ 0, 1000000 }, NULL, 8));
	return 0;
}
