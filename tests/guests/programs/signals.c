/* Signals: handlers, timers while spinning, faults with their address, masks, alternate stacks. */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <unistd.h>

static volatile sig_atomic_t ticks, taken;
static sigjmp_buf back;
static siginfo_t info;
static int on_alt_stack;
static char alt[65536];

static void tick(int number) { ticks++; }
static void take(int number) { taken = taken * 100 + number; }

static void fault(int number, siginfo_t *i, void *context)
{
	char here;

	info = *i;
	on_alt_stack = &here >= alt && &here < alt + sizeof(alt);
	siglongjmp(back, 1);
}

static int recurse(int n)
{
	volatile char room[1024];

	room[0] = (char)n;
	return recurse(n + 1) + room[0];
}

int main(void)
{
	struct itimerval every = { { 0, 5000 }, { 0, 5000 } }, never = { { 0, 0 }, { 0, 0 } };
	struct sigaction action = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_ONSTACK };
	stack_t stack = { .ss_sp = alt, .ss_size = sizeof(alt) };
	volatile double kept = 1.25;
	volatile int zero = 0;
	sigset_t set, pending;
	char *page;

	signal(SIGALRM, tick);
	setitimer(ITIMER_REAL, &every, NULL);
	while (ticks < 5)
		kept += 0.0;
	setitimer(ITIMER_REAL, &never, NULL);
	printf("ticks %d, %.2f\n", ticks >= 5, kept);

	sigaltstack(&stack, NULL);
	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGILL, &action, NULL);
	if (!sigsetjmp(back, 1))
		*(volatile int *)0x1234 = 1;
	printf("write to %p: signal %d code %d\n", info.si_addr, info.si_signo, info.si_code);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!sigsetjmp(back, 1))
		page[5] = 1;
	printf("write to read-only: at %ld, code %d\n", (long)((char *)info.si_addr - page), info.si_code);
	if (!sigsetjmp(back, 1))
		((void (*)(void))page)();
	printf("execute data: %d\n", info.si_addr == page);
	if (!sigsetjmp(back, 1))
		printf("%d\n", 5 % zero);
	printf("divide: signal %d code %d\n", info.si_signo, info.si_code);
	if (!sigsetjmp(back, 1))
		__builtin_trap();
	printf("trap: signal %d\n", info.si_signo);
	if (!sigsetjmp(back, 1))
		recurse(0);
	printf("recursion: signal %d, on its own stack %d\n", info.si_signo, on_alt_stack);

	signal(SIGUSR1, take);
	signal(SIGUSR2, take);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR2);
	kill(getpid(), SIGUSR1);
	sigpending(&pending);
	printf("pending %d %d, taken %d\n", sigismember(&pending, SIGUSR1), sigismember(&pending, SIGUSR2), taken);
	sigprocmask(SIG_UNBLOCK, &set, NULL);
	printf("taken both %d\n", taken == 1012 || taken == 1210);

	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	printf("waited for %d\n", sigwaitinfo(&set, &info));
	signal(SIGALRM, tick);
	alarm(1);
	printf("pause %d, errno %d\n", pause(), errno == EINTR);
	return 0;
}
