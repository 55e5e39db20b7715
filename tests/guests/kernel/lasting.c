/* Lives for long and answers questions from the console, to be saved and restored meanwhile.
 *
 * t  how many ticks of the PIT there were         d  the next sector of the disk
 * w  write the next value into the next page      s  the sum of all pages written
 * q  end
 */
#include "disk.h"
#include "kernel.h"

#define PAGES 4096
#define AREA ((volatile uint64_t *)0x800000)

static volatile uint32_t ticks, answers;

__attribute__((naked, used)) static void tick(void)
{
	__asm__ volatile("push %%rax\n\tlock incl %0\n\tmov $0x20, %%al\n\tout %%al, $0x20\n\t"
			 "pop %%rax\n\tiretq" : "+m"(ticks));
}

static void start_ticking(void)
{
	uint64_t at;

	__asm__ volatile("lea tick(%%rip), %0" : "=r"(at));
	idt[32].low = (at & 0xffff) | 8 << 16 | 0x8e00ull << 32 | (at >> 16 & 0xffff) << 48;
	idt[32].high = at >> 32;
	out8(0x43, 0x34);	/* channel 0, mode 2: again and again, 50 times a second */
	out8(0x40, 23864 & 0xff);
	out8(0x40, 23864 >> 8);
	out8(0x21, in8(0x21) & ~1);
}

static void answer(char question)
{
	static uint64_t page, next;
	uint64_t sum = 0;

	switch (question) {
	case 't':
		say_number("ticks", ticks);
		break;
	case 'w':
		AREA[page * 512] = page + 1;
		page = (page + 1) % PAGES;
		say_number("page", page);
		break;
	case 's':
		for (uint64_t i = 0; i < PAGES; i++)
			sum += AREA[i * 512];
		say_number("sum", sum);
		break;
	case 'd':
		disk_read(next++);
		while (used.index != available.index)	/* not every interrupt is for it */
			__asm__ volatile("sti; hlt; cli");
		disk[0x64 / 4] = disk[0x60 / 4];
		sector[16] = 0;
		say(sector);
		say("\n");
	}
}

__attribute__((used)) static void kernel(const uint8_t *params)
{
	const char *cmdline = (const char *)(uintptr_t)*(const uint32_t *)(params + 0x228);
	int line = 0;
	uint32_t address = find(cmdline, &line);
	char question = 0;

	enable_interrupt(line);
	if (address)
		disk_start(address);
	start_ticking();
	out8(0x3f9, 1);		/* the UART interrupts, though nobody listens: it is state */
	say("ready\n");
	while (question != 'q') {
		__asm__ volatile("sti; hlt; cli");
		while (in8(0x3fd) & 1) {
			question = in8(0x3f8);
			answer(question);
		}
	}
	leave(cmdline);
}

__attribute__((naked, section(".text.start"))) void _start(void)
{
	__asm__ volatile("push %rsi\n\tpop %rdi\n\tcall kernel");
}
