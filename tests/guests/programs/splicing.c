/* splice, tee and vmsplice: what they move, where to, and what they refuse. */
#include "case.h"
#include <pthread.h>
#include <sys/socket.h>
#include <sys/uio.h>

static int ends[2], more[2];

static void *write_late(void *unused)
{
	sleep_ms(30);
	write(ends[1], "late", 4);
	return NULL;
}

/* What a pipe has, as text. */
static const char *drained(int fd)
{
	static char text[200];
	ssize_t n = read(fd, text, sizeof(text) - 1);

	text[n > 0 ? n : 0] = 0;
	return n < 0 ? error_text(errno) : text;
}

int main(void)
{
	static char big[1 << 17];
	int file, pair[2], other;
	pthread_t thread;
	loff_t at = 3;
	long n;

	signal(SIGPIPE, SIG_IGN);
	pipe(ends);
	pipe2(more, O_NONBLOCK);
	write(ends[1], "from pipe to pipe", 17);
	CALL("tee", tee(ends[0], more[1], 4, 0));
	TEXT("copied", "%s", drained(more[0]));
	CALL("splice a part", splice(ends[0], NULL, more[1], NULL, 9, 0));
	TEXT("moved", "%s", drained(more[0]));
	CALL("splice more than there is", splice(ends[0], NULL, more[1], NULL, 1000, 0));
	TEXT("the rest", "%s", drained(more[0]));
	CALL("nothing is left", splice(ends[0], NULL, more[1], NULL, 1, SPLICE_F_NONBLOCK));
	pthread_create(&thread, NULL, write_late, NULL);
	CALL("to a pipe that does not wait", splice(ends[0], NULL, more[1], NULL, 100, 0));
	fcntl(more[1], F_SETFL, 0);
	CALL("splice waits", splice(ends[0], NULL, more[1], NULL, 100, 0));
	pthread_join(thread, NULL);
	TEXT("for", "%s", drained(more[0]));

	file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	write(file, "0123456789", 10);
	CALL("from a file", splice(file, &at, more[1], NULL, 4, 0));
	TEXT("offset", "%ld, position %ld", (long)at, (long)lseek(file, 0, SEEK_CUR));
	TEXT("got", "%s", drained(more[0]));
	lseek(file, 8, SEEK_SET);
	CALL("from its position", splice(file, NULL, more[1], NULL, 100, 0));
	CALL("at its end", splice(file, NULL, more[1], NULL, 100, 0));
	TEXT("position", "%ld", (long)lseek(file, 0, SEEK_CUR));
	CALL("to a file", splice(more[0], NULL, file, NULL, 100, 0));
	at = 1;
	write(more[1], "xyz", 3);
	CALL("to an offset", splice(more[0], NULL, file, &at, 100, 0));
	TEXT("file", "%s at %ld", get_file("file"), (long)at);
	other = open("file", O_WRONLY | O_APPEND);
	write(more[1], "x", 1);
	CALL("to a file that is appended to", splice(more[0], NULL, other, NULL, 1, 0));
	close(other);
	at = -1;
	CALL("negative offset", splice(more[0], NULL, file, &at, 1, 0));
	CALL("bad offset", splice(more[0], NULL, file, BAD, 1, 0));
	drained(more[0]);

	socketpair(AF_UNIX, SOCK_STREAM, 0, pair);
	write(pair[0], "of a socket", 11);
	CALL("from a socket", splice(pair[1], NULL, more[1], NULL, 100, 0));
	CALL("to a socket", splice(more[0], NULL, pair[0], NULL, 100, 0));
	TEXT("there and back", "%s", drained(pair[1]));

	CALL("same pipe", splice(ends[0], NULL, ends[1], NULL, 1, 0));
	CALL("wrong ends", splice(ends[1], NULL, more[0], NULL, 1, 0));
	CALL("no pipe", splice(file, NULL, file, NULL, 1, 0));
	CALL("offset of a pipe", splice(ends[0], &at, more[1], NULL, 1, 0));
	CALL("unknown flags", splice(ends[0], NULL, more[1], NULL, 1, 64));
	CALL("not open", splice(99, NULL, more[1], NULL, 1, 0));
	CALL("nothing asked for", splice(99, NULL, 99, NULL, 0, 0));
	CALL("tee of a file", tee(file, more[1], 1, 0));
	CALL("tee of nothing", tee(ends[0], more[1], 0, 0));

	CALL("vmsplice", vmsplice(more[1], (struct iovec[]){ { "mem", 3 }, { "ory", 3 } }, 2, 0));
	TEXT("put", "%s", drained(more[0]));
	write(more[1], "out", 3);
	CALL("vmsplice out", vmsplice(more[0], &(struct iovec){ big, 100 }, 1, 0));
	CALL("vmsplice of a file", vmsplice(file, &(struct iovec){ "x", 1 }, 1, 0));
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	write(ends[1], big, 65536);
	CALL("full", vmsplice(ends[1], &(struct iovec){ "x", 1 }, 1, SPLICE_F_NONBLOCK));
	CALL("to a full one", splice(file, &(loff_t){ 0 }, ends[1], NULL, 1, SPLICE_F_NONBLOCK));
	for (n = 0; splice(ends[0], NULL, more[1], NULL, 1 << 20, SPLICE_F_NONBLOCK) > 0;)
		n += read(more[0], big, sizeof(big));
	CALL("all of it", n);
	close(ends[1]);
	CALL("end", splice(ends[0], NULL, more[1], NULL, 1, 0));
	close(more[0]);
	CALL("no reader", splice(file, &(loff_t){ 0 }, more[1], NULL, 1, 0));
	return 0;
}
