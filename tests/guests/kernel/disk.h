/* A driver for one virtio-mmio disk: polled for nothing, interrupted for everything. */
#ifndef DISK_H
#define DISK_H

#include "interrupt.h"

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
static volatile uint32_t *disk;
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

static void disk_start(uint32_t address)
{
	map(address);
	disk = (volatile uint32_t *)(uintptr_t)address;
	disk[0x70 / 4] = 0;
	disk[0x70 / 4] = 1;
	disk[0x70 / 4] = 3;
	disk[0x24 / 4] = 1;
	disk[0x20 / 4] = 1;		/* VIRTIO_F_VERSION_1 */
	disk[0x70 / 4] = 11;
	disk[0x30 / 4] = 0;
	disk[0x38 / 4] = SLOTS;
	disk[0x80 / 4] = (uintptr_t)descriptors;
	disk[0x90 / 4] = (uintptr_t)&available;
	disk[0xa0 / 4] = (uintptr_t)&used;
	disk[0x44 / 4] = 1;
	disk[0x70 / 4] = 15;
}

/* Begins to read a sector; it is there when the device has interrupted. */
static void disk_read(uint64_t number)
{
	request.sector = number;
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
	available.index++;
	__asm__ volatile("" ::: "memory");
	disk[0x50 / 4] = 0;
}

#endif
