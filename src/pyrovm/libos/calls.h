/* System calls, and what they share. */
#ifndef PYROVM_LIBOS_CALLS_H
#define PYROVM_LIBOS_CALLS_H

#include "os.h"

#define ERESTARTSYS 512 /* -EINTR for a handler without SA_RESTART, else done again */

#define SYSCALL(name) long sys_##name(u64 a, u64 b, u64 c, u64 d, u64 e, u64 f)

SYSCALL(brk);
SYSCALL(mmap);
SYSCALL(munmap);
SYSCALL(mprotect);
SYSCALL(mremap);
SYSCALL(madvise);
SYSCALL(mincore);
SYSCALL(msync);
SYSCALL(mlock);
SYSCALL(mlockall);
SYSCALL(futex);

/* process.c */
SYSCALL(exit);
SYSCALL(exit_group);
SYSCALL(clone);
SYSCALL(clone3);
SYSCALL(fork);
SYSCALL(execve);
SYSCALL(wait4);
SYSCALL(waitid);
SYSCALL(set_tid_address);
SYSCALL(set_robust_list);
SYSCALL(get_robust_list);
SYSCALL(arch_prctl);
SYSCALL(prctl);
SYSCALL(sched_yield);

/* identity.c */
SYSCALL(getpid);
SYSCALL(gettid);
SYSCALL(getppid);
SYSCALL(getuid);
SYSCALL(getgid);
SYSCALL(getresuid);
SYSCALL(getresgid);
SYSCALL(getgroups);
SYSCALL(accept_identity);
SYSCALL(getpgrp);
SYSCALL(getsid);
SYSCALL(uname);
SYSCALL(sethostname);
SYSCALL(sysinfo);
SYSCALL(prlimit64);
SYSCALL(getrlimit);
SYSCALL(setrlimit);
SYSCALL(getrusage);
SYSCALL(times);
SYSCALL(getcpu);
SYSCALL(sched_getaffinity);
SYSCALL(sched_setaffinity);
SYSCALL(capget);
SYSCALL(getrandom);
SYSCALL(membarrier);
SYSCALL(nothing); /* 0: nothing to do here */
SYSCALL(forbidden); /* EPERM */

/* policy.c */
SYSCALL(sched_setscheduler);
SYSCALL(sched_setparam);
SYSCALL(sched_getscheduler);
SYSCALL(sched_getparam);
SYSCALL(sched_setattr);
SYSCALL(sched_getattr);
SYSCALL(sched_priority_max);
SYSCALL(sched_priority_min);
SYSCALL(sched_rr_get_interval);
SYSCALL(getpriority);
SYSCALL(setpriority);

/* time.c */
SYSCALL(clock_gettime);
SYSCALL(clock_settime);
SYSCALL(clock_getres);
SYSCALL(clock_nanosleep);
SYSCALL(nanosleep);
SYSCALL(gettimeofday);
SYSCALL(time);
SYSCALL(alarm);
SYSCALL(getitimer);
SYSCALL(setitimer);
SYSCALL(timer_create);
SYSCALL(timer_settime);
SYSCALL(timer_gettime);
SYSCALL(timer_getoverrun);
SYSCALL(timer_delete);

/* signal.c, signal_calls.c */
SYSCALL(rt_sigaction);
SYSCALL(rt_sigprocmask);
SYSCALL(rt_sigreturn);
SYSCALL(rt_sigpending);
SYSCALL(rt_sigsuspend);
SYSCALL(rt_sigtimedwait);
SYSCALL(rt_sigqueueinfo);
SYSCALL(rt_tgsigqueueinfo);
SYSCALL(sigaltstack);
SYSCALL(kill);
SYSCALL(tkill);
SYSCALL(tgkill);
SYSCALL(pause);

long futex_wake(u64 address, u32 n, u32 bits);
/* Times from the program: a deadline of the monotonic clock. */
long time_to_ns(const struct __kernel_timespec *t, u64 *ns);

#define NSEC_PER_SEC 1000000000ULL
#define PROCESS_ID 1
#define LINUX_RELEASE "6.1.0-pyrovm" /* what programs may expect to find */

/* The program's resource limits, by RLIMIT_*. */
extern struct rlimit64 limits[RLIM_NLIMITS];

#endif
