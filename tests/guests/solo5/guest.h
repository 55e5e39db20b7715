/* The guest's side of Solo5's hvt ABI 2, as far as the test guests need it. */
#ifndef GUEST_H
#define GUEST_H

#include <stddef.h>
#include <stdint.h>

struct device {
	char name[68];
	uint32_t type;		/* 1 block, 2 network */
	union {
		struct { uint64_t capacity; uint16_t block_size; } block;
		struct { uint8_t mac[6]; uint16_t mtu; } net;
	};
	uint64_t host;
	uint8_t attached;
} __attribute__((aligned(8)));

struct boot_info {
	uint64_t mem_size, kernel_end, tsc_hz;
	const char *cmdline;
	const struct { uint32_t version, entries; struct device e[64]; } *manifest;
	uint32_t host_features, guest_features;
	uint64_t ring;
};

enum { WALLTIME = 1, PUTS, POLL, BLOCK_WRITE, BLOCK_READ, NET_WRITE, NET_READ, HALT };

struct puts { const char *data; uint64_t len; };
struct poll { uint64_t timeout_ns, ready; int32_t ret; };
struct block { uint64_t handle, offset; void *data; uint64_t len; int32_t ret; };
struct net { uint64_t handle; void *data; uint64_t len; int32_t ret; };
struct halt { void *cookie; int32_t status; };

#define NOTE __attribute__((used, aligned(4)))
#define ABI_NOTE(target, version)						\
	const struct { uint32_t namesz, descsz, type; char name[8]; uint32_t abi[4]; } abi_note \
	__attribute__((used, aligned(4), section(".note.solo5.abi"))) =		\
	{ 6, 16, 0x31494241, "Solo5", { target, version, 0, 0 } }

#ifndef MANIFEST_ENTRIES
#define MANIFEST_ENTRIES 1
#endif
#ifndef MANIFEST_DEVICES
#define MANIFEST_DEVICES
#endif

ABI_NOTE(1, 2);
const struct {
	uint32_t namesz, descsz, type;
	char name[8];
	uint32_t padding, version, entries;
	struct device e[MANIFEST_ENTRIES];
} __attribute__((packed)) manifest_note
__attribute__((used, aligned(8), section(".note.solo5.manifest"))) = {
	6, 12 + sizeof(struct device) * MANIFEST_ENTRIES, 0x3154464d, "Solo5", 0,
	1, MANIFEST_ENTRIES, { { .type = 1 << 30 }, MANIFEST_DEVICES }
};

static inline void hypercall(int number, volatile void *block)
{
	__asm__ volatile("outl %0, %w1" :: "a"((uint32_t)(uintptr_t)block),
			 "d"((uint16_t)(0x500 + number)) : "memory");
}

static inline void say(const char *text)
{
	struct puts p = { text, 0 };

	while (text[p.len])
		p.len++;
	hypercall(PUTS, &p);
}

static inline void say_number(const char *what, uint64_t value)
{
	char digits[24], *at = digits + sizeof digits;

	*--at = 0;
	*--at = '\n';
	do
		*--at = '0' + value % 10;
	while (value /= 10);
	say(what);
	say(at);
}

static inline __attribute__((noreturn)) void halt(int status)
{
	static char cookie[512];
	struct halt h = { cookie, status };

	hypercall(HALT, &h);
	for (;;)
		;
}

static inline int32_t transfer(int number, uint64_t handle, uint64_t offset, void *data, uint64_t len)
{
	struct block b = { handle, offset, data, len, -1 };

	hypercall(number, &b);
	return b.ret;
}

static inline int32_t frame(int number, uint64_t handle, void *data, uint64_t *len)
{
	struct net n = { handle, data, *len, -1 };

	hypercall(number, &n);
	*len = n.len;
	return n.ret;
}

static inline uint64_t rdtsc(void)
{
	uint32_t low, high;

	__asm__ volatile("rdtsc" : "=a"(low), "=d"(high));
	return (uint64_t)high << 32 | low;
}

int guest(const struct boot_info *info);

/* Entered by a jump with RDI = the boot information and RSP + 8 aligned, as if called. */
__attribute__((noreturn, used)) void _start(const struct boot_info *info)
{
	halt(guest(info));
}

#endif
