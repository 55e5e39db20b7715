/*
 * Does system calls that standard input names, one a line, and prints what they return: by Linux
 * (-DNATIVE, in the current folder), or by the library OS's files over an image
 * (argv[1]) in a folder of it (argv[2]).
 *
 *   openat -100 "name" 0x41 0644      numbers, strings
 *   write $1 =68656c6c6f 5            $1: what line 1 returned; =: bytes, in hexadecimal
 *   read $1 @100 100                  @: a buffer, whose bytes are printed
 *   writev $1 [=6869,=6f] 2           [: a vector of buffers
 */
#include <asm/unistd.h>

#include "../../../src/pyrovm/libos/fs/calls.h"
#include "../../../src/pyrovm/libos/socket.h"
#include "harness.h"

extern int printf(const char *text, ...);
extern int fflush(void *stream);
extern long strtol(const char *s, char **end, int base);
extern void *malloc(size_t n);
extern void *calloc(size_t n, size_t size);
extern void free(void *p);
extern char *strtok_r(char *s, const char *separators, char **state);
extern int open(const char *path, int flags, ...);
extern long read(int fd, void *to, size_t n);
extern int close(int fd);
extern long syscall(long number, ...);
extern int *__errno_location(void);

#define CALLS(X) \
	X(read) X(write) X(readv) X(writev) X(pread64) X(pwrite64) X(preadv) X(pwritev) X(preadv2) \
	X(pwritev2) X(lseek) X(open) X(openat) X(openat2) X(creat) X(close) X(close_range) X(dup) X(dup2) \
	X(dup3) X(fcntl) X(ioctl) X(flock) X(stat) X(lstat) X(fstat) X(newfstatat) X(statx) X(access) \
	X(faccessat) X(faccessat2) X(readlink) X(readlinkat) X(getdents) X(getdents64) X(mkdir) X(mkdirat) \
	X(rmdir) X(unlink) X(unlinkat) X(rename) X(renameat) X(renameat2) X(link) X(linkat) X(symlink) \
	X(symlinkat) X(chmod) X(fchmod) X(fchmodat) X(chown) X(lchown) X(fchown) X(fchownat) X(truncate) \
	X(ftruncate) X(fallocate) X(fsync) X(utimensat) X(utimes) X(chdir) X(fchdir) X(getcwd) X(umask) \
	X(pipe) X(pipe2) X(eventfd2) X(timerfd_create) X(timerfd_settime) X(timerfd_gettime) \
	X(epoll_create1) X(epoll_ctl) X(epoll_wait) X(poll) X(select) X(pselect6) X(ppoll) X(sendfile) \
	X(copy_file_range) X(memfd_create) X(inotify_init1) X(inotify_add_watch) X(inotify_rm_watch) X(socketpair) X(sendmsg) X(recvmsg) X(socket) X(bind) X(listen) \
	X(connect) X(accept4) X(sendto) X(recvfrom) X(shutdown) \
	X(mknod)

static const struct {
	const char *name;
	long number;
	long (*call)(u64, u64, u64, u64, u64, u64);
} calls[] = {
#ifdef NATIVE
#define ENTRY(name) { #name, __NR_##name, NULL },
#else
#define ENTRY(name) { #name, __NR_##name, sys_##name },
#endif
	CALLS(ENTRY)
};

#define LINES_MAX 100000
#define ARGUMENTS 6

static long results[LINES_MAX];
static struct buffer {
	u8 *bytes;
	size_t size;
	bool is_shown;
} buffers[32];
static unsigned buffer_count;

static u8 *buffer(size_t n, bool is_shown)
{
	buffers[buffer_count] = (struct buffer){ calloc(1, n + 1), n, is_shown };
	return buffers[buffer_count++].bytes;
}

static unsigned digit(char c)
{
	return (unsigned)(c <= '9' ? c - '0' : c - 'a' + 10);
}

static u8 *from_hex(const char *text)
{
	size_t n = strlen(text) / 2;
	u8 *bytes = buffer(n, false);

	for (size_t i = 0; i < n; i++)
		bytes[i] = (u8)(digit(text[2 * i]) << 4 | digit(text[2 * i + 1]));
	return bytes;
}

static u64 parse(char *text);

static u64 parse_vector(char *text)
{
	struct iovec *v = (struct iovec *)buffer(16 * sizeof(*v), false);
	char *state, *part;
	unsigned n = 0;

	text[strlen(text) - 1] = 0;
	for (part = strtok_r(text + 1, ",", &state); part; part = strtok_r(NULL, ",", &state)) {
		v[n].iov_base = (void *)parse(part);
		v[n].iov_len = buffers[buffer_count - 1].size;
		n++;
	}
	return (u64)v;
}

static u64 parse(char *text)
{
	switch (*text) {
	case '"': {
		size_t n = strlen(text) - 2;
		u8 *s = buffer(n, false);

		memcpy(s, text + 1, n);
		return (u64)s;
	}
	case '=':
		return (u64)from_hex(text + 1);
	case '@':
		return (u64)buffer((size_t)strtol(text + 1, NULL, 0), true);
	case '$':
		return (u64)results[strtol(text + 1, NULL, 0)];
	case '[':
		return parse_vector(text);
	default:
		return (u64)strtol(text, NULL, 0);
	}
}

static long run(char *line)
{
	char *state, *name = strtok_r(line, " ", &state), *word;
	u64 a[ARGUMENTS] = { 0 };
	unsigned n = 0;

	while ((word = strtok_r(NULL, " ", &state)) && n < ARGUMENTS)
		a[n++] = parse(word);
	for (unsigned i = 0; i < ARRAY_SIZE(calls); i++) {
		if (strcmp(calls[i].name, name))
			continue;
#ifdef NATIVE
		long result = syscall(calls[i].number, a[0], a[1], a[2], a[3], a[4], a[5]);

		return result == -1 ? -*__errno_location() : result;
#else
		return calls[i].call(a[0], a[1], a[2], a[3], a[4], a[5]);
#endif
	}
	printf("no call %s\n", name);
	return -ENOSYS;
}

static char *read_all(int fd, size_t *size)
{
	size_t room = 1 << 16;
	char *text = malloc(room);
	long n;

	for (*size = 0; (n = read(fd, text + *size, room - *size - 1)) > 0;) {
		*size += (size_t)n;
		if (*size + 1 == room) {
			char *bigger = malloc(room * 2);

			memcpy(bigger, text, *size);
			free(text);
			text = bigger;
			room *= 2;
		}
	}
	text[*size] = 0;
	return text;
}

int main(int argc, char **argv)
{
	size_t size;
	char *script = read_all(0, &size), *state, *line;
	unsigned n = 0;

	(void)argc, (void)argv;
#ifndef NATIVE
	int fd = open(argv[1], O_RDONLY);
	char *image = read_all(fd, &size);

	close(fd);
	harness_start();
	harness_image(image, size);
	free(image);
	fs_init();
	sys_chdir((u64)argv[2], 0, 0, 0, 0, 0);
#endif
	for (line = strtok_r(script, "\n", &state); line; line = strtok_r(NULL, "\n", &state)) {
		results[n] = run(line);
		printf("%ld", results[n++]);
		for (unsigned i = 0; i < buffer_count; i++) {
			if (buffers[i].is_shown) {
				printf(" ");
				for (size_t k = 0; k < buffers[i].size; k++)
					printf("%02x", buffers[i].bytes[k]);
			}
			free(buffers[i].bytes);
		}
		buffer_count = 0;
		printf("\n");
	}
	fflush(NULL);
	return 0;
}
