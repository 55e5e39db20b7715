/* Breaks one rule, which its argument names; says "still here" where that was not its end. */
#define MANIFEST_ENTRIES 3
#define MANIFEST_DEVICES { .name = "disk", .type = 1 }, { .name = "net0", .type = 2 }
#include "guest.h"

static char buffer[512];
static int variable = 1;
const int constant = 1;

static volatile uintptr_t null;

static void out(uint16_t port, uint32_t value)
{
	__asm__ volatile("outl %0, %w1" :: "a"(value), "d"(port) : "memory");
}

static int is(const char *argument, const char *name)
{
	while (*name && *argument == *name)
		argument++, name++;
	return *argument == *name;
}

int guest(const struct boot_info *info)
{
	const char *what = info->cmdline;
	struct puts p = { buffer, 8 };
	struct halt h = { 0, 0 };

	if (is(what, "null"))
		*(volatile int *)(null + 0x10) = 1;
	else if (is(what, "text"))
		*(volatile char *)(uintptr_t)&guest = 0x90;
	else if (is(what, "rodata"))
		*(volatile int *)(null + (uintptr_t)&constant) = 2;
	else if (is(what, "data"))
		variable = 2;
	else if (is(what, "bootinfo"))
		*(volatile char *)info = 1;
	else if (is(what, "beyond"))
		*(volatile int *)(info->mem_size + (64 << 20)) = 1;
	else if (is(what, "block-beyond"))
		out(0x502, info->mem_size - 8);
	else if (is(what, "block-high"))
		out(0x502, 0xfffffff8);
	else if (is(what, "answer-in-text"))
		out(0x501, 0x100000);
	else if (is(what, "answer-in-tables"))
		out(0x501, 0x2000);
	else if (is(what, "read-into-text"))
		transfer(BLOCK_READ, 1, 0, (void *)0x100000, 512);
	else if (is(what, "pointer")) {
		p.data = (char *)info->mem_size - 4;
		hypercall(PUTS, &p);
	} else if (is(what, "length")) {
		p.len = ~0ull;
		hypercall(PUTS, &p);
	} else if (is(what, "net-pointer")) {
		uint64_t len = 64;
		frame(NET_WRITE, 2, (void *)(1ull << 63), &len);
	} else if (is(what, "cookie")) {
		h.cookie = (char *)info->mem_size - 511;
		hypercall(HALT, &h);
	} else if (is(what, "number"))
		out(0x509, (uintptr_t)&p);
	else if (is(what, "zero"))
		out(0x500, (uintptr_t)&p);
	else if (is(what, "port"))
		out(0x3f8, 'x');
	else if (is(what, "width"))
		__asm__ volatile("outb %b0, %w1" :: "a"(1), "d"((uint16_t)0x502));
	else if (is(what, "in"))
		__asm__ volatile("inl %w0, %%eax" :: "d"((uint16_t)0x502) : "eax");
	else if (is(what, "halt"))
		__asm__ volatile("hlt");
	else if (is(what, "abort"))
		halt(255);
	say("still here\n");
	return 0;
}
