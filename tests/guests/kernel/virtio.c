/* Finds its disk in the command line, reads a sector, and sleeps until the interrupt. */
#include "interrupt.h"
#include "kernel.h"

#define WORD "virtio_mmio.device=4K@0x"
#define SLOTS 8

static struct { uint64_t addr; uint32_t len; uint16_t flags, next; } descriptors[SLOTS]
	__attribute__((aligned(4096)));
static volatile struct { uint16_t flags, index, ring[SLOTS]; } available __attribute__((aligned(4096)));
static volatile struct {
	uint16_t flags, index;
	struct { uint32_t id, len; } ring[SLOTS];
} used __attribute__((aligned(4096)));
static struct { uint32_t type, reserved; uint64_t sector; } request;
static char sector[512];
static volatile uint8_t status = 255;
static uint64_t page_table[512] __attribute__((aligned(4096)));

static uint32_t find(const char *cmdline, int *line)
{
	uint32_t address = 0;

	for (size_t at = 0; cmdline[at]; at++) {
		size_t i = 0;

		while (WORD[i] && cmdline[at + i] == WORD[i])
			i++;
		if (WORD[i])
			continue;
		for (at += i; cmdline[at] != ':'; at++)
			address = address * 16 + (cmdline[at] <= '9' ? cmdline[at] - '0' : cmdline[at] - 'a' + 10);
		for (*line = 0, at++; cmdline[at] >= '0' && cmdline[at] <= '9'; at++)
			*line = *line * 10 + cmdline[at] - '0';
		return address;
	}
	return 0;
}

/* The tables that a kernel is given map the first GiB; its devices lie higher. */
static void map(uint32_t address)
{
	uint64_t *root, *directory;

	__asm__ volatile("mov %%cr3, %0" : "=r"(root));
	directory = (uint64_t *)(root[0] & ~0xfffull);
	page_table[address >> 21 & 511] = (address & ~0x1fffffull) | 0x83;
	directory[address >> 30] = (uintptr_t)page_table | 3;
	__asm__ volatile("mov %0, %%cr3" :: "r"(root) : "memory");
}

__attribute__((used)) static void kernel(const uint8_t *params)
{
	const char *cmdline = (const char *)(uintptr_t)*(const uint32_t *)(params + 0x228);
	int line = 0;
	uint32_t address = find(cmdline, &line);
	volatile uint32_t *device = (volatile uint32_t *)(uintptr_t)address;

	say_number("address", address);
	say_number("line", line);
	map(address);
	say_number("version", device[1]);
	device[0x70 / 4] = 0;
	device[0x70 / 4] = 1;
	device[0x70 / 4] = 3;
	device[0x24 / 4] = 1;
	device[0x20 / 4] = 1;		/* VIRTIO_F_VERSION_1 */
	device[0x70 / 4] = 11;
	device[0x30 / 4] = 0;
	device[0x38 / 4] = SLOTS;
	device[0x80 / 4] = (uintptr_t)descriptors;
	device[0x90 / 4] = (uintptr_t)&available;
	device[0xa0 / 4] = (uintptr_t)&used;
	device[0x44 / 4] = 1;
	device[0x70 / 4] = 15;
	enable_interrupt(line);
	request.sector = 3;
	descriptors[0].addr = (uintptr_t)&request;
	descriptors[0].len = sizeof request;
	descriptors[0].flags = 1;
	descriptors[0].next = 1;
	descriptors[1].addr = (uintptr_t)sector;
	descriptors[1].len = sizeof sector;
	descriptors[1].flags = 3;
	descriptors[1].next = 2;
	descriptors[2].addr = (uintptr_t)&status;
	descriptors[2].len = 1;
	descriptors[2].flags = 2;
	available.index = 1;
	__asm__ volatile("" ::: "memory");
	device[0x50 / 4] = 0;
	wait_for_interrupt();
	say_number("reason", device[0x60 / 4]);
	device[0x64 / 4] = 1;
	say_number("used", used.index);
	say_number("result", status);
	sector[16] = 0;
	say(sector);
	say("\n");
	leave(cmdline);
}

__attribute__((naked, section(".text.start"))) void _start(void)
{
	__asm__ volatile("push %rsi\n\tpop %rdi\n\tcall kernel");
}
