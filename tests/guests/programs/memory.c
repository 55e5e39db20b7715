/* Memory: large reservations, protection, growth in place and by moving, giving back. */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define MIB (1UL << 20)

static int all(const char *p, size_t n, char value)
{
	for (size_t i = 0; i < n; i++)
		if (p[i] != value)
			return 0;
	return 1;
}

int main(void)
{
	char *p, *q, *big;
	int fd;
	void *before;

	big = mmap(NULL, 1UL << 40, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	big[1UL << 35] = 7;
	printf("reserved %d, %d %d\n", big != MAP_FAILED, big[1UL << 35], big[(1UL << 35) + 5 * MIB]);
	munmap(big, 1UL << 40);

	p = mmap(NULL, 64 * MIB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	printf("protect %d\n", mprotect(p + MIB, 4 * MIB, PROT_READ | PROT_WRITE));
	memset(p + MIB, 'a', 4 * MIB);
	mprotect(p + MIB, 4 * MIB, PROT_NONE);
	mprotect(p + MIB, 4 * MIB, PROT_READ);
	printf("kept %d\n", all(p + MIB, 4 * MIB, 'a'));
	munmap(p, 64 * MIB);

	p = mmap(NULL, 3 * MIB, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	memset(p, 'b', 3 * MIB);
	q = mremap(p, 3 * MIB, 20 * MIB, MREMAP_MAYMOVE);
	printf("grown %d %d\n", all(q, 3 * MIB, 'b'), all(q + 3 * MIB, 17 * MIB, 0));
	q = mremap(q, 20 * MIB, MIB, 0);
	printf("shrunk %d\n", all(q, MIB, 'b'));
	madvise(q, MIB, MADV_DONTNEED);
	printf("given back %d\n", all(q, MIB, 0));

	printf("not there: %d\n", mprotect((void *)0x12345000, 4096, PROT_READ) == -1 && errno == ENOMEM);
	printf("odd: %d\n", munmap(q + 1, 4096) == -1 && errno == EINVAL);
	p = mmap(q, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0);
	printf("taken: %d\n", p == MAP_FAILED && errno == EEXIST);

	fd = open("/tmp/mapped", O_RDWR | O_CREAT, 0600);
	printf("written %zd\n", write(fd, "hello, map", 10));
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	memcpy(p, "HELLO", 5);
	q = malloc(16);
	printf("shared %zd %.10s\n", pread(fd, q, 10, 0), q);
	p = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	memcpy(p, "jello", 5);
	pread(fd, q, 10, 0);
	printf("private %.10s %.10s\n", p, q);
	unlink("/tmp/mapped");

	before = sbrk(0);
	printf("brk %d\n", brk((char *)before + 8 * MIB) == 0 && all(before, 8 * MIB, 0));
	printf("brk back %d\n", brk(before) == 0 && sbrk(0) == before);
	for (int i = 0; i < 200; i++) {
		p = malloc(MIB);
		memset(p, i, MIB);
		free(p);
	}
	printf("done\n");
	return 0;
}
