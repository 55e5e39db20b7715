/* poll, ppoll, select, pselect. */
#include "case.h"
#include <poll.h>
#include <pthread.h>
#include <sys/select.h>

static void on_signal(int n) {}
static void *write_late(void *fd)
{
	sleep_ms(30);
	write(*(int *)fd, "x", 1);
	return NULL;
}

int main(void)
{
	int p[2], file = open("file", O_RDWR | O_CREAT, 0600);
	struct pollfd fds[4];
	struct timeval tv;
	struct timespec ts;
	sigset_t usr1, none;
	pthread_t thread;
	fd_set in, out;
	char text[10];

	pipe(p);
	fds[0] = (struct pollfd){ p[0], POLLIN, -1 };
	fds[1] = (struct pollfd){ p[1], POLLOUT, -1 };
	fds[2] = (struct pollfd){ 99, POLLIN, -1 };
	fds[3] = (struct pollfd){ -1, POLLIN, -1 };
	CALL("poll", poll(fds, 4, 0));
	TEXT("events", "%x %x %x %x", fds[0].revents, fds[1].revents, fds[2].revents, fds[3].revents);
	fds[0].events = 0;
	write(p[1], "x", 1);
	CALL("nothing asked", poll(fds, 1, 0));
	fds[0] = (struct pollfd){ file, POLLIN | POLLOUT | POLLPRI };
	CALL("file", (poll(fds, 1, 0), fds[0].revents));
	fds[0] = (struct pollfd){ open("/dev/null", O_RDWR), POLLIN | POLLOUT };
	CALL("/dev/null", (poll(fds, 1, 0), fds[0].revents));
	CALL("no descriptors", poll(NULL, 0, 10));
	CALL("too many", poll(fds, 1 << 30, 0));
	CALL("bad address", poll(BAD, 1, 0));
	read(p[0], text, 1);
	fds[0] = (struct pollfd){ p[0], POLLIN };
	pthread_create(&thread, NULL, write_late, &p[1]);
	CALL("waits", poll(fds, 1, 5000));
	pthread_join(thread, NULL);
	read(p[0], text, 1);

	FD_ZERO(&in);
	FD_SET(p[0], &in);
	FD_SET(file, &in);
	out = in;
	FD_CLR(p[0], &out);
	FD_SET(p[1], &out);
	tv = (struct timeval){ 1, 0 };
	CALL("select", select(20, &in, &out, NULL, &tv));
	TEXT("sets", "%d %d %d %d", FD_ISSET(p[0], &in), FD_ISSET(file, &in), FD_ISSET(p[1], &out), FD_ISSET(file, &out));
	FD_ZERO(&in);
	FD_SET(p[0], &in);
	tv = (struct timeval){ 0, 20000 };
	CALL("timeout", select(20, &in, NULL, NULL, &tv));
	TEXT("time left", "%ld %ld", (long)tv.tv_sec, (long)tv.tv_usec);
	CALL("set is empty", FD_ISSET(p[0], &in));
	FD_SET(60, &in);
	CALL("closed", select(61, &in, NULL, NULL, &tv));
	CALL("negative", select(-1, &in, NULL, NULL, &tv));
	CALL("negative time", select(0, NULL, NULL, NULL, &(struct timeval){ -1, 0 }));
	CALL("only time", select(0, NULL, NULL, NULL, &(struct timeval){ 0, 1000 }));

	sigemptyset(&none);
	sigemptyset(&usr1);
	sigaddset(&usr1, SIGUSR1);
	signal(SIGUSR1, on_signal);
	signal(SIGALRM, on_signal);
	sigprocmask(SIG_BLOCK, &usr1, NULL);
	raise(SIGUSR1);
	ts = (struct timespec){ 1, 0 };
	CALL("ppoll lets the signal in", ppoll(fds, 1, &ts, &none));
	CALL("mask is back", (sigprocmask(0, NULL, &none), sigismember(&none, SIGUSR1)));
	sigemptyset(&none);
	raise(SIGUSR1);
	FD_ZERO(&in);
	FD_SET(p[0], &in);
	CALL("pselect lets it in", pselect(20, &in, NULL, NULL, &ts, &none));
	alarm(1);
	CALL("poll is interrupted", poll(fds, 1, 10000));
	ts = (struct timespec){ 0, 10000000 };
	CALL("ppoll times out", ppoll(fds, 1, &ts, NULL));
	CALL("ppoll, bad time", ppoll(fds, 1, &(struct timespec){ 0, -1 }, NULL));
	close(p[1]);
	CALL("hang-up", (poll(fds, 1, 0), fds[0].revents));
	return 0;
}
