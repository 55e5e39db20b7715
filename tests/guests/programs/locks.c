/* Locks of files: what hinders what, ranges, waiting, and what ends them. */
#include "case.h"
#include <pthread.h>
#include <sys/file.h>

static int a, b;

static struct flock range(int type, long start, long length)
{
	return (struct flock){ .l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = length };
}
static int lock_ofd(int fd, int type, long start, long length)
{
	struct flock l = range(type, start, length);

	return fcntl(fd, F_OFD_SETLK, &l);
}
/* What stands in the way of writing there. */
static void question(const char *name, int fd, long start, long length)
{
	struct flock l = range(F_WRLCK, start, length);
	int result = fcntl(fd, F_OFD_GETLK, &l);

	TEXT(name, "%d: type %d, %ld for %ld, %s", result, l.l_type, (long)l.l_start, (long)l.l_len,
	     l.l_pid == getpid() ? "the process" : l.l_pid == -1 ? "a file" : "nobody");
}

static void *release_flock(void *unused)
{
	sleep_ms(30);
	flock(a, LOCK_UN);
	return NULL;
}
static void *release_range(void *unused)
{
	sleep_ms(30);
	lock_ofd(a, F_UNLCK, 0, 0);
	return NULL;
}
static void on_alarm(int n) {}

int main(void)
{
	struct flock l;
	pthread_t thread;
	int copy;

	a = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	b = open("file", O_RDWR);
	write(a, "0123456789", 10);

	CALL("exclusive", flock(a, LOCK_EX));
	CALL("hinders another", flock(b, LOCK_SH | LOCK_NB));
	copy = dup(a);
	CALL("not a duplicate", flock(copy, LOCK_EX | LOCK_NB));
	CALL("closing one", close(a));
	CALL("is not closing all", flock(b, LOCK_SH | LOCK_NB));
	a = copy;
	pthread_create(&thread, NULL, release_flock, NULL);
	CALL("wait for it", flock(b, LOCK_EX));
	pthread_join(thread, NULL);
	CALL("to shared", flock(b, LOCK_SH));
	CALL("both shared", flock(a, LOCK_SH | LOCK_NB));
	CALL("a failed conversion", flock(a, LOCK_EX | LOCK_NB));
	CALL("gives up what there was", flock(b, LOCK_EX | LOCK_NB));
	sigaction(SIGALRM, &(struct sigaction){ .sa_handler = on_alarm }, NULL);
	ualarm(30000, 0);
	CALL("a signal", flock(a, LOCK_EX));
	CALL("unlock", flock(b, LOCK_UN));
	CALL("no lock to unlock", flock(b, LOCK_UN));
	CALL("of no file", flock(99, LOCK_UN));
	CALL("does not know", flock(a, LOCK_EX));
	l = range(F_WRLCK, 0, 0);
	CALL("of the other kind", fcntl(b, F_SETLK, &l));
	l = range(F_UNLCK, 0, 0);
	fcntl(b, F_SETLK, &l);
	flock(a, LOCK_UN);

	CALL("range", lock_ofd(a, F_WRLCK, 10, 20));
	question("asked by another", b, 0, 0);
	question("asked by itself", a, 0, 0);
	question("beside it", b, 30, 5);
	question("at its end", b, 29, 1);
	CALL("overlapping", lock_ofd(b, F_RDLCK, 0, 11));
	CALL("up to it", lock_ofd(b, F_RDLCK, 0, 10));
	CALL("a hole in it", lock_ofd(a, F_UNLCK, 15, 5));
	question("left of the hole", b, 0, 0);
	question("right of the hole", b, 16, 0);
	CALL("in the hole", lock_ofd(b, F_WRLCK, 15, 5));
	CALL("change a part", lock_ofd(a, F_RDLCK, 25, 100));
	question("changed", b, 25, 0);
	question("before that", b, 20, 100);
	CALL("shared", lock_ofd(b, F_RDLCK, 50, 10));
	CALL("joined", lock_ofd(a, F_WRLCK, 20, 5));
	CALL("not by another's", lock_ofd(a, F_WRLCK, 50, 1));
	pthread_create(&thread, NULL, release_range, NULL);
	l = range(F_WRLCK, 0, 0);
	CALL("wait for all of it", fcntl(b, F_OFD_SETLKW, &l));
	pthread_join(thread, NULL);
	l = range(F_RDLCK, 5, 1);
	CALL("the process too", fcntl(a, F_SETLK, &l));
	lock_ofd(b, F_UNLCK, 0, 0);
	CALL("the process", fcntl(a, F_SETLK, &l));
	question("held by the process", b, 0, 0);
	CALL("hinders a file", lock_ofd(a, F_WRLCK, 5, 1));
	close(open("file", O_RDONLY));
	question("ended by closing any", b, 0, 0);

	l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_END, .l_start = -2, .l_len = -3 };
	CALL("backwards from the end", fcntl(a, F_OFD_SETLK, &l));
	question("where that is", b, 0, 0);
	l = (struct flock){ .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 2, .l_len = -3 };
	CALL("before the start", fcntl(a, F_OFD_SETLK, &l));
	l = range(F_WRLCK, 0, 0);
	l.l_whence = 9;
	CALL("from nowhere", fcntl(a, F_SETLK, &l));
	l = range(F_WRLCK, 0, 0);
	l.l_pid = 1;
	CALL("of a process", fcntl(a, F_OFD_SETLK, &l));
	l = range(F_WRLCK, 0x7fffffffffffffff, 2);
	CALL("beyond all ends", fcntl(a, F_SETLK, &l));
	copy = open("file", O_RDONLY);
	CALL("exclusive, to read", lock_ofd(copy, F_WRLCK, 50, 1));
	CALL("flock does not mind", flock(copy, LOCK_EX));
	CALL("bad address", fcntl(a, F_SETLK, BAD));
	close(a);
	question("closed", b, 0, 0);
	return 0;
}
