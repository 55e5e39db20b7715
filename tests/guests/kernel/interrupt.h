/* One interrupt line of the 8259 pair, remapped to vectors 32 and 40; the local APIC is left alone. */
#ifndef INTERRUPT_H
#define INTERRUPT_H

#include "kernel.h"

static struct { uint64_t low, high; } idt[48];
static uint64_t gdt[3] = { 0, 0x00af9b000000ffff, 0x00cf93000000ffff };
static volatile uint32_t interrupts;

__attribute__((naked, used)) static void handler(void)
{
	__asm__ volatile("push %%rax\n\tlock incl %0\n\tmov $0x20, %%al\n\tout %%al, $0xa0\n\t"
			 "out %%al, $0x20\n\tpop %%rax\n\tiretq" : "+m"(interrupts));
}

static void enable_interrupt(int line)
{
	struct { uint16_t limit; void *base; } __attribute__((packed)) table = { sizeof idt - 1, idt };
	struct { uint16_t limit; void *base; } __attribute__((packed)) gdtr = { sizeof gdt - 1, gdt };
	uint16_t mask = ~(1 << line | 1 << 2);
	uint64_t at;

	__asm__ volatile("lea handler(%%rip), %0" : "=r"(at));
	idt[32 + line].low = (at & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (at >> 16 & 0xffff) << 48;
	idt[32 + line].high = at >> 32;
	__asm__ volatile("lgdt %0\n\tlidt %1" :: "m"(gdtr), "m"(table));
	out8(0x20, 0x11);
	out8(0xa0, 0x11);
	out8(0x21, 32);
	out8(0xa1, 40);
	out8(0x21, 4);
	out8(0xa1, 2);
	out8(0x21, 1);
	out8(0xa1, 1);
	out8(0x21, mask);
	out8(0xa1, mask >> 8);
}

static void wait_for_interrupt(void)
{
	while (!interrupts)
		__asm__ volatile("sti; hlt; cli");
}

#endif
