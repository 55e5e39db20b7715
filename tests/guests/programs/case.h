/* Cases of a conformance program: one line each, `case: result`, the same wherever Linux is.
 *
 * A call that fails shows its error by name.  What differs from run to run (addresses, numbers of
 * processes, times) is printed as a relation that has to hold. */
#ifndef CASE_H
#define CASE_H

#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define NAMED(code) { code, #code }
static const struct {
	int number;
	const char *name;
} error_names[] = {
	NAMED(EPERM), NAMED(ENOENT), NAMED(ESRCH), NAMED(EINTR), NAMED(EIO), NAMED(ENXIO), NAMED(E2BIG),
	NAMED(ENOEXEC), NAMED(EBADF), NAMED(ECHILD), NAMED(EAGAIN), NAMED(ENOMEM), NAMED(EACCES),
	NAMED(EFAULT), NAMED(EBUSY), NAMED(EEXIST), NAMED(EXDEV), NAMED(ENODEV), NAMED(ENOTDIR),
	NAMED(EISDIR), NAMED(EINVAL), NAMED(ENFILE), NAMED(EMFILE), NAMED(ENOTTY), NAMED(ETXTBSY),
	NAMED(EFBIG), NAMED(ENOSPC), NAMED(ESPIPE), NAMED(EROFS), NAMED(EMLINK), NAMED(EPIPE), NAMED(EDOM),
	NAMED(ERANGE), NAMED(EDEADLK), NAMED(ENAMETOOLONG), NAMED(ENOSYS), NAMED(ENOTEMPTY), NAMED(ELOOP),
	NAMED(ENODATA), NAMED(EOVERFLOW), NAMED(ENOTSOCK), NAMED(EDESTADDRREQ), NAMED(EMSGSIZE),
	NAMED(EPROTOTYPE), NAMED(ENOPROTOOPT), NAMED(EPROTONOSUPPORT), NAMED(ESOCKTNOSUPPORT),
	NAMED(EOPNOTSUPP), NAMED(EAFNOSUPPORT), NAMED(EADDRINUSE), NAMED(EADDRNOTAVAIL), NAMED(ECONNRESET),
	NAMED(EISCONN), NAMED(ENOTCONN), NAMED(ETIMEDOUT), NAMED(ECONNREFUSED), NAMED(EALREADY),
	NAMED(EINPROGRESS), NAMED(ECANCELED), NAMED(EOWNERDEAD), NAMED(ENOTRECOVERABLE),
};

static const char *error_text(int number)
{
	static char text[24];

	for (unsigned i = 0; i < sizeof(error_names) / sizeof(error_names[0]); i++)
		if (error_names[i].number == number)
			return error_names[i].name;
	snprintf(text, sizeof(text), "errno %d", number);
	return text;
}

/* What a call returned: a number, or the error's name. */
#define CALL(name, call)                                                     \
	do {                                                                 \
		long result_;                                                \
		errno = 0;                                                   \
		result_ = (long)(call);                                      \
		if (result_ == -1 && errno)                                  \
			printf("%s: %s\n", name, error_text(errno));         \
		else                                                         \
			printf("%s: %ld\n", name, result_);                  \
	} while (0)
/* As CALL, of a call whose good result is only "a descriptor" or "an address"; keeps it. */
#define KEEP(name, variable, call)                                           \
	do {                                                                 \
		errno = 0;                                                   \
		(variable) = (call);                                         \
		printf("%s: %s\n", name, (long)(variable) == -1 ? error_text(errno) : "ok"); \
	} while (0)
#define HOLDS(name, condition) printf("%s: %s\n", name, (condition) ? "yes" : "NO")
#define TEXT(name, ...)                                                      \
	do {                                                                 \
		printf("%s: ", name);                                        \
		printf(__VA_ARGS__);                                         \
		putchar('\n');                                               \
	} while (0)
#define BAD ((void *)0x10) /* an address that is not there */

/* Lines show at once, so that one sees where a program stands still. */
__attribute__((constructor)) static void show_lines_at_once(void)
{
	setvbuf(stdout, NULL, _IOLBF, 0);
}

static inline void put_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0644);

	if (fd < 0 || write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		printf("cannot write %s: %s\n", path, error_text(errno));
	close(fd);
}
static inline const char *get_file(const char *path)
{
	static char text[65536];
	int fd = open(path, O_RDONLY);
	ssize_t n = 0, got;

	if (fd < 0)
		return error_text(errno);
	while ((got = read(fd, text + n, sizeof(text) - 1 - n)) > 0)
		n += got;
	close(fd);
	text[n] = 0;
	return text;
}
static inline int64_t now_ns(clockid_t clock)
{
	struct timespec t;

	clock_gettime(clock, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}
static inline void sleep_ms(long ms)
{
	nanosleep(&(struct timespec){ ms / 1000, ms % 1000 * 1000000 }, NULL);
}

#endif
