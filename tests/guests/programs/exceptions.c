/* Exceptions of all kinds, with what a handler is told of them; code that changes.  Four functions of
 * six bytes, mov $n, %eax; ret, come from standard input. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>
#include <xmmintrin.h>

static sigjmp_buf back;
static siginfo_t info;
static long error, offset;
static char *place;

static void fault(int number, siginfo_t *i, void *context)
{
	ucontext_t *u = context;

	info = *i;
	error = u->uc_mcontext.gregs[REG_ERR];
	offset = u->uc_mcontext.gregs[REG_RIP] - (long)place;
	siglongjmp(back, 1);
}

static void *pages(int prot)
{
	return mmap(NULL, 4096, prot, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
}

static void run(const char *name, const void *code, size_t size)
{
	place = pages(PROT_READ | PROT_WRITE);
	memcpy(place, code, size);
	mprotect(place, 4096, PROT_READ | PROT_EXEC);
	if (!sigsetjmp(back, 1)) {
		((void (*)(void))place)();
		printf("%s: returned\n", name);
	} else {
		printf("%s: signal %d code %d error %ld at %ld\n", name, info.si_signo, info.si_code,
		       info.si_signo == SIGSEGV ? error : 0, offset >= 0 && offset < 4096 ? offset : -1);
	}
	munmap(place, 4096);
}
#define RUN(name, ...) run(name, (const uint8_t[]){ __VA_ARGS__ }, sizeof((uint8_t[]){ __VA_ARGS__ }))

static int answer(char *code) { return ((int (*)(void))code)(); }

int main(void)
{
	struct sigaction action = { .sa_sigaction = fault, .sa_flags = SA_SIGINFO | SA_NODEFER };
	uint8_t code[6] = { 0xb8, 1, 0, 0, 0, 0xc3 }; /* mov $1, %eax; ret */
	char *data, *text = pages(PROT_READ | PROT_WRITE);
	int sum = 0;

	for (int n = 0; n < 5; n++)
		sigaction((int[]){ SIGSEGV, SIGILL, SIGFPE, SIGTRAP, SIGBUS }[n], &action, NULL);
	RUN("return", 0xc3);
	RUN("breakpoint", 0xcc);
	RUN("nop, breakpoint", 0x90, 0xcc);
	RUN("invalid", 0x90, 0x0f, 0x0b);
	RUN("halt", 0x90, 0xf4);
	RUN("disable interrupts", 0xfa);
	RUN("control register", 0x0f, 0x22, 0xd8);
	RUN("not canonical", 0x48, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0x80, 0x8a, 0x00);
	RUN("divide", 0x31, 0xc9, 0x31, 0xd2, 0xf7, 0xf1);
	RUN("write to code", 0xc6, 0x05, 0, 0, 0, 0, 0x90);
	RUN("run data", 0x48, 0x8d, 0x44, 0x24, 0xe0, 0xff, 0xe0);
	RUN("read nothing", 0x8a, 0x04, 0x25, 0x34, 0x12, 0, 0);
	RUN("write nothing", 0xc6, 0x04, 0x25, 0x34, 0x12, 0, 0, 1);
	for (int n = 0; n < 200; n++)
		if (!sigsetjmp(back, 1))
			*(volatile char *)(0x2000L + n * 8192L) = 1;
		else
			sum += info.si_addr == (void *)(0x2000L + n * 8192L);
	printf("many faults: %d\n", sum);
	data = pages(PROT_NONE);
	sum = 0;
	for (int n = 0; n < 100; n++) {
		mprotect(data, 4096, n % 2 ? PROT_READ : PROT_READ | PROT_WRITE);
		if (!sigsetjmp(back, 1))
			*(volatile char *)data = 1;
		else
			sum += error;
	}
	printf("protected half of the time: %d\n", sum);

	sum = 0;
	for (int n = 0; n < 50; n++) { /* the program writes code */
		code[1] = n;
		mprotect(text, 4096, PROT_READ | PROT_WRITE);
		memcpy(text, code, sizeof(code));
		mprotect(text, 4096, PROT_READ | PROT_EXEC);
		sum += answer(text);
	}
	printf("code written: %d\n", sum);
	sum = 0;
	for (int n = 0; n < 4; n++) { /* the host writes code: it comes from standard input */
		mprotect(text, 4096, PROT_READ | PROT_WRITE);
		if (read(0, text, sizeof(code)) != sizeof(code))
			return 1;
		mprotect(text, 4096, PROT_READ | PROT_EXEC);
		sum = sum * 10 + answer(text);
	}
	printf("code read: %d\n", sum);
	_mm_setcsr(0x5f80); /* round up */
	printf("rounding is kept: %d\n", getppid() >= 0 && _mm_getcsr() == 0x5f80);
	return 0;
}
