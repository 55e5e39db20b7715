/* A unikernel of Solo5's hvt ABI 2 that needs no device: it writes one line and halts. */
#include <stdint.h>

struct device {
	char name[68];
	uint32_t type;
	uint8_t properties[32];
} __attribute__((aligned(8)));

/* elf/abi.h and mft_abi.h: target 1 is hvt; the manifest's first entry is reserved. */
const struct {
	uint32_t namesz, descsz, type;
	char name[8];
	uint32_t target, version, reserved[2];
} abi __attribute__((used, aligned(4), section(".note.solo5.abi"))) = {
	6, 16, 0x31494241, "Solo5", 1, 2, { 0, 0 }
};

const struct {
	uint32_t namesz, descsz, type;
	char name[8];
	uint32_t padding, version, entries;
	struct device first[1];
} __attribute__((packed)) manifest
__attribute__((used, aligned(8), section(".note.solo5.manifest"))) = {
	6, 12 + sizeof(struct device), 0x3154464d, "Solo5", 0, 1, 1, { { .type = 1 << 30 } }
};

/* hvt_abi.h: a hypercall is a write of its arguments' address to port 0x500 and its number. */
enum { PUTS = 2, HALT = 8 };

static void hypercall(int number, volatile void *arguments)
{
	__asm__ volatile("outl %0, %w1" :: "a"((uint32_t)(uintptr_t)arguments),
			 "d"((uint16_t)(0x500 + number)) : "memory");
}

__attribute__((noreturn, used)) void _start(void)
{
	static char cookie[512];
	struct { const char *data; uint64_t len; } puts = { "hello\n", 6 };
	struct { void *cookie; int32_t status; } halt = { cookie, 0 };

	hypercall(PUTS, &puts);
	for (;;)
		hypercall(HALT, &halt);
}
