/* Finds its disk in the command line, reads a sector, and sleeps until the interrupt. */
#include "disk.h"
#include "kernel.h"

__attribute__((used)) static void kernel(const uint8_t *params)
{
	const char *cmdline = (const char *)(uintptr_t)*(const uint32_t *)(params + 0x228);
	int line = 0;
	uint32_t address = find(cmdline, &line);

	say_number("address", address);
	say_number("line", line);
	disk_start(address);
	say_number("version", disk[1]);
	enable_interrupt(line);
	disk_read(3);
	wait_for_interrupt();
	say_number("reason", disk[0x60 / 4]);
	disk[0x64 / 4] = 1;
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
