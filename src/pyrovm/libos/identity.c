/* System calls that ask who and where one is: answered from constants and the boot information. */
#include "calls.h"
#include "cpu.h"
#include "thread.h"

#define CONSTANT(name, value) SYSCALL(name) { return (value); }

struct rlimit64 limits[RLIM_NLIMITS];

CONSTANT(getpid, PROCESS_ID)
CONSTANT(getppid, 0)
CONSTANT(getpgrp, PROCESS_ID)
CONSTANT(gettid, current()->tid)
CONSTANT(getuid, boot_info->uid)
CONSTANT(getgid, boot_info->gid)
CONSTANT(nothing, 0)
CONSTANT(forbidden, -EPERM)

SYSCALL(getsid)
{
	return !(int)a || (int)a == PROCESS_ID ? PROCESS_ID : -ESRCH;
}

SYSCALL(getgroups)
{
	return (int)a < 0 ? -EINVAL : 0; /* none */
}

static long put_ids(u64 a, u64 b, u64 c, u32 id)
{
	u64 places[] = { a, b, c };

	for (int i = 0; i < 3; i++) {
		if (user_check((void *)places[i], 4, true))
			return -EFAULT;
		*(u32 *)places[i] = id;
	}
	return 0;
}

SYSCALL(getresuid)
{
	return put_ids(a, b, c, boot_info->uid);
}

SYSCALL(getresgid)
{
	return put_ids(a, b, c, boot_info->gid);
}

/* setuid and the like: there is one user, whoever that is. */
SYSCALL(accept_identity)
{
	return (u32)a == boot_info->uid || (s32)a == -1 || boot_info->uid == 0 ? 0 : -EPERM;
}

#define strings ((const char *)phys_to_virt(boot_info->strings_gpa))

static char hostname[65];

SYSCALL(uname)
{
	struct new_utsname *u = (struct new_utsname *)a;

	if (user_check(u, sizeof(*u), true))
		return -EFAULT;
	memset(u, 0, sizeof(*u));
	format(u->sysname, 65, "Linux");
	format(u->nodename, 65, "%s", hostname[0] ? hostname : strings + boot_info->hostname_offset);
	format(u->release, 65, LINUX_RELEASE);
	format(u->version, 65, "#1 pyrovm library OS");
	format(u->machine, 65, "x86_64");
	format(u->domainname, 65, "(none)");
	return 0;
}

SYSCALL(sethostname)
{
	if (b > 64)
		return -EINVAL;
	if (user_check((void *)a, b, false))
		return -EFAULT;
	memset(hostname, 0, sizeof(hostname));
	memcpy(hostname, (void *)a, b);
	return 0;
}

SYSCALL(sysinfo)
{
	struct sysinfo *s = (struct sysinfo *)a;

	if (user_check(s, sizeof(*s), true))
		return -EFAULT;
	memset(s, 0, sizeof(*s));
	s->uptime = (s64)(clock_monotonic() / NSEC_PER_SEC);
	s->totalram = page_count_total() * PAGE_SIZE;
	s->freeram = page_count_free() * PAGE_SIZE;
	s->procs = (u16)thread_count;
	s->mem_unit = 1;
	return 0;
}

SYSCALL(prlimit64)
{
	struct rlimit64 *new = (struct rlimit64 *)c, *old = (struct rlimit64 *)d, before, wanted = { 0, 0 };

	if (b >= RLIM_NLIMITS)
		return -EINVAL;
	if ((int)a != 0 && (int)a != PROCESS_ID)
		return -ESRCH;
	if (user_check(new, new ? sizeof(*new) : 0, false) || user_check(old, old ? sizeof(*old) : 0, true))
		return -EFAULT;
	before = limits[b];
	if (new) {
		wanted = *new;
		if (wanted.rlim_cur > wanted.rlim_max)
			return -EINVAL;
		if (wanted.rlim_max > before.rlim_max && boot_info->uid)
			return -EPERM;
		limits[b] = wanted;
	}
	if (old)
		*old = before;
	return 0;
}

