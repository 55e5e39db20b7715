/* Files in memory: shared, private, beyond the end, protected, given back. */
#include "case.h"
#include <setjmp.h>
#include <sys/mman.h>

static sigjmp_buf back;
static volatile int signal_number, signal_code;

static void on_fault(int number, siginfo_t *info, void *context)
{
	signal_number = number;
	signal_code = info->si_code;
	siglongjmp(back, 1);
}

/* The signal that an access ends with, as number.code. */
static double fault(volatile char *at, int write)
{
	signal_number = signal_code = 0;
	if (!sigsetjmp(back, 1)) {
		if (write)
			*at = 1;
		else
			(void)*at;
	}
	return signal_number + signal_code / 10.0;
}

int main(void)
{
	struct sigaction action = { .sa_sigaction = on_fault, .sa_flags = SA_SIGINFO };
	unsigned char there[4];
	char *p, *q, text[32] = "";
	int fd = open("file", O_RDWR | O_CREAT, 0600), read_only;

	sigaction(SIGSEGV, &action, NULL);
	sigaction(SIGBUS, &action, NULL);
	for (int i = 0; i < 3; i++)
		write(fd, (char[4096]){ [0 ... 4095] = 'a' + i }, 4096);
	write(fd, "tail", 4);
	read_only = open("file", O_RDONLY);

	KEEP("shared", p, mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0));
	TEXT("bytes", "%c%c%c%s", p[0], p[4096], p[8192], p + 12288);
	p[1] = 'X';
	pread(fd, text, 2, 0);
	TEXT("write shows in the file", "%.2s", text);
	pwrite(fd, "YZ", 2, 4096);
	TEXT("write shows in memory", "%.3s", p + 4096);
	KEEP("second", q, mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 4096));
	p[4098] = '!';
	TEXT("both are one", "%.3s", q);
	CALL("msync", msync(p, 16384, MS_SYNC));
	CALL("msync flags", msync(p, 16384, MS_SYNC | MS_ASYNC));
	CALL("msync of a hole", msync((void *)0x10000, 4096, MS_SYNC));
	TEXT("write to read only", "%.1f", fault(q, 1));
	munmap(q, 4096);
	TEXT("after munmap", "%.1f", fault(q, 0));
	close(fd);
	TEXT("lives without descriptor", "%.2s", p);
	fd = open("file", O_RDWR);

	KEEP("private", q, mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE, read_only, 0));
	q[0] = 'P';
	TEXT("is private", "%c%c", q[0], p[0]);
	p[4099] = '?';
	CALL("protect", mprotect(q, 4096, PROT_READ));
	TEXT("protected", "%.1f", fault(q, 1));
	CALL("no access", mprotect(q, 4096, PROT_NONE));
	TEXT("inaccessible", "%.1f", fault(q, 0));
	mprotect(q, 4096, PROT_READ);
	TEXT("kept", "%c", q[0]);
	CALL("drop", madvise(q, 4096, MADV_DONTNEED));
	TEXT("the file's again", "%c", q[0]);
	munmap(q, 8192);

	CALL("truncate", ftruncate(fd, 4096));
	TEXT("beyond the end", "%.1f", fault(p + 8192, 0));
	TEXT("within", "%.1f", fault(p, 0));
	CALL("grow again", ftruncate(fd, 16384));
	TEXT("zeros now", "%d", p[8192]);
	CALL("unlink", unlink("file"));
	p[5] = '5';
	TEXT("lives without name", "%.1f", fault(p + 5, 1));
	munmap(p, 16384);

	TEXT("shared, read only", "%s", mmap(NULL, 4096, PROT_WRITE, MAP_SHARED, read_only, 0) == MAP_FAILED ? error_text(errno) : "ok");
	TEXT("odd offset", "%s", mmap(NULL, 4096, PROT_READ, MAP_SHARED, fd, 100) == MAP_FAILED ? error_text(errno) : "ok");
	TEXT("no length", "%s", mmap(NULL, 0, PROT_READ, MAP_SHARED, fd, 0) == MAP_FAILED ? error_text(errno) : "ok");
	TEXT("neither shared nor private", "%s", mmap(NULL, 4096, PROT_READ, 0, fd, 0) == MAP_FAILED ? error_text(errno) : "ok");
	TEXT("closed", "%s", mmap(NULL, 4096, PROT_READ, MAP_SHARED, 99, 0) == MAP_FAILED ? error_text(errno) : "ok");
	TEXT("folder", "%s", mmap(NULL, 4096, PROT_READ, MAP_SHARED, open(".", O_RDONLY), 0) == MAP_FAILED ? error_text(errno) : "ok");
	TEXT("odd place", "%s", mmap((void *)0x1001, 4096, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? error_text(errno) : "ok");

	p = mmap(NULL, 16384, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	strcpy(p + 4096, "moved");
	munmap(p + 8192, 4096);
	TEXT("hole", "%.1f", fault(p + 8192, 0));
	TEXT("behind the hole", "%.1f", fault(p + 12288, 1));
	CALL("protect across a hole", mprotect(p, 16384, PROT_READ));
	mprotect(p, 8192, PROT_READ | PROT_WRITE);
	KEEP("move", q, mremap(p + 4096, 4096, 8192, MREMAP_MAYMOVE));
	TEXT("moved", "%s", q);
	CALL("mincore", mincore(q, 4096, there));
	CALL("mincore of a hole", mincore((void *)0x10000, 4096, there));
	CALL("advise nonsense", madvise(q, 4096, 9999));
	CALL("mlock", mlock(q, 4096));
	CALL("munlock", munlock(q, 4096));
	q = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	p = mmap(q, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0);
	HOLDS("fixed", p == q);
	TEXT("growth is refused", "%s", mremap(q, 4096, 8192, 0) == MAP_FAILED ? error_text(errno) : "ok");
	return 0;
}
