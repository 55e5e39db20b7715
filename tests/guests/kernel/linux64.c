/* Enters by the 64-bit Linux protocol and says what it finds, as Unikraft and OSv look at it. */
#include "interrupt.h"
#include "kernel.h"

struct e820 { uint64_t addr, size; uint32_t type; } __attribute__((packed));

static uint32_t at32(const uint8_t *base, int offset)
{
	return *(const uint32_t *)(base + offset);
}

static void cpuid(uint32_t leaf, uint32_t *a, uint32_t *b, uint32_t *c, uint32_t *d)
{
	__asm__ volatile("cpuid" : "=a"(*a), "=b"(*b), "=c"(*c), "=d"(*d) : "a"(leaf), "c"(0));
}

static void say_memory(const uint8_t *params)
{
	const struct e820 *table = (const void *)(params + 0x2d0);
	int8_t count = params[0x1e8];	/* signed, as Unikraft reads it */
	uint64_t used = 0;

	for (int8_t i = 0; i < count; i++) {
		say_number("e820", table[i].addr);
		say_number("size", table[i].size);
		say_number("type", table[i].type);
	}
	for (uint64_t at = 0x1000; at < 0x3000; at += 8)
		used += *(const volatile uint64_t *)at != 0;
	say_number("low", used);
}

static void say_cpu(void)
{
	uint32_t a, b, c, d;

	cpuid(0x40000000, &a, &b, &c, &d);
	say_number("leaves", a);
	say_number("kvm", b == 0x4b4d564b && c == 0x564b4d56 && d == 0x4d);
	cpuid(0x40000001, &a, &b, &c, &d);
	say_number("kvmclock", !!(a & (1 << 0 | 1 << 3)));
	cpuid(0x40000010, &a, &b, &c, &d);
	say_number("khz", a);
	cpuid(1, &a, &b, &c, &d);
	say_number("apic", b >> 24);
	say_number("rdrand", c >> 30 & 1);
	cpuid(7, &a, &b, &c, &d);
	say_number("rdseed", b >> 18 & 1);
	say_number("fsgsbase", b & 1);
}

/* Sleeps until the timer's interrupt, by the 8259 alone and a local APIC left as it was. */
static void say_interrupt(void)
{
	enable_interrupt(0);
	out8(0x43, 0x30);	/* channel 0, mode 0: once */
	out8(0x40, 0xff);
	out8(0x40, 0x0f);
	wait_for_interrupt();
	say_number("ticks", interrupts);
}

__attribute__((used)) static void kernel(const uint8_t *params)
{
	const char *cmdline = (const char *)((uint64_t)at32(params, 0xc8) << 32 | at32(params, 0x228));
	size_t length = 0;

	while (cmdline[length])
		length++;
	say_number("magic", at32(params, 0x202) == 0x53726448 && *(const uint16_t *)(params + 0x1fe) == 0xaa55);
	say_number("params", (uintptr_t)params);
	say_number("length", at32(params, 0x238));
	say_number("strlen", length);
	say("cmdline [");
	say(cmdline);
	say("]\n");
	say_number("initrd", at32(params, 0x21c));
	if (at32(params, 0x21c))
		say_number("first", *(const uint8_t *)(uintptr_t)at32(params, 0x218));
	say_number("rsdp", *(const uint64_t *)(params + 0x70));
	say_number("tables", *(const volatile uint64_t *)0xe0000 != 0);
	say_memory(params);
	say_pc();
	if (has(cmdline, "cpu"))
		say_cpu();
	if (has(cmdline, "interrupt"))
		say_interrupt();
	leave(cmdline);
}

__attribute__((naked, section(".text.start"))) void _start(void)
{
	/* A stack must be there already: OSv pushes a far return at once. */
	__asm__ volatile("push %rsi\n\tpop %rdi\n\tcall kernel");
}
