/* A program of many megabytes, whose code and constants may be mapped in huge pages: what is then
 * asked of single pages of them. */
#define _GNU_SOURCE
#include <setjmp.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>

#define PAGE 4096UL
#define PAGES 2048 /* of constants: each begins with its number */
#define FUNCTIONS 640 /* a page each: returns its number */

extern const unsigned char constants[];
extern unsigned char functions[];

__asm__(".pushsection .rodata\n"
	".balign 4096\n"
	"constants:\n"
	".set n, 0\n"
	".rept 2048\n"
	".quad n\n"
	".fill 4088, 1, 0x5a\n"
	".set n, n + 1\n"
	".endr\n"
	".popsection\n"
	".pushsection .text\n"
	".balign 4096\n"
	"functions:\n"
	".set n, 0\n"
	".rept 640\n"
	"mov $n, %eax\n"
	"ret\n"
	".balign 4096\n"
	".set n, n + 1\n"
	".endr\n"
	".popsection\n");

static sigjmp_buf back;
static void *volatile fault_address;
static volatile int fault_code;

static void on_fault(int number, siginfo_t *info, void *context)
{
	fault_address = info->si_addr;
	fault_code = info->si_code;
	siglongjmp(back, 1);
}

static volatile unsigned long *page(unsigned n)
{
	return (volatile unsigned long *)(constants + n * PAGE);
}

static unsigned wrong_from(unsigned first, unsigned end)
{
	unsigned wrong = 0;

	for (unsigned n = first; n < end; n++)
		wrong += page(n)[0] != n || page(n)[511] != 0x5a5a5a5a5a5a5a5aUL;
	return wrong;
}

static int call(unsigned n)
{
	return ((int (*)(void))(functions + n * PAGE))();
}

static unsigned wrong_functions(unsigned first, unsigned end)
{
	unsigned wrong = 0;

	for (unsigned n = first; n < end; n++)
		wrong += call(n) != (int)n;
	return wrong;
}

static void tell_fault(const char *what, const void *expected)
{
	printf("%s: %s, code %d\n", what, fault_address == expected ? "there" : "elsewhere", fault_code);
}

static void try_write(unsigned n)
{
	if (!sigsetjmp(back, 1)) {
		page(n)[0] = 1;
		puts("written");
	} else {
		tell_fault("write", constants + n * PAGE);
	}
}

static void try_read(unsigned n)
{
	if (!sigsetjmp(back, 1))
		printf("read %lu\n", page(n)[0]);
	else
		tell_fault("read", constants + n * PAGE);
}

static void try_call(unsigned n)
{
	if (!sigsetjmp(back, 1))
		printf("called %d\n", call(n));
	else
		tell_fault("call", functions + n * PAGE);
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned char *whole = (unsigned char *)constants, *moved;
	unsigned aligned = (-(unsigned long)constants & (512 * PAGE - 1)) / PAGE; /* 2 MiB from there */

	sigaction(SIGSEGV, &action, NULL);
	printf("wrong: %u %u\n", wrong_from(0, PAGES), wrong_functions(0, FUNCTIONS));
	try_write(0);
	try_write(1000);

	printf("some: %d\n", mprotect(whole + 700 * PAGE, 4 * PAGE, PROT_READ | PROT_WRITE));
	page(701)[0] = 7;
	try_write(699);
	try_write(704);
	printf("wrong: %u, %lu, %u\n", wrong_from(0, 701), page(701)[0], wrong_from(702, PAGES));
	printf("dropped: %d", madvise(whole + 700 * PAGE, 4 * PAGE, MADV_DONTNEED));
	printf(" wrong: %u\n", wrong_from(0, PAGES));

	printf("all of one: %d\n", mprotect(whole + aligned * PAGE, 512 * PAGE, PROT_READ | PROT_WRITE));
	page(aligned)[1] = page(aligned + 511)[1] = 8;
	printf("wrong: %u\n", wrong_from(0, PAGES));
	printf("back: %d\n", mprotect(whole + aligned * PAGE, 512 * PAGE, PROT_READ));
	try_write(aligned + 5);
	printf("wrong: %u, %lu\n", wrong_from(0, PAGES), page(aligned)[1] + page(aligned + 511)[1]);

	printf("none: %d\n", mprotect(functions + 300 * PAGE, PAGE, PROT_READ));
	try_call(299);
	try_call(300);
	try_call(301);
	printf("again: %d\n", mprotect(functions + 300 * PAGE, PAGE, PROT_READ | PROT_EXEC));
	printf("wrong: %u\n", wrong_functions(0, FUNCTIONS));

	printf("gone: %d\n", munmap(whole + 1200 * PAGE, 10 * PAGE));
	try_read(1199);
	try_read(1200);
	try_read(1210);

	moved = mremap(whole + 1280 * PAGE, 700 * PAGE, 700 * PAGE, MREMAP_MAYMOVE | MREMAP_FIXED,
		       mmap(NULL, 700 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0));
	for (unsigned n = 0; n < 700; n++)
		if (*(unsigned long *)(moved + n * PAGE) != 1280 + n)
			printf("page %u is wrong\n", n);
	try_read(1279);
	try_read(1280);
	try_read(1980);
	printf("wrong: %u %u\n", wrong_from(0, 1200) + wrong_from(1210, 1280) + wrong_from(1980, PAGES),
	       wrong_functions(0, FUNCTIONS));
	return 0;
}
