/* Pipes: ends, capacity, signals, splicing. */
#include "case.h"
#include <pthread.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>

static volatile int broken;
static void on_pipe(int n) { broken++; }

static void *write_late(void *fd)
{
	sleep_ms(30);
	write(*(int *)fd, "late", 4);
	return NULL;
}
static void *read_late(void *fd)
{
	static char sink[70000];

	sleep_ms(30);
	return (void *)read(*(int *)fd, sink, sizeof(sink));
}

int main(void)
{
	static char big[1 << 17];
	int ends[2], more[2], file;
	pthread_t thread;
	void *got;
	long n = 0, total = 0;

	signal(SIGPIPE, on_pipe);
	CALL("pipe", pipe(ends));
	CALL("write", write(ends[1], "hello", 5));
	CALL("read a part", read(ends[0], big, 2));
	CALL("read the rest", read(ends[0], big, 100));
	CALL("wrong end", read(ends[1], big, 1));
	CALL("other wrong end", write(ends[0], big, 1));
	CALL("seek", lseek(ends[0], 0, SEEK_SET));
	CALL("pread", pread(ends[0], big, 1, 0));
	pthread_create(&thread, NULL, write_late, &ends[1]);
	CALL("read waits", read(ends[0], big, 100));
	pthread_join(thread, NULL);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	fcntl(ends[1], F_SETFL, O_NONBLOCK);
	CALL("empty", read(ends[0], big, 1));
	CALL("more than fits", write(ends[1], big, sizeof(big)));
	CALL("full", write(ends[1], big, 1));
	CALL("make room", read(ends[0], big, 4095));
	CALL("not for a whole page", write(ends[1], big, 4096));
	while ((n = read(ends[0], big, 5000)) > 0)
		total += n;
	CALL("total", total);
	fcntl(ends[1], F_SETFL, 0);
	fcntl(ends[0], F_SETFL, 0);
	pthread_create(&thread, NULL, read_late, &ends[0]);
	CALL("write waits for the reader", write(ends[1], big, 70000));
	pthread_join(thread, &got);
	fcntl(ends[0], F_SETFL, O_NONBLOCK);
	for (total = (long)got; (n = read(ends[0], big, sizeof(big))) > 0;)
		total += n;
	CALL("all of it arrived", total);
	write(ends[1], "end", 3);
	close(ends[1]);
	CALL("what was left", read(ends[0], big, 100));
	CALL("end", read(ends[0], big, 100));
	close(ends[0]);
	pipe(ends);
	close(ends[0]);
	CALL("without a reader", write(ends[1], "x", 1));
	CALL("signal", broken);
	CALL("zero bytes without a reader", write(ends[1], "x", 0));
	CALL("writev without a reader", writev(ends[1], (struct iovec[]){ { "x", 1 } }, 1));
	CALL("signals", broken);
	close(ends[1]);

	CALL("pipe2", pipe2(ends, O_NONBLOCK | O_CLOEXEC));
	CALL("its flags", fcntl(ends[0], F_GETFL) + fcntl(ends[1], F_GETFD) * 10000);
	CALL("pipe2 flags", pipe2(more, O_APPEND));
	CALL("packets", n = pipe2(more, O_DIRECT));
	if (!n) {
		close(more[0]);
		close(more[1]);
	}

	pipe2(more, O_NONBLOCK);
	write(ends[1], "tee and splice", 14);
	CALL("tee", tee(ends[0], more[1], 3, 0));
	read(more[0], big, 100);
	CALL("splice", splice(ends[0], NULL, more[1], NULL, 14, 0));
	read(more[0], big, 100);
	read(ends[0], big, 100);
	CALL("splice of nothing", splice(ends[0], NULL, more[1], NULL, 7, SPLICE_F_NONBLOCK));
	file = open("file", O_RDWR | O_CREAT | O_TRUNC, 0600);
	write(file, "in the file", 11);
	CALL("splice from a file", splice(file, &(loff_t){ 3 }, more[1], NULL, 3, 0));
	CALL("splice to a file", splice(more[0], NULL, file, &(loff_t){ 0 }, 100, 0));
	CALL("splice of two files", splice(file, NULL, file, NULL, 1, 0));
	CALL("offset of a pipe", splice(more[0], &(loff_t){ 0 }, file, NULL, 1, 0));
	CALL("vmsplice", vmsplice(more[1], &(struct iovec){ "memory", 6 }, 1, 0));
	CALL("a named one", mkfifo("fifo", 0600));
	return 0;
}
