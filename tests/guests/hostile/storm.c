/*
 * A program that means harm to the VMM it runs under.  In a program's VM there is no wall but the
 * VM's own: any program can make hypercalls and write whatever is in memory, page tables and all.
 *
 *     storm KIND SEED COUNT
 *
 * calls: COUNT hypercalls of every kind with arbitrary arguments;
 * places: COUNT loads and stores of 1, 2, 4 and 8 bytes in and around the page of hypercalls;
 * memory: COUNT stores anywhere in RAM but the program, hypercalls in between;
 * tables: COUNT stores into what the VMM has prepared and goes on using, hypercalls in between;
 * instructions: COUNT instructions that no program may use, or of arbitrary bytes;
 * races: COUNT hypercalls whose arguments another thread changes all the time.
 *
 * It says how many it has done, now and then.
 */
#define _GNU_SOURCE
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "../../../src/pyrovm/libos/abi.h"

#define DATA_PAGES 16
#define STEP 20 /* how often it says how far it has come */

static uint64_t state;
static uint64_t ram_size;
static uint8_t *data; /* pages of ours, whose guest-physical addresses we know */
static uint64_t data_gpa[DATA_PAGES];

static uint64_t next(void)
{
	state ^= state << 13;
	state ^= state >> 7;
	state ^= state << 17;
	return state;
}

static uint64_t below(uint64_t n)
{
	return next() % n;
}

static volatile struct pv_boot *boot_information(void)
{
	return (volatile struct pv_boot *)(PV_PHYSMAP + PV_BOOT_GPA);
}

/* Where a page of ours is in guest-physical memory, by the page tables. */
static uint64_t gpa_of(const void *address)
{
	uint64_t va = (uint64_t)address, table = boot_information()->page_table_gpa;
	for (int shift = 39; shift >= 12; shift -= 9) {
		uint64_t entry = ((uint64_t *)(PV_PHYSMAP + table))[va >> shift & 511];
		if (!(entry & 1))
			return 0;
		table = entry & 0x000ffffffffff000;
		if (shift == 21 && entry & 0x80)
			return (table & ~0x1fffffUL) + (va & 0x1fffff);
	}
	return table + (va & 0xfff);
}

static int64_t call(uint64_t number, uint64_t a, uint64_t b, uint64_t c, uint64_t d, uint64_t e,
		    uint64_t f)
{
	int64_t result = 0;
	register uint64_t r10 __asm__("r10") = d;
	register uint64_t r8 __asm__("r8") = e;
	register uint64_t r9 __asm__("r9") = f;
	__asm__ volatile("movq %%rax, (%%rbx)"
			 : "+a"(result)
			 : "b"(PV_CALL_PAGE + 8 * number), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8),
			   "r"(r9)
			 : "memory", "rcx", "r11");
	return result;
}

/* Numbers that are near something. */
static uint64_t edge(void)
{
	static const uint64_t edges[] = {
		0, 1, 2, 3, 4, 7, 8, 15, 16, 24, 64, 65, 127, 128, 255, 256, 257, 4095, 4096, 4097,
		65535, 65536, 0x100000, 0x100001, 0x7fffffff, 0x80000000, 0xffffffff, 0x100000000,
		0x7fffffffffffffff, 0x8000000000000000, 0xffffffffffffffff, PV_LIBOS_GPA,
		PV_IMAGE_GPA, PV_CALL_GPA, PV_PHYSMAP, PV_LIBOS_VA, PV_CALL_PAGE,
	};
	uint64_t n = below(sizeof(edges) / sizeof(edges[0]) + 4);
	switch (n) {
	case 0:
		return next();
	case 1:
		return ram_size - below(64);
	case 2:
		return ram_size + below(64);
	case 3:
		return below(20);
	}
	return edges[n - 4] + (below(8) ? 0 : below(5) - 2);
}

static uint64_t somewhere(void)
{
	switch (below(8)) {
	case 0:
		return edge();
	case 1:
		return below(ram_size);
	case 2:
		return PV_IMAGE_GPA + below(1 << 20);
	default:
		return data_gpa[below(DATA_PAGES)] + (below(4) ? 0 : below(4096));
	}
}

