/* Checks what a guest may rely on at its entry: registers, alignment, zeroed memory, mappings. */
#include "guest.h"

static char bss[8192];

static uint64_t control(int number)
{
	uint64_t value;

	if (number == 0)
		__asm__ volatile("mov %%cr0, %0" : "=r"(value));
	else if (number == 3)
		__asm__ volatile("mov %%cr3, %0" : "=r"(value));
	else
		__asm__ volatile("mov %%cr4, %0" : "=r"(value));
	return value;
}

static uint64_t flags(void)
{
	uint64_t value;

	__asm__ volatile("pushf\n\tpop %0" : "=r"(value));
	return value;
}

static uint16_t code_segment(void)
{
	uint16_t value;

	__asm__ volatile("mov %%cs, %0" : "=r"(value));
	return value;
}

int guest(const struct boot_info *info)
{
	uint64_t sum = 0;

	for (size_t i = 0; i < sizeof bss; i += 64)
		sum += bss[i];
	say_number("bss ", sum);
	say_number("cr0 ", control(0));
	say_number("cr3 ", control(3));
	say_number("cr4 ", control(4));
	say_number("interrupts ", flags() >> 9 & 1);
	say_number("cs ", code_segment());
	say_number("info ", (uint64_t)info);
	say_number("last ", *(volatile uint8_t *)(info->mem_size - 1));
	return 0;
}
