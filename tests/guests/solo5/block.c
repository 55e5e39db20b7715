/* Reads and writes sectors, at the end of the disk and past it. */
#define MANIFEST_ENTRIES 2
#define MANIFEST_DEVICES { .name = "disk", .type = 1 }
#include "guest.h"

static char sector[512], big[4096];

int guest(const struct boot_info *info)
{
	const struct device *disk = &info->manifest->e[1];
	uint64_t end = disk->block.capacity;

	say_number("attached ", disk->attached);
	say_number("capacity ", end);
	say_number("block size ", disk->block.block_size);
	say_number("read ", transfer(BLOCK_READ, 1, 512, sector, 512));
	sector[16] = 0;
	say(sector);
	sector[0] = 'J';
	say_number("write ", transfer(BLOCK_WRITE, 1, end - 512, sector, 512));
	say_number("many ", transfer(BLOCK_READ, 1, 0, big, sizeof big));
	say_number("past the end ", transfer(BLOCK_READ, 1, end, sector, 512));
	say_number("over the end ", transfer(BLOCK_WRITE, 1, end - 512, big, 1024));
	say_number("overflow ", transfer(BLOCK_READ, 1, 512, sector, ~0ull));
	say_number("no handle ", transfer(BLOCK_READ, 2, 0, sector, 512));
	say_number("reserved handle ", transfer(BLOCK_READ, 0, 0, sector, 512));
	return 0;
}