/* Arguments in memory: arms, iovecs, socket and file records, all the same bytes. */
static void fill(void)
{
	uint64_t *words = (uint64_t *)(data + 4096 * below(DATA_PAGES));
	for (int n = 0; n < 32; n++) {
		switch (below(6)) {
		case 0:
			words[n] = edge();
			break;
		case 1:
			words[n] = below(16) | below(16) << 32;
			break;
		case 2:
		case 3:
			words[n] = somewhere();
			break;
		case 4:
			words[n] = below(8192);
			break;
		default:
			words[n] = next();
		}
	}
	if (!below(4))
		memcpy(words + below(16), "../../../etc/passwd", 20);
}

static void one_call(void)
{
	uint64_t number = below(20000) ? below(PV_CALLS) : below(512);
	uint64_t length = edge();
	fill();
	switch (number) {
	case PV_EXIT:
	case PV_PANIC:
		if (below(4000))
			return; /* it would be over too soon */
		break;
	case PV_WAIT: /* not for long: a guest may wait as long as it likes */
		call(number, below(2000) ? below(1000) : edge(), somewhere(),
		     below(8) ? below(8) : edge(), somewhere(), below(8) ? below(256) : edge(), 0);
		return;
	case PV_DISCARD:
		if (below(50)) {
			call(number, data_gpa[below(DATA_PAGES)], below(4) ? 4096 : edge(), 0, 0, 0, 0);
			return;
		}
		break;
	case PV_READ:
	case PV_WRITE: /* seldom to our own standard output */
		call(number, below(8) ? 4 + below(64) : below(100) ? edge() | 4 : edge(), somewhere(), below(8) ? below(5) : edge(),
		     below(2) ? ~0UL : edge(), edge(), edge());
		return;
	case PV_SOCKET:
	case PV_FILE:
		length = below(8) ? (number == PV_SOCKET ? sizeof(struct pv_socket_args)
							 : sizeof(struct pv_file_args))
				  : edge();
		call(number, below(16), below(8) ? below(64) : edge(), somewhere(), length, 0, 0);
		return;
	case PV_INTERRUPT:
		call(number, below(2), below(8) ? below(4) : edge(), 0, 0, 0, 0);
		return;
	}
	call(number, edge(), edge(), edge(), edge(), edge(), edge());
}

static void one_place(void)
{
	uint64_t at = PV_CALL_PAGE + below(4096);
	switch (below(8)) {
	case 0:
		*(volatile uint8_t *)at = next();
		break;
	case 1:
		*(volatile uint16_t *)at = next();
		break;
	case 2:
		*(volatile uint32_t *)at = next();
		break;
	case 3:
		(void)*(volatile uint8_t *)at;
		break;
	case 4:
		(void)*(volatile uint64_t *)at;
		break;
	case 5:
		__asm__ volatile("lock incq (%0)" ::"r"(at & ~7UL) : "memory");
		break;
	case 6:
		__asm__ volatile("movups %%xmm0, (%0)" ::"r"(at & ~15UL) : "memory");
		break;
	default:
		__asm__ volatile("xchgq %%rax, (%0)" ::"r"(at & ~7UL) : "memory", "rax");
	}
}

static void one_store(uint64_t start, uint64_t size)
{
	volatile uint64_t *at = (volatile uint64_t *)(PV_PHYSMAP + start + (below(size) & ~7UL));
	switch (below(5)) {
	case 0:
		*at = edge();
		break;
	case 1:
		*at = somewhere() | below(4096);
		break;
	case 2:
		*at ^= 1UL << below(64);
		break;
	case 3:
		*at = 0;
		break;
	default:
		*at = next();
	}
	if (!below(4))
		one_call();
}

