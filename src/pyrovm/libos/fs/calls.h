/* The system calls about files, pipes and event descriptors. */
#ifndef PYROVM_LIBOS_FS_CALLS_H
#define PYROVM_LIBOS_FS_CALLS_H

#include "../calls.h"
#include "../file.h"

/* A call with the arguments that it has, by name. */
#define CALL0(name) \
	static long call_##name(void); \
	long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ (void)a, (void)b, (void)c, (void)d, (void)e, (void)f; return call_##name(); } \
	static long call_##name(void)
#define CALL1(name, A) \
	static long call_##name(u64); \
	long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ (void)b, (void)c, (void)d, (void)e, (void)f; return call_##name(a); } \
	static long call_##name(u64 A)
#define CALL2(name, A, B) \
	static long call_##name(u64, u64); \
	long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ (void)c, (void)d, (void)e, (void)f; return call_##name(a, b); } \
	static long call_##name(u64 A, u64 B)
#define CALL3(name, A, B, C) \
	static long call_##name(u64, u64, u64); \
	long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ (void)d, (void)e, (void)f; return call_##name(a, b, c); } \
	static long call_##name(u64 A, u64 B, u64 C)
#define CALL4(name, A, B, C, D) \
	static long call_##name(u64, u64, u64, u64); \
	long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ (void)e, (void)f; return call_##name(a, b, c, d); } \
	static long call_##name(u64 A, u64 B, u64 C, u64 D)
#define CALL5(name, A, B, C, D, E) \
	static long call_##name(u64, u64, u64, u64, u64); \
	long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f) \
	{ (void)f; return call_##name(a, b, c, d, e); } \
	static long call_##name(u64 A, u64 B, u64 C, u64 D, u64 E)


/* fd.c */
SYSCALL(close);
SYSCALL(close_range);
SYSCALL(dup);
SYSCALL(dup2);
SYSCALL(dup3);
SYSCALL(fcntl);
SYSCALL(ioctl);
/* lock.c */
SYSCALL(flock);
/* calls_io.c */
SYSCALL(read);
SYSCALL(write);
SYSCALL(readv);
SYSCALL(writev);
SYSCALL(pread64);
SYSCALL(pwrite64);
SYSCALL(preadv);
SYSCALL(pwritev);
SYSCALL(preadv2);
SYSCALL(pwritev2);
SYSCALL(lseek);
long transfer_vector(int fd, u64 vector, u64 count, bool write, u32 flags); /* at its position; RWF_* */
/* calls_copy.c */
SYSCALL(sendfile);
SYSCALL(copy_file_range);
SYSCALL(truncate);
SYSCALL(ftruncate);
SYSCALL(fallocate);
SYSCALL(fsync); /* and fdatasync, syncfs */
SYSCALL(sync);
SYSCALL(sync_file_range);
SYSCALL(fadvise64);
SYSCALL(readahead);
SYSCALL(memfd_create);
/* splice.c */
SYSCALL(splice);
SYSCALL(tee);
SYSCALL(vmsplice);
/* calls_open.c */
SYSCALL(open);
SYSCALL(openat);
SYSCALL(openat2);
SYSCALL(creat);
SYSCALL(chdir);
SYSCALL(fchdir);
SYSCALL(getcwd);
SYSCALL(umask);
/* calls_look.c */
SYSCALL(readlink);
SYSCALL(readlinkat);
SYSCALL(access);
SYSCALL(faccessat);
SYSCALL(faccessat2);
SYSCALL(getdents);
SYSCALL(getdents64);
/* calls_stat.c */
SYSCALL(stat);
SYSCALL(lstat);
SYSCALL(fstat);
SYSCALL(newfstatat);
SYSCALL(statx);
SYSCALL(statfs);
SYSCALL(fstatfs);
/* calls_names.c */
SYSCALL(mkdir);
SYSCALL(mkdirat);
SYSCALL(mknod);
SYSCALL(mknodat);
SYSCALL(rmdir);
SYSCALL(unlink);
SYSCALL(unlinkat);
SYSCALL(rename);
SYSCALL(renameat);
SYSCALL(renameat2);
SYSCALL(link);
SYSCALL(linkat);
SYSCALL(symlink);
SYSCALL(symlinkat);
/* calls_change.c */
SYSCALL(chmod);
SYSCALL(fchmod);
SYSCALL(fchmodat);
SYSCALL(chown);
SYSCALL(lchown);
SYSCALL(fchown);
SYSCALL(fchownat);
SYSCALL(utime);
SYSCALL(utimes);
SYSCALL(futimesat);
SYSCALL(utimensat);
SYSCALL(no_xattr); /* (l)getxattr, (l)setxattr, (l)removexattr: ENOTSUP */
SYSCALL(fno_xattr); /* the same of a descriptor */
SYSCALL(listxattr); /* and llistxattr: none */
SYSCALL(flistxattr);
/* calls_mqueue.c */
SYSCALL(mq_open);
SYSCALL(mq_unlink);
SYSCALL(mq_timedsend);
SYSCALL(mq_timedreceive);
SYSCALL(mq_notify);
SYSCALL(mq_getsetattr);
/* pipe.c and the others */
SYSCALL(pipe);
SYSCALL(pipe2);
SYSCALL(eventfd);
SYSCALL(eventfd2);
SYSCALL(timerfd_create);
SYSCALL(timerfd_settime);
SYSCALL(timerfd_gettime);
SYSCALL(signalfd);
SYSCALL(signalfd4);
SYSCALL(inotify_init);
SYSCALL(inotify_init1);
SYSCALL(inotify_add_watch);
SYSCALL(inotify_rm_watch);
SYSCALL(poll);
SYSCALL(ppoll);
SYSCALL(select);
SYSCALL(pselect6);
SYSCALL(epoll_create);
SYSCALL(epoll_create1);
SYSCALL(epoll_ctl);
SYSCALL(epoll_wait);
SYSCALL(epoll_pwait);
SYSCALL(epoll_pwait2);
/* unix.c: called where the family is AF_UNIX, or the descriptor is_unix() */
SYSCALL(socketpair);

#endif
