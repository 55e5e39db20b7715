/* What the tiny kernels share: ports, a polled console, numbers in decimal. */
#ifndef KERNEL_H
#define KERNEL_H

#include <stddef.h>
#include <stdint.h>

static inline void out8(uint16_t port, uint8_t value)
{
	__asm__ volatile("outb %0, %1" :: "a"(value), "d"(port));
}

static inline void out16(uint16_t port, uint16_t value)
{
	__asm__ volatile("outw %0, %1" :: "a"(value), "d"(port));
}

static inline uint8_t in8(uint16_t port)
{
	uint8_t value;

	__asm__ volatile("inb %1, %0" : "=a"(value) : "d"(port));
	return value;
}

static inline uint32_t in32(uint16_t port)
{
	uint32_t value;

	__asm__ volatile("inl %1, %0" : "=a"(value) : "d"(port));
	return value;
}

static void say(const char *text)
{
	for (; *text; text++) {
		while (!(in8(0x3fd) & 0x20))
			;
		out8(0x3f8, *text);
	}
}

static void say_number(const char *what, uintptr_t value)
{
	char digits[24], *at = digits + sizeof digits;

	*--at = 0;
	*--at = '\n';
	do
		*--at = '0' + value % 10;
	while (value /= 10);
	say(what);
	say(" ");
	say(at);
}

static int has(const char *text, const char *word)
{
	for (; *text; text++) {
		size_t i = 0;

		while (word[i] && text[i] == word[i])
			i++;
		if (!word[i])
			return 1;
	}
	return 0;
}

static inline uint8_t cmos(uint8_t reg)
{
	out8(0x70, reg);
	return in8(0x71);
}

static inline uint8_t binary(uint8_t bcd)
{
	return (bcd >> 4) * 10 + (bcd & 15);
}

/* What kernels find on a PC without asking whether it is there. */
static void say_pc(void)
{
	while (cmos(0x0a) & 0x80)
		;
	say_number("year", binary(cmos(0x32)) * 100 + binary(cmos(9)));
	say_number("month", binary(cmos(8)));
	say_number("hour", binary(cmos(4)));
	__asm__ volatile("outl %0, %1" :: "a"(0x80000000), "d"((uint16_t)0xcf8));
	say_number("pci", in32(0xcfc) == 0xffffffff);
}

/* Ends as the command line says. */
static __attribute__((noreturn)) void leave(const char *cmdline)
{
	if (has(cmdline, "end=acpi"))
		out16(0x604, 0x2000);
	else if (has(cmdline, "end=debug"))
		out8(0x501, 41);
	else if (has(cmdline, "end=crash"))
		out8(0x501, 42);
	else
		out8(0x64, 0xfe);
	for (;;)
		__asm__ volatile("cli; hlt");
}

#endif
