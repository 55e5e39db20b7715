/* fcntl, locks, flags of descriptors, close_range. */
#include "case.h"
#include <linux/close_range.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

int main(void)
{
	struct flock lock = { .l_type = F_WRLCK, .l_whence = SEEK_SET, .l_start = 0, .l_len = 10 };
	int fd = open("file", O_RDWR | O_CREAT, 0600), other, pipes[2], n;

	CALL("flags", fcntl(fd, F_GETFL) & ~0100000);
	CALL("set flags", fcntl(fd, F_SETFL, O_APPEND | O_NONBLOCK));
	CALL("flags now", fcntl(fd, F_GETFL) & ~0100000);
	CALL("access mode cannot change", (fcntl(fd, F_SETFL, O_WRONLY), fcntl(fd, F_GETFL) & O_ACCMODE));
	CALL("descriptor flags", fcntl(fd, F_GETFD));
	CALL("set close-on-exec", fcntl(fd, F_SETFD, FD_CLOEXEC));
	CALL("descriptor flags now", fcntl(fd, F_GETFD));
	CALL("F_DUPFD", (other = fcntl(fd, F_DUPFD, 50)));
	CALL("copy has no flag", fcntl(other, F_GETFD));
	CALL("F_DUPFD_CLOEXEC", fcntl(fd, F_DUPFD_CLOEXEC, 50));
	CALL("its flag", fcntl(51, F_GETFD));
	CALL("F_DUPFD negative", fcntl(fd, F_DUPFD, -1));
	CALL("unknown command", fcntl(fd, 7777));
	CALL("closed", fcntl(99, F_GETFD));
	CALL("shared flags", (fcntl(other, F_SETFL, 0), fcntl(fd, F_GETFL) & ~0100000));
	CALL("lowest number", (close(other), dup(fd)) < 50);
	close(51);

	CALL("lock", fcntl(fd, F_SETLK, &lock));
	CALL("own lock is no obstacle", fcntl(fd, F_GETLK, &lock));
	CALL("type", lock.l_type);
	lock.l_type = 77;
	CALL("lock of no type", fcntl(fd, F_SETLK, &lock));
	lock = (struct flock){ .l_type = F_UNLCK };
	CALL("unlock", fcntl(fd, F_SETLK, &lock));
	CALL("flock", flock(fd, LOCK_EX));
	other = open("file", O_RDWR);
	CALL("another description", flock(other, LOCK_EX | LOCK_NB));
	CALL("unlock", flock(fd, LOCK_UN));
	CALL("now", flock(other, LOCK_SH | LOCK_NB));
	CALL("shared twice", flock(fd, LOCK_SH | LOCK_NB));
	CALL("not to exclusive", flock(fd, LOCK_EX | LOCK_NB));
	CALL("no operation", flock(fd, 0));
	CALL("by closing", (close(other), flock(fd, LOCK_EX | LOCK_NB)));
	flock(fd, LOCK_UN);
	other = open("file", O_RDWR);
	lock = (struct flock){ .l_type = F_WRLCK, .l_len = 5 };
	CALL("open file lock", fcntl(fd, F_OFD_SETLK, &lock));
	CALL("of another", fcntl(other, F_OFD_SETLK, &lock));
	lock.l_start = 5;
	CALL("beside it", fcntl(other, F_OFD_SETLK, &lock));

	pipe(pipes);
	CALL("FIONREAD of nothing", (n = 9, ioctl(pipes[0], FIONREAD, &n)) + n);
	write(pipes[1], "abc", 3);
	CALL("FIONREAD", (ioctl(pipes[0], FIONREAD, &n), n));
	CALL("FIONBIO", ioctl(pipes[0], FIONBIO, &(int){ 1 }));
	CALL("is in the flags", fcntl(pipes[0], F_GETFL));
	CALL("FIOCLEX", ioctl(pipes[0], FIOCLEX));
	CALL("is set", fcntl(pipes[0], F_GETFD));
	CALL("FIONCLEX", (ioctl(pipes[0], FIONCLEX), fcntl(pipes[0], F_GETFD)));
	CALL("unknown ioctl", ioctl(pipes[0], 0xdead, &n));
	CALL("ioctl of a file", ioctl(fd, 0xdead, &n));
	CALL("ioctl of closed", ioctl(99, FIONREAD, &n));
	CALL("not a terminal", isatty(pipes[0]));

	CALL("pipe size", fcntl(pipes[0], F_GETPIPE_SZ));
	CALL("set pipe size", fcntl(pipes[0], F_SETPIPE_SZ, 8192));
	CALL("pipe size of file", fcntl(fd, F_GETPIPE_SZ));
	other = memfd_create("seals", MFD_ALLOW_SEALING);
	ftruncate(other, 100);
	CALL("seal", fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW));
	CALL("seals", fcntl(other, F_GET_SEALS));
	CALL("shrink", ftruncate(other, 10));
	CALL("grow", ftruncate(other, 1000));
	CALL("write within", pwrite(other, "x", 1, 0));
	CALL("write beyond", pwrite(other, "x", 1, 100));
	CALL("seal writing", fcntl(other, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL));
	CALL("write", pwrite(other, "x", 1, 0));
	CALL("seal again", fcntl(other, F_ADD_SEALS, F_SEAL_SHRINK));
	CALL("seals of a file", fcntl(fd, F_GET_SEALS));
	CALL("unsealable", fcntl(memfd_create("x", 0), F_ADD_SEALS, F_SEAL_WRITE));

	dup2(fd, 100);
	dup2(fd, 101);
	dup2(fd, 105);
	CALL("close-on-exec of a range", close_range(100, 101, CLOSE_RANGE_CLOEXEC));
	CALL("is set", fcntl(101, F_GETFD));
	CALL("close range", close_range(100, 104, 0));
	CALL("closed now", fcntl(100, F_GETFD));
	CALL("outside", fcntl(105, F_GETFD));
	CALL("range the wrong way", close_range(10, 5, 0));
	CALL("range flags", close_range(200, 201, 0x77));
	return 0;
}
