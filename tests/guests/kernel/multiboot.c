/* Enters by multiboot 1, in 32-bit protected mode, and says what it finds. */
#include "kernel.h"

struct module { uint32_t start, end, string, reserved; };
struct region { uint32_t size; uint64_t addr, len; uint32_t type; } __attribute__((packed));

struct info {
	uint32_t flags, mem_lower, mem_upper, boot_device, cmdline, mods_count, mods_addr, syms[4];
	uint32_t mmap_length, mmap_addr, drives_length, drives_addr, config_table, loader_name;
};

#define MAGIC 0x1badb002
#define FLAGS 3			/* modules on pages, memory information */

__attribute__((section(".multiboot"), used, aligned(4))) static const uint32_t header[3] = {
	MAGIC, FLAGS, -(MAGIC + FLAGS)
};

__attribute__((used)) static void kernel(uint32_t magic, const struct info *info)
{
	const char *cmdline = (const char *)info->cmdline;
	uint32_t cr0, flags;

	__asm__ volatile("mov %%cr0, %0" : "=r"(cr0));
	__asm__ volatile("pushf\n\tpop %0" : "=r"(flags));
	say_number("magic", magic == 0x2badb002);
	say_number("paging", cr0 >> 31);
	say_number("protected", cr0 & 1);
	say_number("interrupts", flags >> 9 & 1);
	say_number("flags", info->flags);
	say_number("lower", info->mem_lower);
	say_number("upper", info->mem_upper);
	say("cmdline [");
	say(cmdline);
	say("]\nloader [");
	say((const char *)info->loader_name);
	say("]\n");
	say_number("modules", info->mods_count);
	if (info->flags & 8) {
		const struct module *module = (const void *)info->mods_addr;

		say_number("size", module->end - module->start);
		say_number("aligned", !(module->start & 0xfff));
		say_number("first", *(const uint8_t *)module->start);
	}
	for (uint32_t at = 0; at < info->mmap_length;) {
		const struct region *region = (const void *)(info->mmap_addr + at);

		say_number("region", region->addr);
		say_number("length", region->len);
		say_number("type", region->type);
		at += region->size + 4;
	}
	if (has(cmdline, " virtio_mmio.device=4K@0xc0001000:5 ")) {
		const volatile uint32_t *device = (const void *)0xc0001000;

		say_number("virtio", device[0] == 0x74726976);
		say_number("version", device[1]);
		say_number("device", device[2]);
	}
	say_number("lint0", *(const volatile uint32_t *)0xfee00350);
	say_pc();
	leave(cmdline);
}

static char stack[4096] __attribute__((used, aligned(16)));

__attribute__((naked, section(".text.start"))) void _start(void)
{
	__asm__ volatile("mov $stack + 4096, %esp\n\tpush %ebx\n\tpush %eax\n\tcall kernel");
}
