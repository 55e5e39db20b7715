/*
 * Moves data and measures it, in a guest and, as the other end of streams, in the lab.
 *
 *   load disk DEVICE                                 four patterns, O_DIRECT
 *   load stream KIND ADDRESS PORT send|recv MIB      connect, and move so much
 *   load serve  KIND ADDRESS PORT send|recv MIB      accept, and do so; for ever
 *
 * KIND is tcp, vsock (ADDRESS is a CID) or unix (ADDRESS is a path, PORT is ignored).
 * Prints lines "RESULT name amount ns": requests for random reads, bytes for all else.
 * Static, and without libaio: what a kernel and an initramfs have, is enough.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#define KIB4 4096
#define MIB (1 << 20)
#define MAX_DEPTH 32
#define CHUNK (64 << 10)

static void die(const char *what)
{
	fprintf(stderr, "load: %s: %s\n", what, strerror(errno));
	exit(1);
}

static uint64_t now_ns(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000ull + t.tv_nsec;
}

static void report(const char *name, uint64_t amount, uint64_t begin)
{
	printf("RESULT %s %llu %llu\n", name, (unsigned long long)amount,
	       (unsigned long long)(now_ns() - begin));
	fflush(stdout);
}

/* ---- disk */

static uint64_t next_random(uint64_t *state)
{
	*state ^= *state << 13; /* xorshift64 */
	*state ^= *state >> 7;
	*state ^= *state << 17;
	return *state;
}

/* Random reads of 4 KiB, with `depth` of them in flight all the time. */
static void random_reads(int disk, uint64_t size, int depth, int total, const char *name)
{
	static struct iocb blocks[MAX_DEPTH];
	struct iocb *next[MAX_DEPTH];
	struct io_event done[MAX_DEPTH];
	aio_context_t context = 0;
	uint64_t state = 88172645463325252ull, begin;
	int submitted = 0, completed = 0, waiting = depth;
	char *buffer;

	if (posix_memalign((void **)&buffer, KIB4, (size_t)depth * KIB4))
		die("memory");
	memset(buffer, 0, (size_t)depth * KIB4);
	if (syscall(SYS_io_setup, depth, &context))
		die("io_setup");
	for (int i = 0; i < depth; i++) {
		blocks[i].aio_lio_opcode = IOCB_CMD_PREAD;
		blocks[i].aio_fildes = disk;
		blocks[i].aio_buf = (uintptr_t)(buffer + (size_t)i * KIB4);
		blocks[i].aio_nbytes = KIB4;
		blocks[i].aio_data = i;
		next[i] = &blocks[i];
	}
	begin = now_ns();
	while (completed < total) {
		if (waiting > total - submitted)
			waiting = total - submitted;
		for (int i = 0; i < waiting; i++)
			next[i]->aio_offset = next_random(&state) % (size / KIB4) * KIB4;
		if (waiting && syscall(SYS_io_submit, context, waiting, next) != waiting)
			die("io_submit");
		submitted += waiting;
		waiting = syscall(SYS_io_getevents, context, 1, depth, done, NULL);
		if (waiting < 1)
			die("io_getevents");
		for (int i = 0; i < waiting; i++) {
			if (done[i].res != KIB4)
				die("a read");
			next[i] = &blocks[done[i].data];
		}
		completed += waiting;
	}
	report(name, total, begin);
	syscall(SYS_io_destroy, context);
	free(buffer);
}

static void sequential(int disk, int writes, int mib, const char *name)
{
	uint64_t begin;
	char *buffer;

	if (posix_memalign((void **)&buffer, KIB4, MIB))
		die("memory");
	memset(buffer, 'x', MIB);
	begin = now_ns();
	for (int i = 0; i < mib; i++) {
		off_t at = (off_t)i * MIB;
		ssize_t n = writes ? pwrite(disk, buffer, MIB, at) : pread(disk, buffer, MIB, at);

		if (n != MIB)
			die("sequential");
	}
	report(name, (uint64_t)mib * MIB, begin);
	free(buffer);
}

static void disk(const char *path)
{
	int fd = open(path, O_RDWR | O_DIRECT);
	off_t size;

	if (fd < 0 || (size = lseek(fd, 0, SEEK_END)) <= 0)
		die(path);
	random_reads(fd, size, 1, 2000, "random-1");
	random_reads(fd, size, 32, 8000, "random-32");
	sequential(fd, 0, 64, "read");
	sequential(fd, 1, 64, "write");
}

/* ---- streams */

union address {
	struct sockaddr any;
	struct sockaddr_in tcp;
	struct sockaddr_vm vsock;
	struct sockaddr_un local;
};

static socklen_t parse(const char *kind, const char *host, const char *port, union address *to)
{
	memset(to, 0, sizeof(*to));
	if (!strcmp(kind, "tcp")) {
		to->tcp.sin_family = AF_INET;
		to->tcp.sin_port = htons(atoi(port));
		if (!inet_aton(host, &to->tcp.sin_addr))
			die(host);
		return sizeof(to->tcp);
	}
	if (!strcmp(kind, "vsock")) {
		to->vsock.svm_family = AF_VSOCK;
		to->vsock.svm_port = atoi(port);
		to->vsock.svm_cid = atoi(host);
		return sizeof(to->vsock);
	}
	to->local.sun_family = AF_UNIX;
	strncpy(to->local.sun_path, host, sizeof(to->local.sun_path) - 1);
	return sizeof(to->local);
}

/* Send or receive so many bytes; the receiver ends with a byte, so that both know of the end. */
static void move(int fd, int sends, uint64_t bytes)
{
	static char buffer[CHUNK];
	char end = 0;

	for (uint64_t left = bytes; left;) {
		size_t size = left < CHUNK ? left : CHUNK;
		ssize_t n = sends ? send(fd, buffer, size, 0) : recv(fd, buffer, size, 0);

		if (n <= 0)
			die(sends ? "send" : "recv");
		left -= n;
	}
	if (sends ? recv(fd, &end, 1, 0) != 1 : send(fd, &end, 1, 0) != 1)
		die("end of stream");
}

static void stream(char **word)
{
	int sends = !strcmp(word[3], "send");
	uint64_t bytes = (uint64_t)atoi(word[4]) * MIB, begin;
	union address to;
	socklen_t size = parse(word[0], word[1], word[2], &to);
	int fd = socket(to.any.sa_family, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, &to.any, size))
		die("connect");
	move(fd, sends, MIB); /* windows open, buffers grow */
	begin = now_ns();
	move(fd, sends, bytes);
	report(sends ? "send" : "receive", bytes, begin);
	close(fd);
}

static void serve(char **word)
{
	int sends = !strcmp(word[3], "send"), on = 1;
	union address at;
	socklen_t size = parse(word[0], word[1], word[2], &at);
	int listener = socket(at.any.sa_family, SOCK_STREAM, 0);

	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (listener < 0 || bind(listener, &at.any, size) || listen(listener, 1))
		die("listen");
	for (;;) {
		int fd = accept(listener, NULL, NULL);

		if (fd < 0)
			die("accept");
		move(fd, sends, MIB);
		move(fd, sends, (uint64_t)atoi(word[4]) * MIB);
		close(fd);
	}
}

int main(int argc, char **argv)
{
	if (argc == 3 && !strcmp(argv[1], "disk"))
		disk(argv[2]);
	else if (argc == 7 && !strcmp(argv[1], "stream"))
		stream(argv + 2);
	else if (argc == 7 && !strcmp(argv[1], "serve"))
		serve(argv + 2);
	else
		return 2;
	return 0;
}