static void one_instruction(void)
{
	static const char *const known[] = {
		"\x0f\x01\xd9",             /* vmmcall */
		"\x0f\x01\xc1",             /* vmcall */
		"\x0f\x01\xd8",             /* vmrun */
		"\xf4",                     /* hlt */
		"\xfa",                     /* cli */
		"\x0f\x30",                 /* wrmsr */
		"\x0f\x32",                 /* rdmsr */
		"\x0f\x22\xd8",             /* mov cr3, rax */
		"\x0f\x20\xe0",             /* mov rax, cr4 */
		"\x0f\x23\xf8",             /* mov dr7, rax */
		"\x0f\x01\x18",             /* lidt [rax] */
		"\x0f\x00\xd8",             /* ltr ax */
		"\x0f\x09",                 /* wbinvd */
		"\xe6\x80",                 /* out 0x80, al */
		"\xec",                     /* in al, dx */
		"\x6c",                     /* insb */
		"\x0f\x05",                 /* syscall */
		"\x0f\x34",                 /* sysenter */
		"\xcd\x80",                 /* int 0x80 */
		"\xcd\x03",                 /* int 3 */
		"\xcd\x0e",                 /* int 14 */
		"\xf1",                     /* icebp */
		"\xcc",                     /* int3 */
		"\x0f\x0b",                 /* ud2 */
		"\x48\xcf",                 /* iretq */
		"\x0f\x01\xf8",             /* swapgs */
		"\xf3\x48\x0f\xae\xd0",     /* wrfsbase rax */
		"\x0f\x01\xd1",             /* xsetbv */
		"\x48\x0f\xc7\x0f",         /* cmpxchg16b [rdi], locked or not */
		"\x0f\xa2",                 /* cpuid */
		"\x0f\x01\xc8",             /* monitor */
		"\x0f\x01\xc9",             /* mwait */
		"\x8e\xd8",                 /* mov ds, ax */
		"\x9d",                     /* popfq */
	};
	static uint8_t *page;
	if (!page)
		page = mmap(NULL, 4096, PROT_READ | PROT_WRITE | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS,
			    -1, 0);
	uint8_t *code = page + below(4000);
	int length = 0;
	if (below(16)) {
		const char *bytes = known[below(sizeof(known) / sizeof(known[0]))];
		length = strlen(bytes);
		memcpy(code, bytes, length ? length : 1);
	} else if (!below(20)) {
		memcpy(code, "\xf3\x48\x0f\xae\xd8", length = 5); /* wrgsbase rax: GS is the library OS's */
	} else {
		for (; length < 12; length++)
			code[length] = next();
	}
	code[length] = 0xc3;
	uint64_t rax = below(2) ? edge() : somewhere(), rcx = below(2) ? edge() : 0xc0000080 + below(8);
	__asm__ volatile("pushfq; push %%rbp; call *%2; pop %%rbp; popfq"
			 : "+a"(rax), "+c"(rcx)
			 : "r"(code), "d"(next()), "D"(data), "S"(data)
			 : "memory", "rbx", "r8", "r9", "r10", "r11", "r12", "r13", "r14", "r15");
}

/* A fault of ours is no end: go on from a place that is known to be good. */
static ucontext_t good;
static volatile uint64_t done;

static void on_fault(int number)
{
	(void)number;
	done++;
	setcontext(&good);
}

static _Atomic int is_over;

static void *change(void *unused)
{
	(void)unused;
	while (!is_over)
		fill();
	return NULL;
}

int main(int argc, char **argv)
{
	if (argc != 4)
		return 2;
	const char *kind = argv[1];
	uint64_t count = strtoul(argv[3], NULL, 10);
	state = strtoul(argv[2], NULL, 10) * 0x9e3779b97f4a7c15 + 1;
	ram_size = boot_information()->ram_size;
	data = mmap(NULL, DATA_PAGES * 4096, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
	for (int n = 0; n < DATA_PAGES; n++) {
		data[n * 4096] = 1;
		data_gpa[n] = gpa_of(data + n * 4096);
	}
	printf("storm %s %s\n", kind, argv[2]);
	fflush(stdout);
	struct sigaction action = { .sa_handler = on_fault, .sa_flags = SA_ONSTACK | SA_NODEFER };
	stack_t stack = { .ss_sp = malloc(65536), .ss_size = 65536 };
	sigaltstack(&stack, NULL);
	static const int faults[] = { SIGSEGV, SIGILL, SIGBUS, SIGFPE, SIGTRAP };
	for (unsigned n = 0; n < sizeof(faults) / sizeof(faults[0]); n++)
		sigaction(faults[n], &action, NULL);
	pthread_t other;
	int is_race = !strcmp(kind, "races");
	if (is_race)
		pthread_create(&other, NULL, change, NULL);
	getcontext(&good);
	while (done < count) {
		if (++done % STEP == 0) {
			printf("%lu\n", done);
			fflush(stdout);
		}
		if (!strcmp(kind, "calls") || is_race)
			one_call();
		else if (!strcmp(kind, "places"))
			one_place();
		else if (!strcmp(kind, "memory"))
			one_store(0x100000, ram_size - 0x100000);
		else if (!strcmp(kind, "tables"))
			one_store(0, 0x100000);
		else if (!strcmp(kind, "instructions"))
			one_instruction();
		else
			return 2;
	}
	is_over = 1;
	_exit(0);
}