SYSCALL(getrlimit)
{
	return sys_prlimit64(0, a, 0, b, e, f);
}

SYSCALL(setrlimit)
{
	return sys_prlimit64(0, a, b, 0, e, f);
}

SYSCALL(getrusage)
{
	s64 *out = (s64 *)b; /* struct rusage: 18 words */
	u64 ns;

	if ((int)a < -1 || (int)a > 1)
		return -EINVAL;
	if (user_check(out, 18 * 8, true))
		return -EFAULT;
	memset(out, 0, 18 * 8);
	if ((int)a == 1)
		ns = thread_cpu_ns(current());
	else if ((int)a == 0)
		ns = threads_cpu_ns();
	else
		return 0; /* children */
	out[0] = (s64)(ns / NSEC_PER_SEC);
	out[1] = (s64)(ns % NSEC_PER_SEC / 1000);
	out[4] = (s64)((page_count_total() - page_count_free()) * 4); /* KiB */
	return 0;
}

SYSCALL(times)
{
	s64 *out = (s64 *)a;

	if (user_check(out, out ? 32 : 0, true))
		return -EFAULT;
	if (out) {
		memset(out, 0, 32);
		out[0] = (s64)(threads_cpu_ns() / 10000000); /* 100 a second */
	}
	return (long)(clock_monotonic() / 10000000);
}

SYSCALL(getcpu)
{
	if (user_check((void *)a, a ? 4 : 0, true) || user_check((void *)b, b ? 4 : 0, true))
		return -EFAULT;
	if (a)
		*(u32 *)a = cpu_number();
	if (b)
		*(u32 *)b = 0;
	return 0;
}

static u64 all_cpus(void)
{
	return (1UL << MAX(boot_info->vcpu_count, 1U)) - 1;
}

SYSCALL(sched_getaffinity)
{
	struct thread *t = (int)a ? thread_find((int)a) : current();

	if (!t)
		return -ESRCH;
	if (b < 8)
		return -EINVAL;
	if (user_check((void *)c, 8, true))
		return -EFAULT;
	*(u64 *)c = t->affinity & all_cpus();
	return 8;
}

SYSCALL(sched_setaffinity)
{
	struct thread *t = (int)a ? thread_find((int)a) : current();
	u64 wanted = 0;

	if (!t)
		return -ESRCH;
	if (user_check((void *)c, MIN(b, 8), false))
		return -EFAULT;
	memcpy(&wanted, (void *)c, MIN(b, 8));
	wanted &= all_cpus();
	if (!wanted)
		return -EINVAL;
	if (!(wanted & cpus_started()))
		cpu_start((unsigned)__builtin_ctzll(wanted));
	if (!(wanted & cpus_started()))
		return -ENOMEM;
	t->affinity = wanted;
	if (t->cpu >= 0 && !(wanted >> t->cpu & 1))
		cpu_interrupt_thread(t); /* it goes elsewhere when it comes back here */
	return 0;
}

SYSCALL(capget)
{
	u32 *header = (u32 *)a, *data = (u32 *)b;

	if (user_check(header, 8, true) || user_check(data, data ? 24 : 0, true))
		return -EFAULT;
	if (header[0] != 0x20080522) {
		header[0] = 0x20080522;
		return data ? -EINVAL : 0;
	}
	if (data)
		memset(data, 0, 24);
	return 0;
}

SYSCALL(getrandom)
{
	if (c & ~7ULL)
		return -EINVAL;
	b = MIN(b, 0x1ffffffULL);
	if (user_check((void *)a, b, true))
		return -EFAULT;
	random_bytes((void *)a, b);
	return (long)b;
}

/* Who is in here, or comes in here, has seen a barrier when it runs again. */
SYSCALL(membarrier)
{
	if ((int)a == 0)
		return 0x1ff;
	cpus_interrupt();
	return 0;
}
