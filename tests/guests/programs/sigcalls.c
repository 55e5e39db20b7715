/* Signals: masks, queues, waiting, restarting, stacks, faults. */
#include "case.h"
#include <pthread.h>
#include <setjmp.h>
#include <sys/mman.h>
#include <sys/time.h>
#include <ucontext.h>

static volatile int count, order[8], on_stack, depth, deepest, last_code;
static char *volatile fault_address;
static char stack[65536];
static sigjmp_buf back;

static void note(int number)
{
	order[count++ & 7] = number;
}
static void note_stack(int number)
{
	char here;

	on_stack = &here >= stack && &here < stack + sizeof(stack);
}
static void nest(int number)
{
	if (++depth > deepest)
		deepest = depth;
	if (++count < 3)
		raise(number);
	depth--;
}
static void on_fault(int number, siginfo_t *info, void *context)
{
	fault_address = info->si_addr;
	last_code = info->si_code;
	siglongjmp(back, number);
}
static void skip(int number, siginfo_t *info, void *context)
{
	((ucontext_t *)context)->uc_mcontext.gregs[REG_RIP] += 2; /* ud2 */
	count++;
}
static void *signal_late(void *thread)
{
	sleep_ms(30);
	pthread_kill(*(pthread_t *)thread, SIGUSR1);
	return NULL;
}
static void handle(int number, void (*handler)(int), int flags)
{
	struct sigaction action = { .sa_handler = handler, .sa_flags = flags };

	sigaction(number, &action, NULL);
}
static void *write_later(void *fd)
{
	sleep_ms(80);
	write(*(int *)fd, "x", 1);
	return NULL;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO }, old;
	struct timespec t = { 0, 10000000 };
	pthread_t self = pthread_self(), thread, writer;
	sigset_t set, mask;
	siginfo_t info;
	int p[2];
	char text[4], *page;

	handle(SIGUSR1, note, 0);
	handle(SIGUSR2, note, 0);
	handle(SIGRTMIN, note, 0);
	handle(SIGRTMIN + 1, note, 0);
	CALL("raise", raise(SIGUSR1));
	CALL("handled", count);
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	sigaddset(&set, SIGUSR2);
	sigaddset(&set, SIGRTMIN);
	sigaddset(&set, SIGRTMIN + 1);
	CALL("block", sigprocmask(SIG_BLOCK, &set, NULL));
	count = 0;
	raise(SIGUSR2);
	raise(SIGUSR2);
	raise(SIGUSR1);
	sigqueue(getpid(), SIGRTMIN + 1, (union sigval){ .sival_int = 1 });
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 2 });
	sigqueue(getpid(), SIGRTMIN, (union sigval){ .sival_int = 3 });
	CALL("not yet", count);
	sigpending(&mask);
	TEXT("pending", "%d %d %d", sigismember(&mask, SIGUSR1), sigismember(&mask, SIGRTMIN), sigismember(&mask, SIGTERM));
	CALL("take one", sigtimedwait(&set, &info, &t) == SIGUSR1);
	sigemptyset(&mask);
	sigaddset(&mask, SIGRTMIN);
	CALL("take a queued one", sigwaitinfo(&mask, &info) == SIGRTMIN);
	TEXT("its value", "%d %d", info.si_value.sival_int, info.si_code);
	CALL("unblock", sigprocmask(SIG_UNBLOCK, &set, NULL));
	CALL("all came", count);
	sigemptyset(&mask);
	sigaddset(&mask, SIGHUP);
	CALL("none in time", sigtimedwait(&mask, &info, &t));
	CALL("bad time", sigtimedwait(&mask, &info, &(struct timespec){ 0, -1 }));

	pipe(p);
	pthread_create(&thread, NULL, signal_late, &self);
	CALL("read is interrupted", read(p[0], text, 1));
	pthread_join(thread, NULL);
	handle(SIGUSR1, note, SA_RESTART);
	count = 0;
	pthread_create(&thread, NULL, signal_late, &self);
	pthread_create(&writer, NULL, write_later, &p[1]);
	CALL("read goes on", read(p[0], text, 1));
	CALL("handler ran", count);
	pthread_join(thread, NULL);
	pthread_join(writer, NULL);
	pthread_create(&thread, NULL, signal_late, &self);
	CALL("sleep does not", nanosleep(&(struct timespec){ 10, 0 }, NULL));
	pthread_join(thread, NULL);
	pthread_create(&thread, NULL, signal_late, &self);
	CALL("pause", pause());
	pthread_join(thread, NULL);
	sigemptyset(&mask);
	sigprocmask(SIG_BLOCK, &set, NULL);
	raise(SIGUSR1);
	CALL("sigsuspend", sigsuspend(&mask));
	sigprocmask(SIG_BLOCK, NULL, &mask);
	CALL("mask is back", sigismember(&mask, SIGUSR1));
	sigprocmask(SIG_UNBLOCK, &set, NULL);

	handle(SIGUSR1, nest, SA_NODEFER);
	count = 0;
	raise(SIGUSR1);
	CALL("nested", deepest);
	count = deepest = 0;
	handle(SIGUSR1, nest, 0);
	raise(SIGUSR1);
	CALL("one after the other", deepest);
	handle(SIGUSR1, note, SA_RESETHAND);
	raise(SIGUSR1);
	sigaction(SIGUSR1, NULL, &old);
	HOLDS("handler is gone", old.sa_handler == SIG_DFL);
	handle(SIGUSR1, SIG_IGN, 0);
	CALL("ignored", raise(SIGUSR1));
	CALL("SIGKILL has no handler", sigaction(SIGKILL, &action, NULL));
	CALL("signal 0 neither", sigaction(0, &action, NULL));
	CALL("signal 65 neither", syscall(SYS_rt_sigaction, 65, NULL, NULL, 8));
	CALL("size of masks", syscall(SYS_rt_sigprocmask, 0, NULL, NULL, 4));
	sigfillset(&mask);
	sigprocmask(SIG_SETMASK, &mask, &set);
	sigprocmask(SIG_SETMASK, &set, &mask);
	CALL("SIGKILL is not blocked", sigismember(&mask, SIGKILL) + sigismember(&mask, SIGSTOP));

	CALL("sigaltstack", sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = sizeof(stack) }, NULL));
	handle(SIGUSR1, note_stack, SA_ONSTACK);
	raise(SIGUSR1);
	CALL("on it", on_stack);
	handle(SIGUSR1, note_stack, 0);
	raise(SIGUSR1);
	CALL("not on it", on_stack);
	CALL("too small", sigaltstack(&(stack_t){ .ss_sp = stack, .ss_size = 100 }, NULL));

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGFPE, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	page = mmap(NULL, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (!sigsetjmp(back, 1))
		page[123] = 1;
	TEXT("protected", "%d %d", last_code, (int)(fault_address - page));
	munmap(page, 4096);
	if (!sigsetjmp(back, 1))
		page[99] = 1;
	TEXT("not there", "%d %d", last_code, (int)(fault_address - page));
	if (!sigsetjmp(back, 1))
		*(volatile char *)0x8000000000000000 = 1;
	TEXT("no address at all", "%d %ld", last_code, (long)fault_address);
	if (!sigsetjmp(back, 1)) {
		volatile int zero = 0;
		zero = 5 / zero;
	}
	TEXT("division", "%d", last_code);
	action.sa_sigaction = skip;
	sigaction(SIGILL, &action, NULL);
	count = 0;
	__asm__ volatile("ud2");
	CALL("handler moved on", count);
	CALL("code of one's own", syscall(SYS_rt_sigqueueinfo, getpid(), SIGRTMIN, &(siginfo_t){ .si_code = -5 }));
	return 0;
}
