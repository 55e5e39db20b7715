/* Calls with addresses that are not there, and with descriptors of another kind. */
#include "case.h"
#include <poll.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/time.h>
#include <sys/timerfd.h>
#include <sys/uio.h>
#include <sys/utsname.h>

#define RAW(call, ...) CALL(#call, syscall(SYS_##call, ##__VA_ARGS__))

int main(void)
{
	char *page = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *edge = page + 4096 - 4, text[16];
	int file = open("file", O_RDWR | O_CREAT, 0600), pipes[2];

	write(file, "0123456789abcdef", 16);
	lseek(file, 0, SEEK_SET);
	munmap(page + 4096, 4096);
	pipe(pipes);
	RAW(read, file, BAD, 10);
	RAW(write, file, BAD, 10);
	RAW(pread64, file, BAD, 10, 0);
	RAW(readv, file, BAD, 1);
	RAW(open, BAD, O_RDONLY);
	RAW(stat, BAD, text);
	RAW(stat, "file", BAD);
	RAW(fstat, file, BAD);
	RAW(newfstatat, AT_FDCWD, "file", BAD, 0);
	RAW(statx, AT_FDCWD, "file", 0, 0, BAD);
	RAW(access, BAD, 0);
	RAW(readlink, "/proc/self/exe", BAD, 100);
	RAW(getcwd, BAD, 100);
	RAW(chdir, BAD);
	RAW(mkdir, BAD, 0);
	RAW(rename, "file", BAD);
	RAW(unlink, BAD);
	RAW(link, BAD, "x");
	RAW(symlink, BAD, "x");
	RAW(truncate, BAD, 0);
	RAW(utimensat, AT_FDCWD, "file", BAD, 0);
	RAW(getdents64, open(".", O_RDONLY), BAD, 1000);
	RAW(statfs, ".", BAD);
	RAW(pipe2, BAD, 0);
	RAW(poll, BAD, 1, 0);
	RAW(ppoll, page, 1, BAD, NULL, 8);
	RAW(select, 10, BAD, NULL, NULL, NULL);
	RAW(select, 10, NULL, NULL, NULL, BAD);
	RAW(epoll_ctl, epoll_create1(0), EPOLL_CTL_ADD, pipes[0], BAD);
	RAW(nanosleep, BAD, NULL);
	RAW(clock_gettime, 0, BAD);
	RAW(clock_nanosleep, 0, 0, BAD, NULL);
	RAW(gettimeofday, BAD, NULL);
	RAW(setitimer, 0, BAD, NULL);
	RAW(getitimer, 0, BAD);
	RAW(timer_create, 0, BAD, text);
	RAW(timerfd_settime, timerfd_create(0, 0), 0, BAD, NULL);
	RAW(rt_sigaction, SIGUSR1, BAD, NULL, 8);
	RAW(rt_sigaction, SIGUSR1, NULL, BAD, 8);
	RAW(rt_sigprocmask, 0, BAD, NULL, 8);
	RAW(rt_sigprocmask, 0, NULL, BAD, 8);
	RAW(rt_sigtimedwait, BAD, NULL, NULL, 8);
	RAW(rt_sigsuspend, BAD, 8);
	RAW(rt_sigpending, BAD, 8);
	RAW(sigaltstack, BAD, NULL);
	RAW(futex, BAD, 0, 0, NULL, NULL, 0);
	RAW(getrusage, 0, BAD);
	RAW(getrlimit, 0, BAD);
	RAW(setrlimit, 0, BAD);
	RAW(prlimit64, 0, 0, BAD, NULL);
	RAW(uname, BAD);
	RAW(sysinfo, BAD);
	RAW(times, BAD);
	RAW(getrandom, BAD, 10, 0);
	RAW(getresuid, BAD, BAD, BAD);
	RAW(getgroups, 100, BAD);
	RAW(sched_getaffinity, 0, 128, BAD);
	RAW(getcpu, BAD, NULL, NULL);
	RAW(memfd_create, BAD, 0);
	RAW(socketpair, AF_UNIX, SOCK_STREAM, 0, BAD);
	RAW(prctl, 16, BAD, 0, 0, 0);
	RAW(wait4, -1, BAD, 0, NULL);

	/* Over the edge of what is there. */
	CALL("write over the edge", write(file, edge, 8));
	CALL("read over the edge", (lseek(file, 0, SEEK_SET), read(file, edge, 8)));
	memset(page, 'x', 4096);
	RAW(open, page, O_RDONLY);
	strcpy(page + 4096 - 5, "file");
	CALL("name up to the edge", open(page + 4096 - 5, O_RDONLY) >= 0);
	CALL("pipe write over the edge", write(pipes[1], edge, 8));
	CALL("first good, second bad", writev(pipes[1], (struct iovec[]){ { "ab", 2 }, { BAD, 2 } }, 2));
	CALL("address of the kernel's", write(pipes[1], (void *)0xffff800000000000, 8));
	CALL("end of addresses", read(file, (void *)0x7ffffffffff0, 100));
	CALL("length that wraps", write(pipes[1], page, -1));
	mprotect(page, 4096, PROT_READ);
	CALL("read into read only", (lseek(file, 0, SEEK_SET), read(file, page, 8)));
	CALL("stat into read only", stat("file", (struct stat *)page));
	mprotect(page, 4096, PROT_NONE);
	CALL("write from nothing", write(file, page, 8));

	/* Of another kind. */
	CALL("lseek of a pipe", lseek(pipes[0], 0, SEEK_CUR));
	CALL("ftruncate of a pipe", ftruncate(pipes[1], 0));
	CALL("fsync of a pipe", fsync(pipes[0]));
	CALL("fchdir of a pipe", fchdir(pipes[0]));
	CALL("getdents of a pipe", syscall(SYS_getdents64, pipes[0], text, 10));
	CALL("mmap of a pipe", syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, pipes[0], 0));
	CALL("fallocate of a pipe", fallocate(pipes[1], 0, 0, 10));
	CALL("timerfd_settime of a pipe", timerfd_settime(pipes[0], 0, &(struct itimerspec){ 0 }, NULL));
	CALL("epoll_wait of a pipe", epoll_wait(pipes[0], (struct epoll_event *)text, 1, 0));
	CALL("accept of a file", accept(file, NULL, NULL));
	CALL("getsockname of a pipe", getsockname(pipes[0], (void *)text, &(socklen_t){ 16 }));
	CALL("send to a file", send(file, "x", 1, 0));
	CALL("read of an epoll", read(epoll_create1(0), text, 1));
	for (int fd = -1; fd < 1000; fd += 1000) {
		CALL("read of closed", read(fd, text, 1));
		CALL("fstat of closed", fstat(fd, (struct stat *)page));
		CALL("poll of closed", poll(&(struct pollfd){ fd, POLLIN }, 1, 0));
		CALL("mmap of closed", syscall(SYS_mmap, 0, 4096, PROT_READ, MAP_PRIVATE, fd, 0));
		CALL("fsync of closed", fsync(fd));
		CALL("send to closed", send(fd, "x", 1, 0));
		CALL("epoll_ctl of closed", epoll_ctl(fd, EPOLL_CTL_ADD, file, &(struct epoll_event){ 0 }));
	}
	return 0;
}
