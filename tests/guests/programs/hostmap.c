/* Mapped files of a folder of the host, in the working folder; for tests/kvm/test_conformance.py. */
#include "case.h"
#include <sys/mman.h>
#include <sys/stat.h>

#define PAGE 4096

static char bytes[100];

static const char *read_at(int fd, long offset, int n)
{
	ssize_t got = pread(fd, bytes, n, offset);

	bytes[got > 0 ? got : 0] = 0;
	return bytes;
}

int main(void)
{
	int a, b, log;
	char *first, *second, *private;
	struct stat s;

	unlink("mapped");
	a = open("mapped", O_RDWR | O_CREAT, 0600);
	CALL("size", ftruncate(a, 3 * PAGE));
	KEEP("map", first, mmap(NULL, 3 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, a, 0));
	b = open("mapped", O_RDWR);
	KEEP("map again", second, mmap(NULL, 3 * PAGE, PROT_READ, MAP_SHARED, b, 0));
	KEEP("privately", private, mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, b, 0));
	strcpy(first + 10, "by memory");
	strcpy(first + 2 * PAGE, "third page");
	TEXT("seen in the other", "%s", second + 10);
	TEXT("read", "%s", read_at(a, 10, 9));
	TEXT("read by another", "%s", read_at(b, 2 * PAGE, 10));
	CALL("write", pwrite(b, "BY CALL", 7, 10));
	TEXT("seen in memory", "%s", first + 10);
	TEXT("in both", "%s", second + 10);
	strcpy(private + 10, "its own");
	TEXT("kept private", "%s", first + 10);
	strcpy(first + PAGE, "kept");
	CALL("write beside it", pwrite(a, "beside", 6, PAGE + 100));
	TEXT("both there", "%s %s", first + PAGE, second + PAGE + 100);
	CALL("msync", msync(first, 3 * PAGE, MS_SYNC));
	log = open("log", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CALL("of one page", msync(first + PAGE, PAGE, MS_ASYNC));
	CALL("of nothing mapped", msync((void *)0x10000, PAGE, MS_SYNC));

	CALL("longer", ftruncate(b, 5 * PAGE));
	CALL("unmap", munmap(second, 3 * PAGE));
	KEEP("map the rest", second, mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, b, 3 * PAGE));
	strcpy(second + PAGE, "fifth");
	TEXT("read it", "%s", read_at(a, 4 * PAGE, 5));
	CALL("shorter", ftruncate(a, 2 * PAGE + 5));
	TEXT("cut", "%.20s", first + 2 * PAGE);
	CALL("size now", (fstat(b, &s), s.st_size));
	CALL("append", lseek(a, 0, SEEK_END));
	CALL("more", write(a, "!!", 2));
	TEXT("seen", "%.20s", first + 2 * PAGE);
	munmap(second, 2 * PAGE);
	KEEP("made writable", second, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, b, 0));
	CALL("mprotect", mprotect(second, PAGE, PROT_READ | PROT_WRITE));
	strcpy(second + 10, "changed");
	CALL("close", close(b));
	munmap(second, PAGE);
	TEXT("after unmapping", "%s", read_at(a, 10, 7));
	close(b = open("mapped", O_RDONLY));
	b = open("mapped", O_RDONLY);
	CALL("not for writing", (long)mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, b, 0));
	KEEP("for reading", second, mmap(NULL, PAGE, PROT_READ, MAP_SHARED, b, 0));
	TEXT("reads", "%s", second + 10);
	strcpy(first + 20, "at the end");
	CALL("close all", close(a) + close(b) + close(log));
	return 0;
}
